/**
 * The redis-server that `ringfs up` has to itself: in cluster mode with all slots, on loopback, with a password of its
 * own and an append-only file in its folder.
 *
 * It outlives a crash of `up` (which then loses nothing that was acknowledged), and is found and adopted by the next one:
 * what listens on the remembered port, knows the password and works in the same folder is ours.
 *
 * Invariant: at most one redis-server works in a folder. Here that is the lock (lockFolder) held from before the search
 * until after the stop; below it Redis itself refuses a nodes.conf that another server has locked.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { atUsualPriority, calmChildren, setNice } from '../base/priority.js'
import { LocalAof } from './aof.js'
import { lockFolder, type FolderLock } from '../base/folder-lock.js'
import {
  CONFIG_FILE,
  LOG_FILE,
  openFiles,
  prepareStart,
  readFiles,
  type FixedServer,
  type RedisFiles,
} from './private-redis-files.js'
import {
  askOnce,
  endProcess,
  isRunning,
  logTail,
  pidOf,
  probe,
  takeSlots,
  urlOf,
  type Process,
} from './private-redis-process.js'
import { RedisRoom } from './private-redis-room.js'
import type { MetaUrl } from './url.js'

export interface PrivateRedisOptions {
  /** Its own folder, made if it is missing. */
  readonly folder: string
  readonly log: Log
  readonly clock?: Clock
  /** 0 to 1; chooses ports. */
  readonly random?: () => number
  /** Default 'redis-server', found by PATH. */
  readonly binary?: string
  /** Gives up after so long without progress; loading data is progress. Default 30,000. */
  readonly readyTimeoutMs?: number
  /** For people: 'loading 40 %'. */
  readonly onProgress?: (text: string) => void
  /** Its nice value, if it may have that; what it forks (a rewrite of its file) has the usual one. Default: as it was started. */
  readonly nice?: number | undefined
  /** One server of a cluster (redis-cluster.ts): it has the slots that it is given there, and fixed ports. */
  readonly fixed?: FixedServer
}

export interface PrivateRedis {
  readonly port: number
  readonly pid: number
  /** It was left behind by an `up` that crashed. */
  readonly isAdopted: boolean
  url(volume: string): MetaUrl
  /** Resolves when it ends without having been told to. */
  readonly ended: Promise<void>
  /** Resolves when the process has ended and everything is in the append-only file. */
  stop(): Promise<void>
}

export interface FoundRedis {
  readonly port: number
  readonly pid: number
  url(volume: string): MetaUrl
}

const LOCK = 'redis'
const READY_TIMEOUT_MS = 30_000
const POLL_MS = 25
const START_ATTEMPTS = 3
/** What a power cut may take of what nobody has fsynced. */
const SYNC_EVERY_MS = 1_000

/**
 * Starts it, or adopts the one that runs in the folder. Errors: ALREADY_RUNNING (another process has it), PACKAGE_MISSING,
 * REDIS_UNREACHABLE (it did not become ready; the message has the end of its log), LISTEN_FAILED.
 */
export async function startPrivateRedis(options: PrivateRedisOptions): Promise<PrivateRedis> {
  const random = options.random ?? Math.random
  const files = await openFiles(options.folder, random, options.fixed)
  const lock = await lockFolder(files.folder, LOCK)
  try {
    const starter = new Starter(options, random)
    const left = await starter.adopt(files)
    return new Running(left ?? (await starter.start(files)), options, lock)
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** The server that runs for a folder, whoever started it; undefined when none answers. Starts nothing, locks nothing. */
export async function findPrivateRedis(folder: string): Promise<FoundRedis | undefined> {
  const files = await readFiles(folder)
  const info = files === undefined ? undefined : await probe(files)
  if (files === undefined || info === undefined) return undefined
  return { port: files.port, pid: Number(info.get('process_id')), url: (volume) => urlOf(files, volume) }
}

/** Ends a server that was left behind. Answers whether there was one. Errors: ALREADY_RUNNING while its `up` lives. */
export async function stopLeftPrivateRedis(options: PrivateRedisOptions): Promise<boolean> {
  const files = await readFiles(options.folder).catch((error: unknown) => {
    options.log.warn({ err: messageOf(error) }, 'private Redis not looked for')
    return undefined
  })
  if (files === undefined) return false
  const lock = await lockFolder(files.folder, LOCK)
  const pid = await pidOf(files)
  if (pid === undefined) await lock.release()
  else await new Running({ files, pid, isAdopted: true, child: undefined }, options, lock).stop()
  return pid !== undefined
}

class Starter {
  readonly #options: PrivateRedisOptions
  readonly #clock: Clock
  readonly #random: () => number

  constructor(options: PrivateRedisOptions, random: () => number) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = random
  }

  /** The one left behind by a crash, made ready; one that does not answer is ended, and undefined is answered. */
  async adopt(files: RedisFiles): Promise<Process | undefined> {
    const pid = await pidOf(files)
    if (pid === undefined) return undefined
    this.#options.log.info({ pid, folder: files.folder }, 'found a private Redis that was left running')
    const left = { files, pid, isAdopted: true, child: undefined }
    try {
      await this.#ready(left)
      return left
    } catch (error) {
      this.#options.log.warn({ pid, err: messageOf(error) }, 'it cannot be used: ending it')
      await endProcess(left, this.#clock)
      return undefined
    }
  }

  async start(files: RedisFiles): Promise<Process> {
    for (let attempt = 1; ; attempt++) {
      const started = await this.#launch(await prepareStart(files, this.#random))
      try {
        await this.#ready(started)
        return started
      } catch (error) {
        await endProcess(started, this.#clock)
        // Somebody may have taken the port after it was found free.
        const isPort = (await logTail(files.folder)).includes('Address already in use')
        if (!isPort || attempt === START_ATTEMPTS) throw error
      }
    }
  }

  /** In a session of its own: Ctrl-C in the terminal must reach `up` alone, which still needs Redis to flush. */
  async #launch(files: RedisFiles): Promise<Process> {
    const binary = this.#options.binary ?? 'redis-server'
    const how = { stdio: 'ignore', detached: true, cwd: files.folder } as const
    const child = atUsualPriority(() => spawn(binary, [join(files.folder, CONFIG_FILE)], how))
    const failure = await new Promise<Error | undefined>((resolve) => {
      child.once('spawn', () => resolve(undefined))
      child.once('error', resolve)
    })
    child.unref()
    if (failure === undefined && child.pid !== undefined) return { files, pid: child.pid, isAdopted: false, child }
    if (failure !== undefined && 'code' in failure && failure.code === 'ENOENT') throw missing(binary)
    throw new RingfsError('REDIS_UNREACHABLE', `${binary} cannot be started: ${messageOf(failure)}`)
  }

  /** Answers, has loaded its data, and (if it is alone) owns all slots. */
  async #ready(started: Process): Promise<void> {
    const timeoutMs = this.#options.readyTimeoutMs ?? READY_TIMEOUT_MS
    let deadline = this.#clock.monotonicMs() + timeoutMs
    let last = 'silent'
    for (;;) {
      const state = await this.#step(started)
      if (state === 'ready') return
      if (state !== 'silent' && state !== last) {
        last = state
        deadline = this.#clock.monotonicMs() + timeoutMs
        if (state !== 'starting') this.#options.onProgress?.(`Redis is loading its data: ${state} %`)
      }
      const hasEnded = !(await isRunning(started))
      if (hasEnded || this.#clock.monotonicMs() > deadline) throw await this.#notReady(started.files, hasEnded)
      await this.#clock.sleep(POLL_MS)
    }
  }

  /** 'ready', 'silent', 'starting' (it answers, but takes no writes yet), or how many per cent of the data are loaded. */
  async #step(started: Process): Promise<string> {
    const info = await probe(started.files)
    if (info === undefined) return 'silent'
    if (info.get('loading') === '1') return info.get('loading_loaded_perc') ?? '0'
    if (started.files.member !== undefined) return 'ready'
    return (await takeSlots(started.files)) ? 'ready' : 'starting'
  }

  async #notReady(files: RedisFiles, hasEnded: boolean): Promise<RingfsError> {
    const what = hasEnded ? 'ended at once' : 'does not answer'
    const tail = await logTail(files.folder)
    const last = tail.trimEnd().split('\n').at(-1) ?? ''
    return new RingfsError(
      'REDIS_UNREACHABLE',
      `the private redis-server in ${files.folder} ${what}; see ${join(files.folder, LOG_FILE)}: ${last}`,
    )
  }
}

function missing(binary: string): RingfsError {
  return new RingfsError(
    'PACKAGE_MISSING',
    `${binary} is not installed; install it with: apt-get install -y redis-server (as root, or with sudo)`,
  )
}

class Running implements PrivateRedis {
  readonly pid: number
  readonly isAdopted: boolean
  readonly ended: Promise<void>
  readonly #server: Process
  readonly #clock: Clock
  readonly #lock: FolderLock
  readonly #log: Log
  readonly #aof: LocalAof
  readonly #room: RedisRoom
  readonly #nice: number | undefined
  readonly #syncing: NodeJS.Timeout
  #stopping: Promise<void> | undefined

  constructor(server: Process, options: PrivateRedisOptions, lock: FolderLock) {
    this.#server = server
    this.#clock = options.clock ?? systemClock
    this.#lock = lock
    this.#log = options.log
    this.#aof = new LocalAof(server.files.folder)
    this.#room = new RedisRoom({
      folder: server.files.folder,
      ask: (command, args) => askOnce(server.files, command, args),
      clock: this.#clock,
      log: this.#log,
    })
    this.#nice = options.nice
    if (options.nice !== undefined) setNice(server.pid, options.nice, { group: true })
    this.#syncing = setInterval(() => void this.#everySecond(), SYNC_EVERY_MS).unref()
    this.pid = server.pid
    this.isAdopted = server.isAdopted
    this.ended = this.#watch()
  }

  get port(): number {
    return this.#server.files.port
  }

  url(volume: string): MetaUrl {
    return urlOf(this.#server.files, volume)
  }

  /** A child tells when it ends; an adopted one must be looked at. */
  #watch(): Promise<void> {
    const { child } = this.#server
    return new Promise((resolve) => {
      const ended = (): void => {
        if (this.#stopping === undefined) resolve()
      }
      if (child !== undefined) {
        child.once('exit', ended)
        return
      }
      const timer = setInterval(() => {
        void isRunning(this.#server).then((runs) => {
          if (runs && this.#stopping === undefined) return
          clearInterval(timer)
          ended()
        })
      }, 1_000).unref()
    })
  }

  async #everySecond(): Promise<void> {
    if (this.#nice !== undefined) calmChildren(this.pid)
    try {
      await this.#aof.syncGrown()
    } catch (error) {
      if (this.#stopping === undefined) this.#log.error({ err: messageOf(error) }, 'metadata is not on disk')
    }
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** Redis syncs its file when it ends. */
  async #stop(): Promise<void> {
    clearInterval(this.#syncing)
    try {
      await this.#room.close()
      await this.#aof.close()
      await endProcess(this.#server, this.#clock)
    } finally {
      await this.#lock.release()
    }
  }
}
