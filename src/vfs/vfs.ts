/**
 * The VFS: POSIX semantics over a metadata store and a chunk client. This file only says who does what:
 *
 *   namespace.ts   names                         attributes.ts  getattr, setattr
 *   files.ts       open files                    directory.ts   open directories
 *   writer.ts      what is not committed yet      reader.ts      what is read, and read ahead
 *   ranges.ts      holes                         copy.ts        copies that move no bytes
 *   xattrs.ts      extended attributes, ACLs
 *   locks.ts       file locks
 *   cache.ts, extent-cache.ts, chunk-cache.ts     what is kept, and freshness.ts for how long
 */
import { PosixError } from '../base/errno.js'
import { RingfsError, messageOf } from '../base/errors.js'
import { INO_MAX, KIB, NAME_MAX_BYTES } from '../base/limits.js'
import { AtHand } from './at-hand.js'
import type { BodyMover } from './body-mover.js'
import { Attributes } from './attributes.js'
import { VfsContext, type VfsOptions } from './context.js'
import type {
  Attr,
  AttrChange,
  Caller,
  CreatedFile,
  DirEntry,
  FileLock,
  LockChange,
  LockConflict,
  OpenFlags,
  RenameFlags,
  RenameReply,
  StatFs,
  VfsCoherence,
  VfsContract,
  VfsDirEntry,
  WriteSettings,
} from './contract.js'
import { Copier } from './copy.js'
import { DirectoryStream } from './directory.js'
import { toPosix } from './failures.js'
import { O_ACCMODE, O_RDONLY, O_TRUNC } from './flags.js'
import { Files, type Opened } from './files.js'
import { Namespace } from './namespace.js'
import { Ranges } from './ranges.js'
import { Xattrs } from './xattrs.js'

export type { VfsOptions } from './context.js'
export type { VfsLimits } from './limits.js'

const BLOCK_BYTES = 4 * KIB
/** Directories in a page whose attributes are asked for at once. */
const LEARN_MAX = 256

/** `shutdown` ends the VFS, not the metadata session and the chunk client: who made them closes them afterwards. */
export function createVfs(options: VfsOptions): VfsContract & Housekeeping {
  return new Vfs(new VfsContext(options))
}

/** What has to be done now and then by who has the time for it. */
export interface Housekeeping {
  readonly bodyMover: BodyMover
}

class Vfs implements VfsContract, Housekeeping {
  readonly bodyMover: BodyMover
  readonly coherence: VfsCoherence
  readonly atHand: AtHand
  readonly #context: VfsContext
  readonly #attributes: Attributes
  readonly #names: Namespace
  readonly #files: Files
  readonly #ranges: Ranges
  readonly #copier: Copier
  readonly #xattrs: Xattrs
  #statfs: { readonly atMs: number; readonly reply: Promise<StatFs> } | null = null
  #ended: Promise<void> | undefined

  constructor(context: VfsContext) {
    this.#context = context
    this.coherence = context.coherence
    this.bodyMover = context.bodyMover
    this.atHand = new AtHand(context, () => this.#ended !== undefined)
    this.#attributes = new Attributes(context)
    this.#names = new Namespace(context, this.#attributes)
    this.#files = new Files(context, this.#attributes)
    this.#ranges = new Ranges(context)
    this.#copier = new Copier(context)
    this.#xattrs = new Xattrs(context)
  }

  lookup(_caller: Caller, parent: number, name: Buffer): Promise<Attr> {
    return this.#do(() => this.#names.lookup(parent, name))
  }
  getattr(_caller: Caller, ino: number, anew = false): Promise<Attr> {
    return this.#do(() => this.#attributes.get(ino, anew))
  }
  setattr(caller: Caller, ino: number, change: AttrChange, handle?: number): Promise<Attr> {
    return this.#change('all', async () => {
      if (handle !== undefined && change.sizeBytes !== undefined) {
        this.#checkResizable(handle)
        await this.#confirmLocks(handle)
      }
      return this.#attributes.set(caller, ino, change)
    })
  }
  readlink(_caller: Caller, ino: number): Promise<Buffer> {
    return this.#do(async () => {
      const target = await this.#context.meta.readlink(ino)
      this.#accessed(ino)
      return target
    })
  }

  mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number): Promise<Attr> {
    return this.#change('names', () => this.#names.mknod(caller, parent, name, mode, rdev))
  }
  mkdir(caller: Caller, parent: number, name: Buffer, mode: number): Promise<Attr> {
    return this.#change('names', () => this.#names.mkdir(caller, parent, name, mode))
  }
  symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Promise<Attr> {
    return this.#change('names', () => this.#names.symlink(caller, parent, name, target))
  }
  link(_caller: Caller, ino: number, parent: number, name: Buffer): Promise<Attr> {
    return this.#change('names', () => this.#names.link(ino, parent, name))
  }
  unlink(_caller: Caller, parent: number, name: Buffer): Promise<number> {
    return this.#change('names', () => this.#names.unlink(parent, name))
  }
  rmdir(_caller: Caller, parent: number, name: Buffer): Promise<number> {
    return this.#change('names', () => this.#names.rmdir(parent, name))
  }
  rename(
    _caller: Caller,
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
  ): Promise<RenameReply> {
    return this.#change('names', () => this.#names.rename(parent, name, newParent, newName, flags))
  }

  create(caller: Caller, parent: number, name: Buffer, mode: number, flags: OpenFlags): Promise<CreatedFile> {
    return this.#change('names', () => this.#files.create(caller, parent, name, mode, flags))
  }
  tmpfile(caller: Caller, parent: number, mode: number, flags: OpenFlags): Promise<Opened> {
    return this.#change('all', () => this.#files.tmpfile(caller, parent, mode, flags))
  }
  open(caller: Caller, ino: number, flags: OpenFlags, isPinned = false): Promise<Opened> {
    return this.#do(() => {
      const changes = (flags & O_ACCMODE) !== O_RDONLY || (flags & O_TRUNC) !== 0
      if (changes) this.#checkWritable()
      return this.#files.open(caller, ino, flags, isPinned)
    })
  }
  pin(ino: number): Promise<void> {
    return this.#do(() => this.#files.pin(ino))
  }
  unpin(ino: number): void {
    this.#files.unpin(ino)
  }
  read(handle: number, offset: number, lengthBytes: number): Promise<Buffer> {
    return this.#do(() => this.#files.read(handle, offset, lengthBytes))
  }

  readPieces(handle: number, offset: number, lengthBytes: number): Promise<readonly Buffer[]> {
    return this.#do(() => this.#files.readPieces(handle, offset, lengthBytes))
  }
  write(handle: number, offset: number, data: Uint8Array, settings?: WriteSettings): Promise<number> {
    return this.#do(() => this.#files.write(handle, offset, data, settings))
  }
  writeBack(handle: number, offset: number, data: Uint8Array): Promise<number> {
    return this.#do(() => this.#files.writeBack(handle, offset, data))
  }
  fallocate(handle: number, mode: number, offset: number, lengthBytes: number): Promise<void> {
    return this.#do(async () => {
      await this.#confirmLocks(handle)
      await this.#ranges.fallocate(handle, mode, offset, lengthBytes)
      await this.#files.synced(handle)
    })
  }
  seek(handle: number, offset: number, whence: number): Promise<number> {
    return this.#do(() => this.#ranges.seek(handle, offset, whence))
  }
  copyRange(
    source: number,
    sourceOffset: number,
    target: number,
    targetOffset: number,
    lengthBytes: number,
  ): Promise<number> {
    return this.#do(async () => {
      await this.#confirmLocks(source)
      await this.#confirmLocks(target)
      const copied = await this.#copier.copy(source, sourceOffset, target, targetOffset, lengthBytes)
      await this.#files.synced(target)
      return copied
    })
  }
  flush(handle: number, owner?: string): Promise<void> {
    return this.#do(() => this.#files.flush(handle, owner))
  }
  /** dataOnly makes no difference: size and extents are what makes data reachable. */
  fsync(handle: number): Promise<void> {
    return this.#do(() => this.#files.fsync(handle))
  }
  release(handle: number): Promise<void> {
    return this.#do(() => this.#files.release(handle))
  }

  getlk(handle: number, lock: FileLock): Promise<LockConflict | null> {
    return this.#do(() => this.#context.locks.get(handle, lock))
  }
  setlk(handle: number, change: LockChange, wait: boolean, signal?: AbortSignal): Promise<void> {
    return this.#do(() => this.#context.locks.set(handle, change, wait, signal))
  }

  opendir(_caller: Caller, ino: number): Promise<number> {
    return this.#do(async () => {
      this.#context.handles.checkRoom()
      const attr = await this.#context.attrs.get(ino)
      if (attr.type !== 'directory') throw new PosixError('ENOTDIR')
      this.#context.directories.opened(attr)
      const stream = this.#stream(ino)
      // Whoever walks a tree reads what he found in the directory above.
      if (this.#context.fresh.hears(ino) && this.#context.listed.get(attr.parent)) stream.prefetch()
      return this.#context.handles.addDirectory(stream)
    })
  }
  readdir(handle: number, offset: bigint, limit: number, plus: boolean): Promise<readonly VfsDirEntry[]> {
    return this.#do(async () => {
      if (offset < 0n || limit < 1) throw new PosixError('EINVAL', 'no such position in the directory')
      const stream = this.#context.handles.directory(handle)
      const entries = await stream.read(offset, limit, plus)
      this.#accessed(stream.ino)
      return entries
    })
  }
  releasedir(handle: number): void {
    const { directories, handles, losses } = this.#context
    const stream = handles.directory(handle)
    directories.closed(stream.ino)
    handles.remove(handle)
    losses.closed(stream)
  }
  fsyncdir(handle: number): Promise<void> {
    return this.#do(async () => {
      const stream = this.#context.handles.directory(handle)
      await this.#context.sync().finally(() => this.#context.losses.report(stream))
    })
  }

  getxattr(ino: number, name: Buffer): Promise<Buffer> {
    return this.#do(() => this.#xattrs.get(ino, name))
  }
  listxattr(ino: number): Promise<readonly Buffer[]> {
    return this.#do(() => this.#xattrs.list(ino))
  }
  setxattr(...change: Parameters<VfsContract['setxattr']>): Promise<void> {
    return this.#change('all', () => this.#xattrs.set(...change))
  }
  removexattr(...change: Parameters<VfsContract['removexattr']>): Promise<void> {
    return this.#change('all', () => this.#xattrs.remove(...change))
  }

  statfs(): Promise<StatFs> {
    return this.#do(() => {
      const nowMs = this.#context.clock.monotonicMs()
      if (this.#statfs === null || nowMs - this.#statfs.atMs >= this.#context.limits.statfsCacheMs) {
        const reply = this.#askStatfs()
        this.#statfs = { atMs: nowMs, reply }
        // A failure is not kept.
        reply.catch(() => (this.#statfs = null))
      }
      return this.#statfs.reply
    })
  }

  syncAll(durable: boolean): Promise<void> {
    return this.#do(async () => {
      const synced = this.#syncAll(durable)
      await (durable ? synced.finally(() => this.#context.tail.reportAny()) : synced)
    })
  }

  shutdown(): Promise<void> {
    this.#ended ??= this.#shutdown()
    return this.#ended
  }

  async #shutdown(): Promise<void> {
    const { handles, log, compactor, locks } = this.#context
    locks.shutdown()
    this.bodyMover.stop()
    try {
      await this.#syncAll(true)
    } catch (error) {
      log.error({ error: messageOf(error) }, 'not everything is durable at shutdown')
      throw toPosix(error)
    } finally {
      for (const [handle] of handles.files()) {
        await this.#files.release(handle).catch((error: unknown) => {
          log.error({ handle, error: messageOf(error) }, 'a file was not closed cleanly')
        })
      }
      await compactor.stop()
    }
    // Now all handles are gone.
    this.#context.tail.reportLeft()
  }

  async #syncAll(durable: boolean): Promise<void> {
    const { states, uploader, atimes } = this.#context
    const before = new Map(states.all().map((state) => [state, state.writer.failures]))
    await Promise.all([atimes.flush(), ...states.all().map((state) => state.writer.flush(durable))])
    if (durable) {
      await uploader.unsynced.syncAll()
      await this.#context.sync()
    }
    // Handles still report their own failures: this answers only for what failed now.
    for (const [state, failures] of before) {
      if (state.writer.failures !== failures && state.writer.failure !== null) throw state.writer.failure
    }
  }

  /** A directory or a symlink was read. Its attributes are cached, for it was looked up; asking for them is not worth it. */
  #accessed(ino: number): void {
    const attr = this.#context.attrs.peek(ino)
    if (attr !== undefined) this.#attributes.accessed(attr)
  }

  #checkResizable(handle: number): void {
    if (!this.#context.handles.file(handle).writable) throw new PosixError('EINVAL', 'not open for writing')
  }

  #stream(ino: number): DirectoryStream {
    const { meta, limits, fresh, attrs, complete } = this.#context
    return new DirectoryStream(ino, {
      meta,
      batch: limits.readdirBatch,
      mark: () => fresh.mark(),
      attr: (dir) => attrs.get(dir),
      overlay: (attr) => this.#attributes.overlayNow(attr),
      known: (entry) => {
        const attr = attrs.peek(entry)
        return attr && this.#attributes.overlayNow(attr)
      },
      onEntries: (parent, entries, mark) => this.#keepEntries(parent, entries, mark),
      begin: () => complete.mark(),
      learn: (entries) => this.#learn(entries),
      listed: (directory, mark) => {
        this.#context.listed.set(directory, true)
        if (fresh.hears(directory)) complete.add(directory, mark)
      },
      completeMax: Math.floor(limits.dentries / 4),
    })
  }

  /** Directories lie elsewhere than their names: their attributes do not come along with these, and are asked for at once. */
  async #learn(entries: readonly DirEntry[]): Promise<void> {
    const { attrs, meta } = this.#context
    if (!meta.coherent) return
    const unknown = entries.filter(({ ino, type }) => type === 'directory' && attrs.peek(ino) === undefined)
    await Promise.all(unknown.slice(0, LEARN_MAX).map(({ ino }) => attrs.get(ino).catch(() => undefined)))
  }

  #keepEntries(parent: number, entries: readonly DirEntry[], mark: number): void {
    for (const { name, ino, attr } of entries) {
      if (attr !== undefined) this.#context.attrs.put(attr, mark)
      this.#context.dentries.put(parent, name, ino, mark)
    }
  }

  /** Throws EIO for a file whose locks were lost. */
  #confirmLocks(handle: number): Promise<void> {
    return this.#context.locks.confirm(this.#context.handles.file(handle))
  }

  async #askStatfs(): Promise<StatFs> {
    const [space, usage] = await Promise.all([this.#context.chunks.space(), this.#context.meta.usage()])
    return {
      blockBytes: BLOCK_BYTES,
      blocks: Math.floor(space.totalBytes / BLOCK_BYTES),
      blocksFree: Math.floor(space.freeBytes / BLOCK_BYTES),
      files: INO_MAX,
      filesFree: Math.max(0, INO_MAX - usage.inodes),
      nameMaxBytes: NAME_MAX_BYTES,
    }
  }

  #checkWritable(): void {
    if (this.#context.readOnly) throw new PosixError('EROFS')
  }

  /**
   * A change of names, or of what else there is; data has ways of its own to become durable. The kernel refuses changes of a
   * read-only mount itself: this is for FileService, which has no kernel before it.
   */
  #change<T>(kind: 'names' | 'all', call: () => Promise<T>): Promise<T> {
    return this.#do(() => {
      this.#checkWritable()
      const { durableChanges } = this.#context
      return durableChanges === 'all' || durableChanges === kind ? this.#durable(call()) : call()
    })
  }

  async #durable<T>(change: Promise<T>): Promise<T> {
    const result = await change
    await this.#context.sync()
    return result
  }

  /** The one door: callers see PosixError only, and what is not one by intent is logged. */
  async #do<T>(call: () => Promise<T>): Promise<T> {
    if (this.#ended !== undefined) throw new PosixError('EIO', 'the volume is not mounted any more')
    try {
      return await call()
    } catch (error) {
      if (error instanceof PosixError) throw error
      const level = error instanceof RingfsError ? 'warn' : 'error'
      const times = this.#context.failures.times(messageOf(error))
      if (times > 0) this.#context.log[level]({ err: error, times }, 'a call failed')
      throw toPosix(error)
    }
  }
}
