/** What the file commands share: choosing the volume, paths in it, reading directories. */
import { Option, type Command } from 'commander'
import { isDots } from '../../base/dots.js'
import { PosixError, isErrno } from '../../base/errno.js'
import { messageOf } from '../../base/errors.js'
import { resolve, resolveExisting, type FollowLast, type Place } from '../../service/resolve.js'
import type { Attr, Caller, VfsContract, VfsDirEntry } from '../../vfs/contract.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { failureText, systemError } from '../failures.js'

type NamedPlace = Extract<Place, { readonly kind: 'name' }>

const PAGE_ENTRIES = 1000

/** `--meta` and `--data`, the same for every command that needs a volume. */
export function withVolume(command: Command): Command {
  return command
    .addOption(new Option('--meta <url>', 'volume: redis://[:password@]host:port[,host:port…]/VOLUME'))
    .addOption(new Option('--data <dir>', 'volume: the one of the `ringfs up` with this data folder').conflicts('meta'))
}

/** A volume while a command works on it. */
export class Session {
  readonly vfs: VfsContract
  readonly caller: Caller
  /** Uuid. */
  readonly volume: string

  constructor(vfs: VfsContract, caller: Caller, volume: string) {
    this.vfs = vfs
    this.caller = caller
    this.volume = volume
  }

  /** Attributes of what is at a path. Errors name the path. */
  async stat(path: string, follow: FollowLast): Promise<Attr> {
    return await named(path, resolveExisting(this.vfs, this.caller, bytesOf(path), follow))
  }

  async statOrNull(path: string, follow: FollowLast): Promise<Attr | null> {
    try {
      return await this.stat(path, follow)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return null
      throw error
    }
  }

  /** The directory and the name that a path ends with. EINVAL for the root, `.` and `..`. */
  async place(path: string): Promise<NamedPlace> {
    const place = await named(path, resolve(this.vfs, this.caller, bytesOf(path), 'never'))
    if (place.kind !== 'name') throw new PosixError('EINVAL', `${path}: has no name that could be changed`)
    return place
  }

  /** As `place`, of what is there and is moved or removed. ENOENT; ENOTDIR for what is no directory, with a slash behind it. */
  async existing(path: string): Promise<NamedPlace & { readonly attr: Attr }> {
    const { attr, ...place } = await this.place(path)
    if (attr === null) throw new PosixError('ENOENT', `${path}: there is no such file or directory`)
    if (place.trailingSlash && attr.type !== 'directory') throw new PosixError('ENOTDIR', `${path}: is not a directory`)
    return { ...place, attr }
  }

  /** Every entry but `.` and `..`, in the volume's order. */
  async *entries(ino: number, plus: boolean): AsyncGenerator<VfsDirEntry> {
    const handle = await this.vfs.opendir(this.caller, ino)
    try {
      for (let offset = 0n; ;) {
        const page = await this.vfs.readdir(handle, offset, PAGE_ENTRIES, plus)
        if (page.length === 0) return
        for (const entry of page) if (!isDots(entry.name)) yield entry
        offset = page.at(-1)?.offset ?? offset
      }
    } finally {
      this.vfs.releasedir(handle)
    }
  }

  /** The entry's attributes; null when it was removed meanwhile. */
  async attrOf(parent: number, entry: VfsDirEntry): Promise<Attr | null> {
    return entry.attr ?? (await this.lookupOrNull(parent, entry.name))
  }

  /** null: there is no such name. ENOTDIR: `parent` is no directory. */
  async lookupOrNull(parent: number, name: Buffer): Promise<Attr | null> {
    try {
      return await this.vfs.lookup(this.caller, parent, name)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return null
      throw error
    }
  }
}

/** Opens the volume, runs, and closes it whatever happens. */
export async function inVolume<T>(
  context: CliContext,
  selector: VolumeSelector,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const volume = await context.openVfs(selector)
  try {
    return await work(new Session(volume.vfs, context.caller, volume.settings.uuid))
  } finally {
    await volume.close()
  }
}

/** Names of a terminal are UTF-8; a path need not begin with a slash. */
export function bytesOf(path: string): Buffer {
  return Buffer.from(path === '' ? '/' : path)
}

/** For people: what is no UTF-8 is shown with replacement characters. */
export function textOf(name: Buffer): string {
  return name.toString('utf8')
}

/** Errors name the path; so do those of files on this machine, whose own text may name a temporary file. */
export async function named<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (error instanceof PosixError) throw new PosixError(error.code, `${path}: ${explain(error)}`, { cause: error })
    const here = systemError(error)
    if (here === undefined) throw error
    throw new PosixError(here.code, `${path}: ${failureText(here)}`, { cause: error })
  }
}

const MEANINGS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or directory',
  EEXIST: 'exists already',
  ENOTDIR: 'is not a directory, or leads through a file',
  EISDIR: 'is a directory',
  ENOTEMPTY: 'is not empty (remove what is in it with -r)',
  ENAMETOOLONG: 'is too long: a name has at most 255 bytes, a path 4,095',
  ELOOP: 'leads through too many symbolic links',
  ENOSPC: 'the volume is full',
}

function explain(error: PosixError): string {
  return MEANINGS[error.code] ?? messageOf(error)
}
