/**
 * The append-only file of a redis-server on this machine, put on disk when somebody asks for it.
 *
 * Redis 7.0 can only sync at each write (slow for everybody), every second, or never, and cannot be asked to. So a private
 * Redis runs with `appendfsync no`, and ringfs syncs its file: every second, and before an fsync is answered. With
 * `everysec` this would not do: while its own sync is under way, Redis replies before it has written to the file.
 *
 * Invariant: with `appendfsync no` Redis writes to the file before it replies (beforeSleep in server.c), and names a new
 * file in the manifest before it writes to it. So what was acknowledged before sync() is called lies in the files that the
 * manifest names then, and is on disk when it resolves. A file that is gone by then was replaced by a base file that Redis
 * had synced.
 */
import { fdatasyncSync, fstatSync, statSync } from 'node:fs'
import { open, readdir, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemClock } from '../base/clock.js'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import { InlineGate } from '../base/inline-gate.js'
import { MIB } from '../base/limits.js'
import { readFiles } from './private-redis-files.js'
import { isOurs } from './private-redis-process.js'

/** Redis's defaults: appenddirname, and how the files that grow are named. */
const FOLDER = 'appendonlydir'
const MANIFEST = 'appendonly.aof.manifest'
const GROWING = /\.incr\.aof$/

/** What LocalAof needs of the file system. */
export interface AofDisk {
  /** Changes whenever the file is replaced. */
  version(path: string): Promise<string>
  list(folder: string): Promise<readonly string[]>
  open(path: string): Promise<AofFile>
}

export interface AofFile {
  stat(): Promise<{ readonly size: number }>
  datasync(): Promise<void>
  close(): Promise<void>
}

/** The file has hardly grown since the last flush: flushing it is a matter of a tenth of a millisecond on a quick disk. */
const INLINE_MAX_BYTES = MIB

/**
 * The system's own. What is known to be quick is done on this thread: asking for the version of a file that is in memory, and,
 * while the disk is quick, the flush of what little was written since the last one. A thread of libuv would cost two
 * wake-ups, each as long as that.
 */
class RealDisk implements AofDisk {
  readonly #gate = new InlineGate(systemClock, INLINE_MAX_BYTES)

  version(path: string): Promise<string> {
    return new Promise((resolve) => {
      const { ino, size, mtimeNs } = statSync(path, { bigint: true })
      resolve(`${ino} ${size} ${mtimeNs}`)
    })
  }

  list(folder: string): Promise<readonly string[]> {
    return readdir(folder)
  }

  async open(path: string): Promise<AofFile> {
    const file = await open(path, 'r')
    return new RealFile(file, this.#gate)
  }
}

class RealFile implements AofFile {
  readonly #file: FileHandle
  readonly #gate: InlineGate
  /** Of the last flush. */
  #size = 0

  constructor(file: FileHandle, gate: InlineGate) {
    this.#file = file
    this.#gate = gate
  }

  stat(): Promise<{ readonly size: number }> {
    return Promise.resolve(fstatSync(this.#file.fd))
  }

  async datasync(): Promise<void> {
    const { size } = fstatSync(this.#file.fd)
    const grown = size - this.#size
    if (grown >= 0 && this.#gate.allows(grown)) this.#gate.run(() => fdatasyncSync(this.#file.fd))
    else await this.#file.datasync()
    this.#size = size
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/**
 * The folder of a private Redis on this machine; undefined for any other, which syncs as its own configuration says. `info`: its
 * INFO. A folder that this user may not read counts as another's.
 */
export async function findLocalFolder(info: ReadonlyMap<string, string>): Promise<string | undefined> {
  const config = info.get('config_file') ?? ''
  if (config === '' || !(await isOurs(Number(info.get('process_id')), dirname(config)))) return undefined
  const folder = dirname(config)
  const state = await readFiles(folder).catch(() => undefined)
  return state === undefined ? undefined : folder
}

export class LocalAof {
  readonly #folder: string
  readonly #disk: AofDisk
  #files: AofFile[] = []
  #names: readonly string[] = []
  #manifest = ''
  #syncedBytes = 0
  /**
   * Files of a sync that failed: that is told once by the kernel, and what was lost then is lost. Nothing is promised again before they are all
   * gone. A rewrite that has only begun names them still: without them what is written behind them is worth nothing.
   */
  #failed: readonly string[] = []
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  /** `folder`: the working folder of the server. */
  constructor(folder: string, disk: AofDisk = new RealDisk()) {
    this.#folder = join(folder, FOLDER)
    this.#disk = disk
  }

  /** Resolves when all that the server has acknowledged is on disk; many at once share one. Errors: METADATA_NOT_SYNCED. */
  sync(): Promise<void> {
    this.#next ??= this.#syncNext()
    return this.#next
  }

  /**
   * The sync under way may have begun before what the caller waits for was written. Whoever asks before this one begins takes
   * part in it: at least everyone whose replies of Redis were read at once.
   */
  async #syncNext(): Promise<void> {
    if (this.#running === undefined) await new Promise<void>((resolve) => process.nextTick(resolve))
    while (this.#running !== undefined) await this.#running.catch(ignored)
    this.#next = undefined
    await this.#run(() => this.#syncNow())
  }

  /** As sync, if anything was written since the last time and none is under way. */
  async syncGrown(): Promise<void> {
    await (this.#running ?? this.#run(() => this.#syncIfGrown()))
  }

  async close(): Promise<void> {
    await this.#next?.catch(ignored)
    await this.#running?.catch(ignored)
    await this.#closeFiles()
  }

  #run(work: () => Promise<void>): Promise<void> {
    this.#running = work()
      .catch(notSynced)
      .finally(() => (this.#running = undefined))
    return this.#running
  }

  async #syncNow(): Promise<void> {
    await this.#refresh()
    await this.#syncFiles()
  }

  async #syncIfGrown(): Promise<void> {
    await this.#refresh()
    const bytes = await this.#bytes()
    if (bytes === this.#syncedBytes) return
    await this.#syncFiles()
    this.#syncedBytes = bytes
  }

  async #syncFiles(): Promise<void> {
    if (this.#failed.length > 0)
      throw new Error('an earlier sync of it has failed; a rewrite (BGREWRITEAOF) makes it whole')
    try {
      await Promise.all(this.#files.map((file) => file.datasync()))
    } catch (error) {
      this.#failed = this.#names
      throw error
    }
  }

  async #bytes(): Promise<number> {
    const sizes = await Promise.all(this.#files.map((file) => file.stat()))
    return sizes.reduce((sum, { size }) => sum + size, 0)
  }

  /** Opens the files anew when the manifest is another: Redis replaces it, never changes it. */
  async #refresh(): Promise<void> {
    const manifest = await this.#disk.version(join(this.#folder, MANIFEST))
    if (manifest === this.#manifest && this.#failed.length === 0) return
    await this.#closeFiles()
    const names = (await this.#disk.list(this.#folder)).filter((name) => GROWING.test(name))
    const opened = await Promise.all(names.map((name) => this.#disk.open(join(this.#folder, name)).catch(ignoreGone)))
    this.#files = opened.filter((file) => file !== undefined)
    this.#names = names.filter((_, index) => opened[index] !== undefined)
    this.#manifest = manifest
    this.#syncedBytes = -1
    this.#failed = this.#failed.filter((name) => this.#names.includes(name))
  }

  async #closeFiles(): Promise<void> {
    this.#manifest = ''
    await Promise.all(this.#files.splice(0).map((file) => file.close()))
  }
}

function ignored(): void {
  // Whoever asked for it is told.
}

function ignoreGone(error: unknown): undefined {
  if (codeOf(error) === 'ENOENT') return undefined
  throw error
}

function notSynced(error: unknown): never {
  throw new RingfsError('METADATA_NOT_SYNCED', `the append-only file of Redis is not on disk: ${messageOf(error)}`, {
    cause: error,
  })
}
