/**
 * The calls of the library on the VFS: paths become inodes, descriptors become handles, and nothing else happens here.
 * Every method throws PosixError. session.ts brings the arguments in and the results out.
 *
 * The library does not say who calls: what is made belongs to the user of this process.
 */
import type { TimeSpec } from '../../base/clock.js'
import { PosixError, isErrno } from '../../base/errno.js'
import { type Log } from '../../base/log.js'
import { messageOf } from '../../base/errors.js'
import type { Attr, AttrChange, Caller, StatFs, VfsContract, VfsDirEntry } from '../../vfs/contract.js'
import { Handles } from './handles.js'
import { Hidden } from './hidden.js'
import { decode, encode } from './names.js'
import { type Entry, Paths } from './paths.js'

/** Entries asked of the VFS at a time. */
const LISTING_STEP = 1024
/** (uid_t) -1 of chown(2): leave as it is. */
const UNCHANGED_ID = 2 ** 32 - 1

export class PathOps {
  readonly #vfs: VfsContract
  readonly #caller: Caller
  readonly #log: Log
  readonly #hidden = new Hidden()
  readonly #handles = new Handles()
  readonly #paths: Paths

  constructor(vfs: VfsContract, caller: Caller, log: Log) {
    this.#vfs = vfs
    this.#caller = caller
    this.#log = log
    this.#paths = new Paths(vfs, caller, this.#hidden)
  }

  /** After the last request: what the kernel did not tell before it went (an aborted mount) is closed here. */
  async end(): Promise<void> {
    await this.#hidden.settleAll()
    for (const fd of this.#handles.fds()) {
      await this.release(fd).catch((error: unknown) => this.#log.error({ error: messageOf(error) }, 'data may be lost'))
    }
  }

  statfs(): Promise<StatFs> {
    return this.#vfs.statfs()
  }

  getattr(path: string): Promise<Attr> {
    return this.#paths.attr(path)
  }

  /** By the handle, because the path may be gone or another file's by now. */
  async fgetattr(path: string, fd: number): Promise<Attr> {
    const { ino } = this.#handles.get(fd)
    const hidden = await this.#hidden.resolve(path)
    await this.#hidden.waitFor(ino)
    return hidden === ino ? this.#paths.hiddenAttr(ino) : this.#vfs.getattr(this.#caller, ino)
  }

  async chmod(path: string, mode: number): Promise<void> {
    await this.#setattr(path, { mode: mode & 0o7777 })
  }

  async chown(path: string, uid: number, gid: number): Promise<void> {
    const owner = uid === UNCHANGED_ID ? {} : { uid }
    const group = gid === UNCHANGED_ID ? {} : { gid }
    await this.#setattr(path, { ...owner, ...group })
  }

  async utimens(path: string, atime: TimeSpec, mtime: TimeSpec): Promise<void> {
    await this.#setattr(path, { atime, mtime })
  }

  async truncate(path: string, sizeBytes: number): Promise<void> {
    if (!Number.isSafeInteger(sizeBytes)) throw new PosixError('EFBIG')
    await this.#setattr(path, { sizeBytes })
  }

  async ftruncate(fd: number, sizeBytes: number): Promise<void> {
    if (!Number.isSafeInteger(sizeBytes)) throw new PosixError('EFBIG')
    const { ino, handle } = this.#handles.get(fd)
    await this.#vfs.setattr(this.#caller, ino, { sizeBytes }, handle)
  }

  async readlink(path: string): Promise<string> {
    return decode(await this.#vfs.readlink(this.#caller, await this.#paths.ino(path)))
  }

  async readdir(path: string): Promise<readonly VfsDirEntry[]> {
    await this.#hidden.settleIn(path)
    const handle = await this.#vfs.opendir(this.#caller, await this.#paths.ino(path))
    try {
      return await this.#listAll(handle)
    } finally {
      this.#vfs.releasedir(handle)
    }
  }

  async fsyncdir(path: string): Promise<void> {
    await this.#hidden.settleIn(path)
    const handle = await this.#vfs.opendir(this.#caller, await this.#paths.ino(path))
    try {
      await this.#vfs.fsyncdir(handle)
    } finally {
      this.#vfs.releasedir(handle)
    }
  }

  async mknod(path: string, mode: number, rdev: number): Promise<void> {
    const { parent, name } = await this.#paths.entry(path)
    await this.#vfs.mknod(this.#caller, parent, name, mode, rdev)
  }

  async mkdir(path: string, mode: number): Promise<void> {
    const { parent, name } = await this.#paths.entry(path)
    await this.#vfs.mkdir(this.#caller, parent, name, mode & 0o7777)
  }

  async symlink(target: string, path: string): Promise<void> {
    const { parent, name } = await this.#paths.entry(path)
    await this.#vfs.symlink(this.#caller, parent, name, encode(target))
  }

  async link(source: string, path: string): Promise<void> {
    const { parent, name } = await this.#paths.entry(path)
    await this.#vfs.link(this.#caller, await this.#paths.ino(source), parent, name)
  }

  async unlink(path: string): Promise<void> {
    if (await this.#hidden.drop(path)) return
    const { parent, name } = await this.#paths.entry(path)
    await this.#vfs.unlink(this.#caller, parent, name)
  }

  async rmdir(path: string): Promise<void> {
    const { parent, name } = await this.#paths.entry(path)
    await this.#checkHoldsNothing(path)
    await this.#vfs.rmdir(this.#caller, parent, name)
  }

  async rename(source: string, target: string): Promise<void> {
    if (this.#hidden.isHiding(source, target) && (await this.#hide(source, target))) return
    const claimed = await this.#hidden.claim(target, async () => {
      await this.#rename(await this.#paths.locate(source), await this.#paths.locate(target))
    })
    if (claimed) return
    await this.#hidden.settleBelow(source)
    const [from, to] = [await this.#paths.entry(source), await this.#paths.entry(target)]
    await this.#checkHoldsNothing(target)
    await this.#rename(from, to)
  }

  async open(path: string, flags: number): Promise<number> {
    const ino = await this.#paths.ino(path)
    const { handle } = await this.#vfs.open(this.#caller, ino, flags)
    return this.#handles.add({ handle, ino })
  }

  read(fd: number, offset: number, lengthBytes: number): Promise<Buffer> {
    return this.#vfs.read(this.#handles.get(fd).handle, offset, lengthBytes)
  }

  write(fd: number, offset: number, data: Uint8Array): Promise<number> {
    if (!Number.isSafeInteger(offset + data.length)) throw new PosixError('EFBIG')
    return this.#vfs.write(this.#handles.get(fd).handle, offset, data)
  }

  flush(fd: number): Promise<void> {
    return this.#vfs.flush(this.#handles.get(fd).handle)
  }

  fsync(fd: number, dataOnly: boolean): Promise<void> {
    return this.#vfs.fsync(this.#handles.get(fd).handle, dataOnly)
  }

  release(fd: number): Promise<void> {
    return this.#vfs.release(this.#handles.remove(fd).handle)
  }

  async getxattr(path: string, name: string): Promise<Buffer> {
    return this.#vfs.getxattr(await this.#paths.ino(path), encode(name))
  }

  async listxattr(path: string): Promise<readonly Buffer[]> {
    return this.#vfs.listxattr(await this.#paths.ino(path))
  }

  /** The value is copied: the memory is the library's. */
  async setxattr(path: string, name: string, value: Buffer, flags: number): Promise<void> {
    await this.#vfs.setxattr(await this.#paths.ino(path), encode(name), Buffer.from(value), flags)
  }

  async removexattr(path: string, name: string): Promise<void> {
    await this.#vfs.removexattr(await this.#paths.ino(path), encode(name))
  }

  async #setattr(path: string, change: AttrChange): Promise<void> {
    const ino = await this.#paths.ino(path)
    await this.#hidden.waitFor(ino)
    await this.#vfs.setattr(this.#caller, ino, change)
  }

  async #listAll(handle: number): Promise<readonly VfsDirEntry[]> {
    const all: VfsDirEntry[] = []
    for (let offset = 0n; ;) {
      const step = await this.#vfs.readdir(handle, offset, LISTING_STEP, false)
      const last = step.at(-1)
      if (last === undefined) return all
      for (const entry of step) all.push(entry)
      offset = last.offset
    }
  }

  /** Answers false if the file is not open here: then the rename is a user's own, to a strange name. */
  async #hide(source: string, target: string): Promise<boolean> {
    const ino = await this.#paths.ino(source)
    if (!this.#handles.isOpen(ino)) return false
    const { parent, name } = await this.#paths.entry(source)
    this.#hidden.hide(source, target, ino, parent, () => this.#unlinkHidden({ parent, name }, source))
    return true
  }

  async #unlinkHidden({ parent, name }: Entry, path: string): Promise<void> {
    try {
      await this.#vfs.unlink(this.#caller, parent, name)
    } catch (error) {
      // Too late to tell the caller. ENOENT: another client was quicker.
      if (isErrno(error, 'ENOENT')) return
      this.#log.error({ path, error: messageOf(error) }, 'an open file could not be removed: it is still there')
    }
  }

  async #rename(from: Entry, to: Entry): Promise<void> {
    await this.#vfs.rename(this.#caller, from.parent, from.name, to.parent, to.name, {})
  }

  async #checkHoldsNothing(directory: string): Promise<void> {
    if (this.#hidden.empty) return
    await this.#hidden.settleBelow(directory)
    const ino = await this.#paths.ino(directory).catch(() => undefined)
    if (ino !== undefined && this.#hidden.holds(ino)) {
      throw new PosixError('EBUSY', `a removed file of ${directory} is still open`)
    }
  }
}
