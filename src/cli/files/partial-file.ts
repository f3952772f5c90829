/**
 * The temporary file in which `ringfs get` writes beside the local one, front to back, until it is whole.
 *
 * Its name is made of the volume, the path and the inode, of size and times: whoever finds it goes on with it, and never with another
 * version of the file, with a file of another volume, or with what somebody else has put there.
 *
 * Its length does not tell what of it is on disk: after a power loss, or an error of the disk that nobody heard
 * of, its end may be anything. So no byte behind a multiple of SYNC_BYTES is written before all up to the multiple before that
 * one is on disk, and a get goes on from there (bytesCertain). Holes stay holes: the file is made longer instead, which counts as writing, but
 * all before them is on disk first, for its length may be kept and what was written before it not.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, open, opendir, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { compareTime } from '../../base/clock.js'
import { COMMITTED_MS, MIB, NAME_MAX_BYTES } from '../../base/limits.js'
import type { Attr, TimeSpec } from '../../vfs/contract.js'
import { Checkpoints, bytesCertain } from './checkpoints.js'

/** An interrupted get reads at most twice as much again. */
const SYNC_BYTES = 32 * MIB
const MARK = '.ringfs-get-'
/** A temporary file that was not written to for so long is nobody's. */
const UNUSED_MS = 3_600_000
/** What the temporary file has until it is done: one that cannot be written could not be continued. */
const OWNER_BITS = 0o600

export interface PartialNames {
  readonly partial: string
  /** That with which the names of all versions begin. */
  readonly prefix: string
}

export class PartialFile {
  readonly #path: string
  readonly #file: FileHandle
  /** What it is to be. */
  readonly #attr: Attr
  #offset: number
  readonly #checkpoints: Checkpoints

  private constructor(path: string, file: FileHandle, attr: Attr, offset: number) {
    this.#path = path
    this.#file = file
    this.#attr = attr
    this.#offset = offset
    this.#checkpoints = new Checkpoints(SYNC_BYTES, offset, () => file.datasync())
  }

  /** A new one, or that of an interrupted get, cut to what of it is on disk. */
  static async open(path: string, attr: Attr): Promise<PartialFile> {
    const file = await openOwn(path, (attr.mode & 0o777) | OWNER_BITS)
    try {
      const { size } = await file.stat()
      const offset = size > attr.sizeBytes ? 0 : bytesCertain(size, SYNC_BYTES)
      // What is behind it may be anything, and what becomes a hole is not written.
      if (offset < size) await file.truncate(offset)
      return new PartialFile(path, file, attr, offset)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** So much of it is there. */
  get offset(): number {
    return this.#offset
  }

  async append(data: Buffer): Promise<void> {
    await this.#checkpoints.before(this.#offset + data.length)
    await writeAll(this.#file, data, this.#offset)
    this.#offset += data.length
  }

  async appendHole(end: number): Promise<void> {
    await this.#checkpoints.before(end)
    await this.#checkpoints.end()
    await this.#file.truncate(end)
    this.#offset = end
  }

  /** All is written. Errors: of any flush before. */
  async end(): Promise<void> {
    await this.#checkpoints.end()
  }

  /** Puts it on disk, and under its name. */
  async moveTo(local: string): Promise<void> {
    const { mode, atime, mtime } = this.#attr
    const more = OWNER_BITS & ~mode
    if (more !== 0) await this.#file.chmod((await this.#file.stat()).mode & 0o777 & ~more)
    await this.#file.sync()
    await rename(this.#path, local)
    // Not before: by an old time another get would take it for one that nobody goes on with.
    await this.#file.utimes(secondsOf(atime), secondsOf(mtime))
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true })
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** What interrupted gets have left, by the folders in which it was looked for. */
export class Leftovers {
  readonly #names = new Map<string, Promise<readonly string[]>>()

  /** Those of the file as it was then. Others may run: what was written lately stays. */
  async remove({ partial, prefix }: PartialNames): Promise<void> {
    const folder = dirname(prefix)
    const listing = this.#names.get(folder) ?? listTemporary(folder)
    this.#names.set(folder, listing)
    for (const name of await listing) {
      const path = join(folder, name)
      if (!name.startsWith(basename(prefix)) || name === basename(partial)) continue
      const info = await lstat(path).catch(() => null)
      // One that may not be removed is another user's.
      if (info?.isFile() === true && Date.now() - info.mtimeMs > UNUSED_MS) await rm(path).catch(() => undefined)
    }
  }
}

/**
 * Beside the file: its own name, as much of it as fits, where it comes from, and whatever tells one contents from another. Not the data
 * version: see isChanged().
 */
export function partialNames(volume: string, from: string, attr: Attr, local: string): PartialNames {
  const { ino, sizeBytes } = attr
  const times = [attr.mtime, attr.ctime, attr.btime].flatMap(({ sec, nsec }) => [sec, nsec])
  const version = [ino, sizeBytes, ...times, ...(hasRested(attr) ? [] : [attr.dataVersion])]
  const path = from.split('/').filter((part) => part !== '' && part !== '.')
  const place = `${digest([volume, ...path, basename(local)].join('/')).slice(0, 8)}-`
  const partial = temporaryBeside(local, place + digest([...version, SYNC_BYTES].join(' ')))
  return { partial, prefix: partial.slice(0, partial.lastIndexOf('-') + 1) }
}

/** As much of the file's own name as fits. */
export function temporaryBeside(local: string, id: string): string {
  const end = `${MARK}${id}`
  let shown = basename(local)
  while (Buffer.byteLength(shown) > NAME_MAX_BYTES - end.length) shown = shown.slice(0, -1)
  return join(dirname(local), shown + end)
}

/**
 * Housekeeping makes a version, too, of contents that read the same; who writes changes times. But of what was written together, what is
 * committed later may have the times of what was committed before: until that must be over, each version counts.
 */
export function isChanged(before: Attr, after: Attr): boolean {
  if (after.dataVersion === before.dataVersion) return false
  if (!hasRested(before)) return true
  const isOfThen = compareTime(after.mtime, before.mtime) === 0 && compareTime(after.ctime, before.ctime) === 0
  return !isOfThen || after.sizeBytes !== before.sizeBytes
}

/** All that was written of it is committed. */
function hasRested({ mtime, ctime }: Attr): boolean {
  return Date.now() - Math.max(mtime.sec, ctime.sec) * 1000 > COMMITTED_MS
}

async function openOwn(path: string, mode: number): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_NOFOLLOW
  const file = await open(path, flags).catch(() => null)
  if (file !== null) {
    if (await isOwn(path, file)) return file
    await file.close()
  }
  await rm(path, { force: true })
  return await open(path, flags | constants.O_CREAT | constants.O_EXCL, mode)
}

/** Nobody else can have put it there: it is ours, or the folder is nobody else's. Some file systems know only one owner. */
async function isOwn(path: string, file: FileHandle): Promise<boolean> {
  const info = await file.stat()
  if (!info.isFile() || info.nlink !== 1) return false
  return info.uid === process.geteuid?.() || ((await stat(dirname(path))).mode & 0o022) === 0
}

/** A full disk shows as a short write first and as ENOSPC at the next. */
async function writeAll(file: FileHandle, data: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < data.length;) {
    at += (await file.write(data, at, data.length - at, offset + at)).bytesWritten
  }
}

/** Temporary names in a folder; none in one that may not be read. */
async function listTemporary(folder: string): Promise<readonly string[]> {
  const found: string[] = []
  try {
    for await (const { name } of await opendir(folder)) if (name.includes(MARK)) found.push(name)
  } catch {
    // Only room is lost.
  }
  return found
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

/** As Node takes any time: a number below 0 it takes for now. */
function secondsOf({ sec, nsec }: TimeSpec): string {
  return String(sec + nsec / 1e9)
}
