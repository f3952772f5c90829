/** Open files: open, create, read, write, flush, fsync, release. */
import { FILE_MAX_BYTES } from '../base/limits.js'
import { PosixError, isErrno } from '../base/errno.js'
import type { Attr, OpenReply } from '../meta/contract.js'
import type { Attributes } from './attributes.js'
import type { Caller, CreatedFile, WriteSettings } from './contract.js'
import type { VfsContext } from './context.js'
import { MODE_BITS, O_ACCMODE, O_APPEND, O_DSYNC, O_EXCL, O_TRUNC } from './flags.js'
import { FileHandle } from './handles.js'
import type { InodeState } from './inode-state.js'
import { changeNames } from './name-change.js'
import { checkEntry, checkRange, keepsSetid, ownerOf } from './names.js'

export interface Opened {
  readonly attr: Attr
  readonly handle: number
  readonly atimeDue: boolean
  readonly needsNoFlush: boolean
}

export class Files {
  readonly #context: VfsContext
  readonly #attributes: Attributes

  constructor(context: VfsContext, attributes: Attributes) {
    this.#context = context
    this.#attributes = attributes
  }

  async open(caller: Caller, ino: number, flags: number, isPinned: boolean): Promise<Opened> {
    this.#checkOpen(flags)
    const { states, meta } = this.#context
    const state = states.enter(ino)
    try {
      const { attr } = await this.#asked(state, flags, keepsSetid(caller), isPinned)
      try {
        if (attr.type !== 'file') throw notAFile(attr)
        return await this.#opened(state, attr, flags, caller)
      } catch (error) {
        meta.close(ino)
        throw error
      }
    } catch (error) {
      states.leave(state)
      throw error
    }
  }

  /** Registered as an open file is, whatever its type. */
  async pin(ino: number): Promise<void> {
    const { meta, dentries } = this.#context
    try {
      const { attr } = await this.#openInStore(ino)
      if (attr.nlink > 0) return
      meta.close(ino)
      throw new PosixError('ENOENT', 'the inode has no name any more')
    } catch (error) {
      // The next lookup asks the store.
      if (isErrno(error, 'ENOENT')) dentries.dropNamesOf(ino)
      throw error
    }
  }

  unpin(ino: number): void {
    this.#context.meta.close(ino)
  }

  /** One round trip for a new file. An existing one is opened, unless O_EXCL says otherwise. */
  async create(caller: Caller, parent: number, name: Buffer, mode: number, flags: number): Promise<CreatedFile> {
    this.#checkOpen(flags)
    checkEntry(name, 'EISDIR', 'EISDIR')
    const { meta, attrs, extents, fresh, states, tail } = this.#context
    const inode = { type: 'file', mode: mode & MODE_BITS, ...ownerOf(caller) } as const
    const options = { exclusive: (flags & O_EXCL) !== 0, open: true }
    const [mark, before] = [fresh.mark(), tail.mark()]
    const { attr, created } = await changeNames(
      this.#context,
      [{ parent, name }],
      (saw) => meta.create(parent, name, inode, options, saw),
      (reply) => [reply.attr.ino],
    )
    if (attr.type !== 'file') throw notAFile(attr)
    attrs.put(attr, mark)
    extents.atVersion(attr, mark)
    const state = states.enter(attr.ino)
    try {
      if (created) {
        state.isNew = true
        tail.made(attr.ino, before)
      }
      const cut = !created && (flags & O_TRUNC) !== 0
      const now = cut ? await this.#attributes.set(caller, attr.ino, { sizeBytes: 0 }) : attr
      const { attr: shown, handle, atimeDue, needsNoFlush } = await this.#opened(state, now, flags, caller)
      return { attr: shown, handle, atimeDue, needsNoFlush, created }
    } catch (error) {
      meta.close(attr.ino)
      states.leave(state)
      throw error
    }
  }

  async tmpfile(caller: Caller, parent: number, mode: number, flags: number): Promise<Opened> {
    this.#checkOpen(flags)
    const { meta, attrs, extents, fresh, states, tail } = this.#context
    const [mark, before] = [fresh.mark(), tail.mark()]
    const attr = await meta.tmpfile(parent, { type: 'file', mode: mode & MODE_BITS, ...ownerOf(caller) })
    tail.made(attr.ino, before)
    attrs.put(attr, mark)
    extents.atVersion(attr, mark)
    const state = states.enter(attr.ino)
    try {
      return await this.#opened(state, attr, flags, caller)
    } catch (error) {
      meta.close(attr.ino)
      states.leave(state)
      throw error
    }
  }

  async read(handle: number, offset: number, lengthBytes: number): Promise<Buffer> {
    const { file, seen } = await this.#toRead(handle, offset, lengthBytes)
    return await this.#context.reader.read(file, offset, lengthBytes, seen)
  }

  async readPieces(handle: number, offset: number, lengthBytes: number): Promise<readonly Buffer[]> {
    const { file, seen } = await this.#toRead(handle, offset, lengthBytes)
    return await this.#context.reader.readPieces(file, offset, lengthBytes, seen)
  }

  /** The file, and what is to be told of it when it was read. */
  async #toRead(
    handle: number,
    offset: number,
    lengthBytes: number,
  ): Promise<{ readonly file: FileHandle; readonly seen: (attr: Attr) => void }> {
    const file = this.#context.handles.file(handle)
    if (!file.readable) throw new PosixError('EBADF', 'not open for reading')
    checkRange(offset, lengthBytes)
    if (lengthBytes > this.#context.limits.readBytes) {
      throw new PosixError('EINVAL', `a read has at most ${this.#context.limits.readBytes} bytes`)
    }
    if (!this.#context.locks.isSure(file)) await this.#context.locks.confirm(file)
    const counts = lengthBytes > 0 && !file.noAtime
    const seen = (attr: Attr): void => {
      if (counts) this.#attributes.accessed(attr)
    }
    return { file, seen }
  }

  async write(handle: number, offset: number, data: Uint8Array, settings: WriteSettings = {}): Promise<number> {
    const file = this.#context.handles.file(handle)
    const { flags = file.flags } = settings
    if (!file.writable) throw new PosixError('EBADF', 'not open for writing')
    file.reportFull()
    if (data.length === 0) return 0
    const isAppend = (flags & O_APPEND) !== 0
    const { clock, locks } = this.#context
    const taken = fitting(isAppend ? this.#knownEnd(file.state) : offset, data)
    if (!locks.isSure(file)) await locks.confirm(file)
    await file.state.settled()
    const info = {
      mtime: clock.now(),
      clearSuid: file.clearSuid,
      durability: settings.durability ?? this.#context.durability,
    }
    if (isAppend) await file.state.writer.append(taken, info)
    else await file.state.writer.write(offset, taken, info)
    this.#context.early.wrote(file.state, offset + taken.length)
    if ((flags & O_DSYNC) !== 0) await this.#sync(file)
    return taken.length
  }

  /** Where the next append goes, if no other client has made one; 0 where that is not known. */
  #knownEnd({ ino, writer }: InodeState): number {
    const size = this.#context.attrs.peek(ino)?.sizeBytes ?? 0
    return writer.view()?.sizeOver(size) ?? size
  }

  async writeBack(handle: number, offset: number, data: Uint8Array): Promise<number> {
    const file = this.#context.handles.file(handle)
    const { state } = file
    if (data.length === 0) return 0
    const taken = fitting(offset, data)
    const { clock, durability, locks } = this.#context
    if (!locks.isSure(file)) await locks.confirm(file)
    await state.settled()
    await state.writer.write(offset, taken, { mtime: clock.now(), clearSuid: false, durability })
    return taken.length
  }

  async flush(handle: number, owner?: string): Promise<void> {
    const file = this.#context.handles.file(handle)
    this.#context.early.flushed(file.state)
    await file.state.writer.flush()
    if (owner !== undefined) await this.#context.locks.closed(file.state.ino, owner)
    file.report()
  }

  async fsync(handle: number): Promise<void> {
    await this.#sync(this.#context.handles.file(handle))
  }

  /** After a change through a handle with O_SYNC or O_DSYNC. */
  async synced(handle: number): Promise<void> {
    const file = this.#context.handles.file(handle)
    if (file.sync) await this.#sync(file)
  }

  /** The handle is gone whatever happens. What nobody was told is thrown last, and told again by the next fsync: nobody hears a release. */
  async release(handle: number): Promise<void> {
    const file = this.#context.handles.file(handle)
    await this.#context.locks.releasing(file.state.ino, () => this.#release(handle, file))
  }

  async #release(handle: number, file: FileHandle): Promise<void> {
    const { handles, states, meta, extents, locks } = this.#context
    handles.remove(handle)
    try {
      await file.state.writer.flush()
      await locks.released(file.state.ino, handle)
      extents.closed(file.state.ino)
      if (file.state.users === 1) this.#context.atimes.closed(file.state.ino)
    } finally {
      meta.close(file.state.ino)
      states.leave(file.state)
    }
    const failure = file.unreported
    if (failure !== null) throw failure
  }

  /** Data and metadata are as durable as the volume promises. The size and the extents are metadata: dataOnly needs them too. */
  async #sync(file: FileHandle): Promise<void> {
    const { writer, ino } = file.state
    this.#context.early.flushed(file.state)
    await writer.flush(true)
    file.reportUnseen()
    await this.#context.uploader.unsynced.sync(ino)
    try {
      await this.#context.sync()
    } finally {
      // What the store has lost, whoever found it: told once, and not again for the failure of this sync.
      file.reportUnseen()
      this.#context.tail.report(ino)
    }
  }

  #checkOpen(flags: number): void {
    if ((flags & O_ACCMODE) === O_ACCMODE) throw new PosixError('EINVAL', 'no such access mode')
    this.#context.handles.checkRoom()
  }

  async #opened(state: InodeState, attr: Attr, flags: number, caller: Caller): Promise<Opened> {
    const shown = await this.#attributes.complete(attr)
    const file = new FileHandle(state, flags, clearsByItself(caller))
    const atimeDue = file.readable && !file.noAtime && this.#context.atimes.isDue(shown)
    const needsNoFlush = !file.writable && !this.#context.locks.wasUsed(attr.ino)
    return { attr: shown, handle: this.#context.handles.addFile(file), atimeDue, needsNoFlush }
  }

  /**
   * A name that was cached here may have been given to another file, or to none, a moment ago, and the event be on its way
   * still. ESTALE has the kernel look the name up again. A file that is open here may have lost its name rightly
   * (/proc/self/fd), unless a name is still cached for it; one that is pinned has lost it since the kernel was led to it.
   */
  async #asked(state: InodeState, flags: number, keepsSetid: boolean, isPinned: boolean): Promise<OpenReply> {
    const { meta, dentries } = this.#context
    const { ino } = state
    const wasOpen = state.users > 1
    const truncate = (flags & O_TRUNC) !== 0
    try {
      const reply = truncate
        ? await state.exclusive(() => state.writer.barrier(() => this.#openTruncated(ino, keepsSetid)))
        : await this.#openInStore(ino)
      if (reply.attr.nlink > 0) return reply
      const wasNamed = dentries.dropNamesOf(ino)
      if (isPinned || (!wasNamed && wasOpen)) return reply
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      dentries.dropNamesOf(ino)
      throw new PosixError('ESTALE', 'the file is gone', { cause: error })
    }
    meta.close(ino)
    throw new PosixError('ESTALE', 'the file has no name any more')
  }

  /** What another client closed before must be seen: the store is asked, unless nobody else can have changed the file. */
  async #openInStore(ino: number): Promise<OpenReply> {
    const { meta, fresh, attrs, extents } = this.#context
    const known = attrs.peek(ino)
    if (known?.type === 'file' && known.nlink > 0 && !fresh.isChanging(ino) && meta.openHeld(ino)) {
      extents.atVersion(known, fresh.mark())
      return { attr: known }
    }
    const mark = fresh.mark()
    const have = extents.versionOf(ino, 0)
    const reply = await meta.open(ino, { truncate: false, ...(have === undefined ? {} : { have }) })
    attrs.put(reply.attr, mark)
    extents.atVersion(reply.attr, mark)
    if (reply.window0 !== undefined) extents.put(reply.attr, reply.window0, mark)
    return reply
  }

  async #openTruncated(ino: number, keepsSetid: boolean): Promise<OpenReply> {
    const { meta, fresh, extents } = this.#context
    const options = { truncate: true, dropPrivileges: !keepsSetid }
    const attr = await this.#context.mutate(ino, async () => (await meta.open(ino, options)).attr)
    extents.drop(ino)
    extents.atVersion(attr, fresh.mark())
    this.#context.states.peek(ino)?.writer.forgetTimes()
    return { attr }
  }
}

/** What of a write lies below the largest size, as write(2) does it. */
function fitting(offset: number, data: Uint8Array): Uint8Array {
  checkRange(offset, data.length)
  const room = FILE_MAX_BYTES - offset
  if (room === 0) throw new PosixError('EFBIG', `beyond ${FILE_MAX_BYTES} bytes`)
  return data.length > room ? data.subarray(0, room) : data
}

/** A driver that tells of CAP_FSETID says itself which write takes set-id bits away: the writer need not be who opened. */
function clearsByItself({ uid, keepsSetid }: Caller): boolean {
  return keepsSetid === undefined && uid !== 0
}

/** What open(2) answers for what is no regular file and reaches a filesystem anyway. */
function notAFile(attr: Attr): PosixError {
  if (attr.type === 'directory') return new PosixError('EISDIR', 'it is a directory')
  if (attr.type === 'symlink') return new PosixError('ELOOP', 'it is a symbolic link')
  return new PosixError('ENXIO', `a ${attr.type} is opened by the kernel`)
}
