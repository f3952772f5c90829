/**
 * `ringfs get`: files of the volume to local ones.
 *
 * Invariants. A local file gets its name only when it is whole and on disk: it is written beside it under a temporary name
 * made of the volume, the inode, its size and times, front to back, and renamed. So an interrupted get is continued, and never
 * with another version of the file, with a file of another volume, or with what somebody else has put there. A file that changes
 * in the volume meanwhile is an error, not a mixture.
 *
 * The length of a temporary file does not tell what of it is on disk: after a power loss, or an error of the disk that nobody heard
 * of, its end may be anything. So no byte behind a multiple of SYNC_BYTES is written before all up to the multiple before that
 * one is on disk, and a get goes on from there: onDisk(). Holes stay holes: the file is made longer instead, which counts as writing, but all
 * before them is on disk first, for its length may be kept and what was written before it not.
 */
import { createHash, randomBytes } from 'node:crypto'
import { constants, type Stats } from 'node:fs'
import { lstat, open, opendir, readlink, rename, rm, stat, symlink, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Command } from 'commander'
import { compareTime } from '../../base/clock.js'
import { PosixError, isErrno } from '../../base/errno.js'
import { RingfsError } from '../../base/errors.js'
import { COMMITTED_MS, MIB, NAME_MAX_BYTES } from '../../base/limits.js'
import type { Attr, TimeSpec } from '../../vfs/contract.js'
import { SEEK_DATA } from '../../vfs/flags.js'
import type { CliContext } from '../context.js'
import { Checkpoints } from './checkpoints.js'
import { LocalFolders } from './local-folders.js'
import { Names } from './names.js'
import { ALL_BEFORE, each } from './parallel.js'
import type { Progress, FileProgress } from './progress.js'
import { named, textOf, type Session } from './session.js'
import { PIECE_BYTES, transferCommand, type Transfer, type TransferOptions } from './transfer.js'

/** A multiple of PIECE_BYTES. An interrupted get reads at most twice as much again. */
const SYNC_BYTES = 32 * MIB
const MARK = '.ringfs-get-'
/** A temporary file that was not written to for so long is nobody's. */
const UNUSED_MS = 3_600_000
/** What the temporary file has until it is done: one that cannot be written could not be continued. */
const OWNER_BITS = 0o600

export function register(program: Command, context: CliContext): void {
  const begin = (session: Session, options: TransferOptions, progress: Progress): Download =>
    new Download(session, options, progress)
  transferCommand(program.command('get'), context, 'got', begin)
    .summary('copy files of a volume to local ones')
    .description(
      'Copies files of a volume to local ones. Run it again after an interruption, and it goes on where it stopped.',
    )
    .usage('[options] <from...> <to>')
    .argument('<paths...>', 'paths in the volume, and then local path: a directory, or a new name for one file')
    .addHelpText('after', '\nExamples:\n  $ ringfs get /photos/cat.jpg .\n  $ ringfs get -r /backup/photos ~/restored')
}

interface Job {
  readonly attr: Attr
  /** In the volume. */
  readonly from: string
  readonly local: string
  /** What this run has copied before. */
  readonly replaces: boolean
}

class Download implements Transfer {
  readonly #session: Session
  readonly #options: TransferOptions
  readonly #progress: Progress
  readonly #folders = new LocalFolders()
  /** Temporary names that were in local folders. */
  readonly #left = new Map<string, Promise<readonly string[]>>()

  constructor(session: Session, options: TransferOptions, progress: Progress) {
    this.#session = session
    this.#options = options
    this.#progress = progress
  }

  async run(from: readonly string[], to: string): Promise<void> {
    await each(this.#jobs(from, to), this.#options.parallel, (job) => this.#get(job))
    await this.#folders.complete()
  }

  async *#jobs(from: readonly string[], to: string): AsyncGenerator<Job | typeof ALL_BEFORE> {
    const isFolder = await isDirectory(to)
    if (!isFolder && (from.length > 1 || to.endsWith('/')))
      throw new RingfsError('USAGE', `${to} is not a directory here`)
    // Also where a link leads to it, as /dev/stdout does.
    await checkNoDevice(to, stat(to))
    const names = isFolder && from.length > 1 ? new Names<number>(this.#progress) : null
    for (const path of from) {
      const attr = await this.#session.stat(path, 'always')
      const name = path.split('/').findLast((part) => part !== '') ?? ''
      if (isFolder && name === '..') throw new PosixError('EINVAL', `${path}: has no name: give the path without ..`)
      // What is in the root, or in a path with /. at its end, comes into the folder itself.
      const isSpread = name === '' || name === '.'
      const local = isFolder ? join(to, name) : to
      const before = isSpread ? [] : take(names, name, path, attr)
      if (before === null) continue
      if (before.length > 0) yield ALL_BEFORE
      if (attr.type !== 'directory') yield { attr, from: path, local, replaces: false }
      else if (this.#options.recursive !== true)
        throw new PosixError('EISDIR', `${path}: is a directory (copy it with -r)`)
      else {
        if (local !== to) await checkNoLink(local)
        await this.#top(attr, local, isFolder && isSpread)
        yield* this.#folder(attr, path, local, before, isSpread ? names : null)
      }
    }
  }

  /** `isGiven`: it is that which the caller has named, and stays as it is. */
  async #top(folder: Attr, local: string, isGiven: boolean): Promise<void> {
    if (!isGiven) await this.#folders.make(local, folder.mode)
  }

  /** `before`: folders that have become the same one. */
  async *#folder(
    folder: Attr,
    from: string,
    local: string,
    before: readonly number[],
    names: Names<number> | null = null,
  ): AsyncGenerator<Job | typeof ALL_BEFORE> {
    for await (const entry of this.#session.entries(folder.ino, true)) {
      const name = textOf(entry.name)
      const path = join(local, name)
      if (!Buffer.from(name).equals(entry.name)) {
        this.#progress.totals.skipped.push(`${path}: its name is not UTF-8; copy it through a mount`)
        continue
      }
      const attr = await this.#session.attrOf(folder.ino, entry)
      if (attr === null) continue
      const taken = take(names, name, path, attr)
      if (taken === null) continue
      if (taken.length > 0) yield ALL_BEFORE
      const others = await this.#named(before, entry.name)
      const replaces = others.some(({ type }) => type === 'file' || type === 'symlink')
      if (attr.type === 'directory') {
        await checkNoLink(path)
        const folders = others.filter(({ type }) => type === 'directory').map(({ ino }) => ino)
        await this.#folders.make(path, attr.mode)
        yield* this.#folder(attr, `${from}/${name}`, path, [...taken, ...folders])
      } else if (attr.type === 'symlink') await this.#symlink(attr, path, replaces)
      else yield { attr, from: `${from}/${name}`, local: path, replaces }
    }
  }

  /** What has the name in these. */
  async #named(folders: readonly number[], name: Buffer): Promise<readonly Attr[]> {
    const found: Attr[] = []
    for (const folder of folders) {
      const attr = await this.#session.lookupOrNull(folder, name)
      if (attr !== null) found.push(attr)
    }
    return found
  }

  async #symlink(attr: Attr, local: string, replaces: boolean): Promise<void> {
    const target = await this.#session.vfs.readlink(this.#session.caller, attr.ino)
    const known = await lstat(local).catch(() => null)
    if (known?.isDirectory() === true) throw new PosixError('EISDIR', `${local}: a directory is in the way`)
    await checkNoDevice(local, lstat(local))
    if (known === null) await symlink(target, local)
    else if (known.isSymbolicLink() && target.equals(await readlink(local, 'buffer'))) {
      this.#progress.totals.unchanged++
      return
    } else await replaceBySymlink(local, target)
    this.#progress.copied(replaces)
  }

  async #get(job: Job): Promise<void> {
    const { attr, local } = job
    if (attr.type !== 'file') {
      this.#progress.totals.skipped.push(`${local}: neither a file nor a directory nor a symbolic link`)
      return
    }
    await checkNoDevice(local, lstat(local))
    await named(local, this.#getFile(job))
  }

  async #getFile({ attr, from, local, replaces }: Job): Promise<void> {
    if (await isSame(attr, local)) {
      this.#progress.totals.unchanged++
      return
    }
    const bar = this.#progress.file(local, attr.sizeBytes)
    try {
      await this.#receive(attr, from, local, bar)
      this.#progress.copied(replaces)
    } finally {
      bar.done()
    }
  }

  async #receive(found: Attr, from: string, local: string, bar: FileProgress): Promise<void> {
    const { vfs, caller } = this.#session
    const { attr, handle } = await vfs.open(caller, found.ino, 0)
    const { partial, prefix } = temporaryNames(this.#session.volume, from, attr, local)
    if (this.#options.recursive !== true) await this.#removeOld(prefix, partial)
    const file = await openPartial(partial, (attr.mode & 0o777) | OWNER_BITS)
    try {
      await this.#read(handle, file, attr, bar)
      const after = await vfs.getattr(caller, attr.ino)
      if (isChanged(attr, after)) {
        await rm(partial, { force: true })
        throw new RingfsError('USAGE', `${local}: the file was changed while it was copied: run it again`)
      }
      const more = OWNER_BITS & ~attr.mode
      if (more !== 0) await file.chmod((await file.stat()).mode & 0o777 & ~more)
      await file.sync()
      await rename(partial, local)
      // Not before: by an old time another get would take it for one that nobody goes on with.
      await file.utimes(secondsOf(attr.atime), secondsOf(attr.mtime))
    } finally {
      await file.close()
      await vfs.release(handle)
    }
  }

  /** What interrupted ones have left of the file as it was then. Others may run: what was written lately stays. */
  async #removeOld(prefix: string, partial: string): Promise<void> {
    const folder = dirname(prefix)
    const listing = this.#left.get(folder) ?? listTemporary(folder)
    this.#left.set(folder, listing)
    for (const name of await listing) {
      const path = join(folder, name)
      if (!name.startsWith(basename(prefix)) || name === basename(partial)) continue
      const info = await lstat(path).catch(() => null)
      // One that may not be removed is another user's.
      if (info?.isFile() === true && Date.now() - info.mtimeMs > UNUSED_MS) await rm(path).catch(() => undefined)
    }
  }

  async #read(handle: number, file: FileHandle, { sizeBytes, allocatedBytes }: Attr, bar: FileProgress): Promise<void> {
    const { size } = await file.stat()
    let offset = size > sizeBytes ? 0 : onDisk(size)
    // What is behind it may be anything, and what becomes a hole is not written.
    if (offset < size) await file.truncate(offset)
    bar.resumed(offset)
    const checkpoints = new Checkpoints(SYNC_BYTES, offset, () => file.datasync())
    const hasHoles = allocatedBytes < sizeBytes
    while (offset < sizeBytes) {
      const start = hasHoles ? await this.#dataFrom(handle, offset, sizeBytes) : offset
      if (start > offset) {
        await checkpoints.before(start)
        await checkpoints.end()
        await file.truncate(start)
        bar.add(start - offset)
        offset = start
        continue
      }
      const data = await this.#session.vfs.read(handle, offset, PIECE_BYTES)
      if (data.length === 0) throw new PosixError('EIO', 'the file became shorter while it was copied')
      await checkpoints.before(offset + data.length)
      await writeAll(file, data, offset)
      offset += data.length
      bar.add(data.length)
    }
    await checkpoints.end()
  }

  /** The first byte from `offset` on that is in no hole; the end of the file if there is none. */
  async #dataFrom(handle: number, offset: number, sizeBytes: number): Promise<number> {
    try {
      return Math.min(sizeBytes, await this.#session.vfs.seek(handle, offset, SEEK_DATA))
    } catch (error) {
      if (isErrno(error, 'ENXIO')) return sizeBytes
      throw error
    }
  }
}

function take(names: Names<number> | null, name: string, from: string, attr: Attr): readonly number[] | null {
  return names === null ? [] : names.take(name, from, attr.type === 'directory' ? attr.ino : null)
}

/** How much of a temporary file of this length is on disk for certain. */
function onDisk(lengthBytes: number): number {
  return Math.max(0, Math.ceil(lengthBytes / SYNC_BYTES) - 2) * SYNC_BYTES
}

/**
 * Beside the file: its own name, as much of it as fits, where it comes from, and whatever tells one contents from another. Not the data
 * version: see isChanged().
 */
function temporaryNames(
  volume: string,
  from: string,
  attr: Attr,
  local: string,
): { readonly partial: string; readonly prefix: string } {
  const { ino, sizeBytes } = attr
  const times = [attr.mtime, attr.ctime, attr.btime].flatMap(({ sec, nsec }) => [sec, nsec])
  const version = [ino, sizeBytes, ...times, ...(hasRested(attr) ? [] : [attr.dataVersion])]
  const path = from.split('/').filter((part) => part !== '' && part !== '.')
  const place = `${digest([volume, ...path, basename(local)].join('/')).slice(0, 8)}-`
  const partial = beside(local, place + digest([...version, SYNC_BYTES].join(' ')))
  return { partial, prefix: partial.slice(0, partial.lastIndexOf('-') + 1) }
}

/** All that was written of it is committed. */
function hasRested({ mtime, ctime }: Attr): boolean {
  return Date.now() - Math.max(mtime.sec, ctime.sec) * 1000 > COMMITTED_MS
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
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

function beside(local: string, id: string): string {
  const end = `${MARK}${id}`
  let shown = basename(local)
  while (Buffer.byteLength(shown) > NAME_MAX_BYTES - end.length) shown = shown.slice(0, -1)
  return join(dirname(local), shown + end)
}

/** What has the name keeps it until the link is there. */
async function replaceBySymlink(local: string, target: Buffer): Promise<void> {
  const temporary = beside(local, randomBytes(8).toString('hex'))
  await symlink(target, temporary)
  try {
    await rename(temporary, local)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** A new one, or that of an interrupted get. */
async function openPartial(path: string, mode: number): Promise<FileHandle> {
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

/** Whoever made the link in the volume that an earlier get has brought here must not say where other files go. */
async function checkNoLink(folder: string): Promise<void> {
  if ((await lstat(folder).catch(() => null))?.isSymbolicLink() !== true) return
  throw new PosixError('EEXIST', `${folder}: a symbolic link is in the way of a directory: remove it`)
}

/** What is in /dev is only there: replaced by a file, it is gone for everybody. */
async function checkNoDevice(local: string, look: Promise<Stats>): Promise<void> {
  const info = await look.catch(() => null)
  if (info === null || info.isFile() || info.isDirectory() || info.isSymbolicLink()) return
  throw new PosixError(
    'EINVAL',
    `${local}: is a device, pipe or socket, and is not replaced: ringfs cat writes into one`,
  )
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  )
}

/**
 * Housekeeping makes a version, too, of contents that read the same; who writes changes times. But of what was written together, what is
 * committed later may have the times of what was committed before: until that must be over, each version counts.
 */
function isChanged(before: Attr, after: Attr): boolean {
  if (after.dataVersion === before.dataVersion) return false
  if (!hasRested(before)) return true
  const isOfThen = compareTime(after.mtime, before.mtime) === 0 && compareTime(after.ctime, before.ctime) === 0
  return !isOfThen || after.sizeBytes !== before.sizeBytes
}

/** As Node takes any time: a number below 0 it takes for now. */
function secondsOf({ sec, nsec }: TimeSpec): string {
  return String(sec + nsec / 1e9)
}

/** utimes(2) from a double keeps microseconds at best: times that differ by less are the same. */
async function isSame(attr: Attr, local: string): Promise<boolean> {
  const info = await lstat(local).catch(() => null)
  if (info?.isDirectory() === true) throw new PosixError('EISDIR', 'a directory is in the way')
  if (info?.isFile() !== true || info.size !== attr.sizeBytes) return false
  return Math.abs(info.mtimeMs - attr.mtime.sec * 1000 - attr.mtime.nsec / 1e6) < 0.01
}
