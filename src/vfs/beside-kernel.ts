/**
 * A VFS for those who use it beside a kernel that caches its answers: FileService in the process of a mount. The kernel knows what
 * it changed itself and is told what other clients change; what is changed through here it would not hear of.
 *
 * Told after the change, whether it succeeded or not: a call that failed late may have changed something.
 */
import type {
  Attr,
  AttrChange,
  Caller,
  CreatedFile,
  FileLock,
  LockChange,
  LockConflict,
  OpenFlags,
  OpenedFile,
  RenameFlags,
  RenameReply,
  StatFs,
  VfsCoherence,
  VfsContract,
  VfsDirEntry,
  WriteSettings,
} from './contract.js'
import { NOTHING_AT_HAND } from './at-hand.js'
import { O_TRUNC } from './flags.js'

export class BesideKernel implements VfsContract {
  readonly coherence: VfsCoherence
  /** It opens files in its own way, and nobody who comes by here is in such a hurry. */
  readonly atHand = NOTHING_AT_HAND
  readonly #vfs: VfsContract
  readonly #inos = new Map<number, number>()

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
    this.coherence = vfs.coherence
  }

  setattr(caller: Caller, ino: number, change: AttrChange, handle?: number): Promise<Attr> {
    const kind = change.sizeBytes === undefined ? 'attr' : 'data'
    return this.#changes(this.#vfs.setattr(caller, ino, change, handle), () => this.coherence.invalidate({ kind, ino }))
  }
  mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number): Promise<Attr> {
    return this.#renames(parent, name, () => this.#vfs.mknod(caller, parent, name, mode, rdev))
  }
  mkdir(caller: Caller, parent: number, name: Buffer, mode: number): Promise<Attr> {
    return this.#renames(parent, name, () => this.#vfs.mkdir(caller, parent, name, mode))
  }
  symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Promise<Attr> {
    return this.#renames(parent, name, () => this.#vfs.symlink(caller, parent, name, target))
  }
  link(caller: Caller, ino: number, parent: number, name: Buffer): Promise<Attr> {
    const link = this.#renames(parent, name, () => this.#vfs.link(caller, ino, parent, name))
    return this.#changes(link, () => this.coherence.invalidate({ kind: 'attr', ino }))
  }
  async unlink(caller: Caller, parent: number, name: Buffer): Promise<number> {
    const ino = await this.#replaces(caller, parent, name, () => this.#vfs.unlink(caller, parent, name))
    return this.#changed(ino)
  }
  async rmdir(caller: Caller, parent: number, name: Buffer): Promise<number> {
    return this.#changed(await this.#renames(parent, name, () => this.#vfs.rmdir(caller, parent, name)))
  }
  async rename(
    caller: Caller,
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
  ): Promise<RenameReply> {
    const reply = await this.#replaces(caller, parent, name, () =>
      this.#replaces(caller, newParent, newName, () =>
        this.#vfs.rename(caller, parent, name, newParent, newName, flags),
      ),
    )
    for (const ino of [reply.moved, reply.replaced]) if (ino !== 0) this.#changed(ino)
    return reply
  }

  async create(caller: Caller, parent: number, name: Buffer, mode: number, flags: OpenFlags): Promise<CreatedFile> {
    const file = await this.#renames(parent, name, () => this.#vfs.create(caller, parent, name, mode, flags))
    if ((flags & O_TRUNC) !== 0) this.coherence.invalidate({ kind: 'data', ino: file.attr.ino })
    return this.#opened(file)
  }
  async tmpfile(caller: Caller, parent: number, mode: number, flags: OpenFlags): Promise<OpenedFile> {
    return this.#opened(await this.#vfs.tmpfile(caller, parent, mode, flags))
  }
  async open(caller: Caller, ino: number, flags: OpenFlags, isPinned?: boolean): Promise<OpenedFile> {
    const file = await this.#vfs.open(caller, ino, flags, isPinned)
    if ((flags & O_TRUNC) !== 0) this.coherence.invalidate({ kind: 'data', ino })
    return this.#opened(file)
  }
  write(handle: number, offset: number, data: Uint8Array, settings?: WriteSettings): Promise<number> {
    return this.#writes(handle, this.#vfs.write(handle, offset, data, settings))
  }
  writeBack(handle: number, offset: number, data: Uint8Array): Promise<number> {
    return this.#writes(handle, this.#vfs.writeBack(handle, offset, data))
  }
  fallocate(handle: number, mode: number, offset: number, lengthBytes: number): Promise<void> {
    return this.#writes(handle, this.#vfs.fallocate(handle, mode, offset, lengthBytes))
  }
  copyRange(from: number, fromOffset: number, to: number, toOffset: number, lengthBytes: number): Promise<number> {
    return this.#writes(to, this.#vfs.copyRange(from, fromOffset, to, toOffset, lengthBytes))
  }
  /** An append has its place only now. */
  flush(handle: number, owner?: string): Promise<void> {
    return this.#writes(handle, this.#vfs.flush(handle, owner))
  }
  async release(handle: number): Promise<void> {
    try {
      await this.#writes(handle, this.#vfs.release(handle))
    } finally {
      this.#inos.delete(handle)
    }
  }
  setxattr(...change: Parameters<VfsContract['setxattr']>): Promise<void> {
    const [ino] = change
    return this.#changes(this.#vfs.setxattr(...change), () => this.coherence.invalidate({ kind: 'attr', ino }))
  }
  removexattr(...change: Parameters<VfsContract['removexattr']>): Promise<void> {
    const [ino] = change
    return this.#changes(this.#vfs.removexattr(...change), () => this.coherence.invalidate({ kind: 'attr', ino }))
  }

  lookup(caller: Caller, parent: number, name: Buffer): Promise<Attr> {
    return this.#vfs.lookup(caller, parent, name)
  }
  getattr(caller: Caller, ino: number, anew?: boolean): Promise<Attr> {
    return this.#vfs.getattr(caller, ino, anew)
  }
  pin(ino: number): Promise<void> {
    return this.#vfs.pin(ino)
  }
  unpin(ino: number): void {
    this.#vfs.unpin(ino)
  }
  readlink(caller: Caller, ino: number): Promise<Buffer> {
    return this.#vfs.readlink(caller, ino)
  }
  read(handle: number, offset: number, lengthBytes: number): Promise<Buffer> {
    return this.#vfs.read(handle, offset, lengthBytes)
  }
  readPieces(handle: number, offset: number, lengthBytes: number): Promise<readonly Buffer[]> {
    return this.#vfs.readPieces(handle, offset, lengthBytes)
  }
  seek(handle: number, offset: number, whence: number): Promise<number> {
    return this.#vfs.seek(handle, offset, whence)
  }
  fsync(handle: number, dataOnly: boolean): Promise<void> {
    return this.#writes(handle, this.#vfs.fsync(handle, dataOnly))
  }
  getlk(handle: number, lock: FileLock): Promise<LockConflict | null> {
    return this.#vfs.getlk(handle, lock)
  }
  setlk(handle: number, change: LockChange, wait: boolean, signal?: AbortSignal): Promise<void> {
    return this.#vfs.setlk(handle, change, wait, signal)
  }
  opendir(caller: Caller, ino: number): Promise<number> {
    return this.#vfs.opendir(caller, ino)
  }
  readdir(handle: number, offset: bigint, limit: number, plus: boolean): Promise<readonly VfsDirEntry[]> {
    return this.#vfs.readdir(handle, offset, limit, plus)
  }
  releasedir(handle: number): void {
    this.#vfs.releasedir(handle)
  }
  fsyncdir(handle: number): Promise<void> {
    return this.#vfs.fsyncdir(handle)
  }
  getxattr(ino: number, name: Buffer): Promise<Buffer> {
    return this.#vfs.getxattr(ino, name)
  }
  listxattr(ino: number): Promise<readonly Buffer[]> {
    return this.#vfs.listxattr(ino)
  }
  statfs(): Promise<StatFs> {
    return this.#vfs.statfs()
  }
  syncAll(durable: boolean): Promise<void> {
    return this.#vfs.syncAll(durable)
  }
  shutdown(): Promise<void> {
    return this.#vfs.shutdown()
  }

  #opened<T extends OpenedFile>(file: T): T {
    this.#inos.set(file.handle, file.attr.ino)
    return file
  }

  /** The name may have been another's than was believed. */
  #changed(ino: number): number {
    this.coherence.invalidate({ kind: 'attr', ino })
    return ino
  }

  /** The inode that a name means loses it, or gets another: the kernel may know it by other names. */
  async #replaces<T>(caller: Caller, parent: number, name: Buffer, change: () => Promise<T>): Promise<T> {
    // What is known already costs nothing; else it is asked for, so that it is known to #renames.
    if (this.coherence.entry(parent, name) === undefined) {
      await this.#vfs.lookup(caller, parent, name).catch(() => undefined)
    }
    return this.#renames(parent, name, change)
  }

  /** What a name means changes, with what it meant before, and its directory. */
  #renames<T>(parent: number, name: Buffer, change: () => Promise<T>): Promise<T> {
    const before = this.coherence.entry(parent, name) ?? 0
    return this.#changes(change(), () => {
      this.coherence.invalidate({ kind: 'entry', parent, name })
      this.coherence.invalidate({ kind: 'attr', ino: parent })
      if (before !== 0) this.coherence.invalidate({ kind: 'attr', ino: before })
    })
  }

  #writes<T>(handle: number, change: Promise<T>): Promise<T> {
    const ino = this.#inos.get(handle)
    return this.#changes(change, () => {
      if (ino !== undefined) this.coherence.invalidate({ kind: 'data', ino })
    })
  }

  async #changes<T>(change: Promise<T>, tell: () => void): Promise<T> {
    try {
      return await change
    } finally {
      tell()
    }
  }
}
