/**
 * `ringfs get`: files of the volume to local ones.
 *
 * Invariants. A local file gets its name only when it is whole and on disk: it is written beside it, front to back (partial-file.ts), and
 * renamed. So an interrupted get is continued; one that still runs is left alone (one-copy.ts). A file that changes in the volume meanwhile is an
 * error, not a mixture.
 */
import { randomBytes } from 'node:crypto'
import type { Stats } from 'node:fs'
import { lstat, readlink, rename, rm, stat, symlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Command } from 'commander'
import { PosixError, isErrno } from '../../base/errno.js'
import { RingfsError } from '../../base/errors.js'
import type { Attr } from '../../vfs/contract.js'
import { SEEK_DATA } from '../../vfs/flags.js'
import type { CliContext } from '../context.js'
import { LocalFolders } from './local-folders.js'
import { Names } from './names.js'
import { lockCopy } from './one-copy.js'
import { ALL_BEFORE, each } from './parallel.js'
import { Leftovers, PartialFile, isChanged, partialNames, temporaryBeside } from './partial-file.js'
import type { Progress, FileProgress } from './progress.js'
import { named, textOf, type Session } from './session.js'
import { PIECE_BYTES, transferCommand, type Transfer, type TransferOptions } from './transfer.js'

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
  readonly #leftovers = new Leftovers()

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
    try {
      const names = partialNames(this.#session.volume, from, attr, local)
      if (this.#options.recursive !== true) await this.#leftovers.remove(names)
      const { dev, ino } = await stat(dirname(names.partial))
      const lock = await lockCopy([dev, ino, basename(names.partial)], local)
      try {
        await this.#receiveAlone(attr, handle, names.partial, local, bar)
      } finally {
        await lock.release()
      }
    } finally {
      await vfs.release(handle)
    }
  }

  async #receiveAlone(attr: Attr, handle: number, path: string, local: string, bar: FileProgress): Promise<void> {
    const { vfs, caller } = this.#session
    const partial = await PartialFile.open(path, attr)
    try {
      await this.#read(handle, partial, attr, bar)
      if (isChanged(attr, await vfs.getattr(caller, attr.ino))) {
        await partial.remove()
        throw new RingfsError('USAGE', `${local}: the file was changed while it was copied: run it again`)
      }
      await partial.moveTo(local)
    } finally {
      await partial.close()
    }
  }

  async #read(
    handle: number,
    partial: PartialFile,
    { sizeBytes, allocatedBytes }: Attr,
    bar: FileProgress,
  ): Promise<void> {
    bar.resumed(partial.offset)
    const hasHoles = allocatedBytes < sizeBytes
    while (partial.offset < sizeBytes) {
      const { offset } = partial
      const start = hasHoles ? await this.#dataFrom(handle, offset, sizeBytes) : offset
      if (start > offset) {
        await partial.appendHole(start)
        bar.add(start - offset)
        continue
      }
      const data = await this.#session.vfs.read(handle, offset, PIECE_BYTES)
      if (data.length === 0) throw new PosixError('EIO', 'the file became shorter while it was copied')
      await partial.append(data)
      bar.add(data.length)
    }
    await partial.end()
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

/** What has the name keeps it until the link is there. */
async function replaceBySymlink(local: string, target: Buffer): Promise<void> {
  const temporary = temporaryBeside(local, randomBytes(8).toString('hex'))
  await symlink(target, temporary)
  try {
    await rename(temporary, local)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
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

/** utimes(2) from a double keeps microseconds at best: times that differ by less are the same. */
async function isSame(attr: Attr, local: string): Promise<boolean> {
  const info = await lstat(local).catch(() => null)
  if (info?.isDirectory() === true) throw new PosixError('EISDIR', 'a directory is in the way')
  if (info?.isFile() !== true || info.size !== attr.sizeBytes) return false
  return Math.abs(info.mtimeMs - attr.mtime.sec * 1000 - attr.mtime.nsec / 1e6) < 0.01
}
