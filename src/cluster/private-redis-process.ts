/** The process of a private redis-server: finding out whether it runs and is ours, and ending it. */
import type { ChildProcess } from 'node:child_process'
import { readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError } from '../base/errors.js'
import type { RedisArg, RedisValue } from './contract.js'
import { readCredentials } from './credentials.js'
import { LOG_FILE, PID_FILE, type RedisFiles } from './private-redis-files.js'
import { parseInfo } from './redis-check.js'
import { LinkLostError } from './redis-errors.js'
import { RedisLink } from './redis-link.js'
import { parseSlots } from './redis-topology.js'
import { arrayOf, textOf } from './reply.js'
import { SLOTS } from './slot.js'
import { formatHost, type MetaUrl } from './url.js'

const PROBE_TIMEOUT_MS = 2_000
const POLL_MS = 25
/** SHUTDOWN writes and syncs the append-only file first. */
const SHUTDOWN_WAIT_MS = 20_000
const SIGTERM_WAIT_MS = 5_000
const SIGKILL_WAIT_MS = 5_000

export function urlOf(files: RedisFiles, volume: string): MetaUrl {
  const { port, password, member } = files
  const tls = member?.tls === undefined ? {} : { tls: { caFile: member.tls.certFile } }
  return { hosts: [{ host: '127.0.0.1', port }], password, volume, ...tls }
}

export interface Process {
  readonly files: RedisFiles
  readonly pid: number
  readonly isAdopted: boolean
  /** Only of one that this process started. */
  readonly child: ChildProcess | undefined
}

/** One connection to one server, for a question or two. */
export function linkTo(files: RedisFiles): RedisLink {
  return new RedisLink(formatHost({ host: '127.0.0.1', port: files.port }), {
    clock: systemClock,
    credentials: () => readCredentials(urlOf(files, 'any')),
    connectTimeoutMs: PROBE_TIMEOUT_MS,
    replyTimeoutMs: PROBE_TIMEOUT_MS,
    protocol: 2,
  })
}

/** Errors: those of the connection and of Redis. */
export async function askOnce(files: RedisFiles, command: string, args: readonly RedisArg[]): Promise<RedisValue> {
  const link = linkTo(files)
  try {
    await link.connect()
    return await link.send(command, args)
  } finally {
    link.abort()
  }
}

/** INFO of our server, or undefined when none answers there, or one that knows neither our password nor our folder. */
export async function probe(files: RedisFiles): Promise<ReadonlyMap<string, string> | undefined> {
  const link = linkTo(files)
  try {
    await link.connect()
    const [, dir] = arrayOf(await link.send('CONFIG', ['GET', 'dir']), 'CONFIG')
    if (textOf(dir, 'CONFIG') !== files.folder) return undefined
    return parseInfo(textOf(await link.send('INFO', []), 'INFO'))
  } catch {
    return undefined
  } finally {
    link.abort()
  }
}

/** The process that works in the folder, answering or not. */
export async function pidOf(files: RedisFiles): Promise<number | undefined> {
  const info = await probe(files)
  if (info !== undefined) return Number(info.get('process_id'))
  const text = await readFile(join(files.folder, PID_FILE), 'utf8').catch(() => '')
  const pid = Number(text.trim())
  return pid > 1 && (await isOurs(pid, files.folder)) ? pid : undefined
}

/**
 * Whether this pid is a redis-server that works in the folder: pids are used again, so a pid file alone proves nothing.
 * Redis makes its `dir` the working folder. Where there is no /proc, only one that answers (probe) is believed.
 */
export async function isOurs(pid: number, folder: string): Promise<boolean> {
  try {
    const [cwd, command] = await Promise.all([readlink(`/proc/${pid}/cwd`), readFile(`/proc/${pid}/comm`, 'utf8')])
    return cwd === folder && command.startsWith('redis')
  } catch {
    return false
  }
}

export async function logTail(folder: string): Promise<string> {
  const text = await readFile(join(folder, LOG_FILE), 'utf8').catch(() => '')
  return text.slice(-2_000)
}

/**
 * Takes all slots that have no owner: every one at the first start, none later. Answers whether the server accepts writes
 * now: a master in cluster mode waits 2 s after its start before it does (CLUSTER_WRITABLE_DELAY in Redis's cluster.c).
 */
export async function takeSlots(files: RedisFiles): Promise<boolean> {
  const link = linkTo(files)
  try {
    await link.connect()
    const { ranges } = parseSlots(await link.send('CLUSTER', ['SLOTS']), link.address)
    const sorted = [...ranges].sort((a, b) => a.first - b.first)
    let next = 0
    for (const { first, last } of [...sorted, { first: SLOTS, last: SLOTS }]) {
      if (first > next) await link.send('CLUSTER', ['ADDSLOTSRANGE', next, first - 1])
      next = last + 1
    }
    const info = parseInfo(textOf(await link.send('CLUSTER', ['INFO']), 'CLUSTER INFO'))
    return info.get('cluster_state') === 'ok'
  } finally {
    link.abort()
  }
}

export async function isRunning({ pid, child, files }: Process): Promise<boolean> {
  if (child !== undefined) return child.exitCode === null && child.signalCode === null
  if (await isOurs(pid, files.folder)) return true
  return process.platform !== 'linux' && (await probe(files)) !== undefined
}

/** Waits; false when it still runs after so long. */
async function hasEnded(server: Process, waitMs: number, clock: Clock): Promise<boolean> {
  const deadline = clock.monotonicMs() + waitMs
  while (await isRunning(server)) {
    if (clock.monotonicMs() > deadline) return false
    await clock.sleep(POLL_MS)
  }
  return true
}

/** Politely, then less so. A signal goes only to a pid that was seen to be ours just before. */
export async function endProcess(server: Process, clock: Clock): Promise<void> {
  if (!(await isRunning(server))) return
  if ((await shutdown(server.files)) && (await hasEnded(server, SHUTDOWN_WAIT_MS, clock))) return
  for (const [signal, waitMs] of [['SIGTERM', SIGTERM_WAIT_MS] as const, ['SIGKILL', SIGKILL_WAIT_MS] as const]) {
    process.kill(server.pid, signal)
    if (await hasEnded(server, waitMs, clock)) return
  }
  throw new RingfsError('INTERNAL', `redis-server with pid ${server.pid} cannot be ended`)
}

/** No reply is the good reply: the connection ends. Answers whether the command was sent. */
async function shutdown(files: RedisFiles): Promise<boolean> {
  const link = linkTo(files)
  try {
    await link.connect()
    await link.send('SHUTDOWN', []).catch((error: unknown) => {
      if (!(error instanceof LinkLostError)) throw error
    })
    return true
  } catch {
    return false
  } finally {
    link.abort()
  }
}
