/** Open files and directories of this mount, by the number that drivers know them by. Numbers are never used twice. */
import { PosixError } from '../base/errno.js'
import type { DirectoryStream } from './directory.js'
import { O_ACCMODE, O_APPEND, O_DSYNC, O_NOATIME, O_RDONLY, O_RDWR, O_WRONLY } from './flags.js'
import type { InodeState } from './inode-state.js'
import { ReadAhead } from './readahead.js'

export class FileHandle {
  readonly state: InodeState
  /** As given to open(2). */
  readonly flags: number
  readonly readable: boolean
  readonly writable: boolean
  readonly append: boolean
  /** O_NOATIME: what is read through it leaves the access time. */
  readonly noAtime: boolean
  /** O_SYNC or O_DSYNC: each write is followed by an fsync. */
  readonly sync: boolean
  /** Its writes take set-id bits away. */
  readonly clearSuid: boolean
  readonly readAhead = new ReadAhead()
  /** Locks on its inode were lost while it was open: locks.ts. */
  lostLocks = false
  /** Failures of the writer that this handle has reported, by fsync, by close and by write. */
  reported: number
  reportedByClose: number
  reportedByWrite: number

  constructor(state: InodeState, flags: number, clearSuid: boolean) {
    const access = flags & O_ACCMODE
    this.state = state
    this.flags = flags
    this.readable = access === O_RDONLY || access === O_RDWR
    this.writable = access === O_WRONLY || access === O_RDWR
    this.noAtime = (flags & O_NOATIME) !== 0
    this.append = (flags & O_APPEND) !== 0
    this.sync = (flags & O_DSYNC) !== 0
    this.clearSuid = clearSuid
    this.reported = this.reportedByClose = this.reportedByWrite = state.writer.failures
  }

  /** There is a failure that no fsync has reported. */
  get hasFailure(): boolean {
    return this.#failureSince(this.reported) !== null
  }

  /** A failure of writing that this handle has not reported yet. */
  get unreported(): PosixError | null {
    return this.#failureSince(Math.max(this.reported, this.reportedByClose))
  }

  /**
   * For a close: throws it, each time until an fsync has. The descriptor may be one of several of this open file, and nobody hears what the
   * close of one says that a process left open when it ended, or ran another program.
   */
  report(): void {
    const failure = this.#failureSince(this.reported)
    if (failure === null) return
    this.reportedByClose = this.reportedByWrite = this.state.writer.failures
    this.state.writer.seen()
    throw failure
  }

  /** For an fsync: throws it, once; also one of before this was opened, if nobody was told. */
  reportUnseen(): void {
    const failure = this.#failureSince(this.state.writer.isUnseen ? -1 : this.reported)
    if (failure === null) return
    this.reported = this.reportedByClose = this.reportedByWrite = this.state.writer.failures
    this.state.writer.seen()
    throw failure
  }

  #failureSince(told: number): PosixError | null {
    const { failures, failure } = this.state.writer
    if (failures === told || failure === null) return null
    return new PosixError(failure.code, 'written data was lost', { cause: failure })
  }

  /**
   * A full store is told to the next write, too, once, so that a copy ends there and not at its end; fsync and close still
   * report it.
   */
  reportFull(): void {
    const { failures, failure } = this.state.writer
    if (failures === this.reportedByWrite || failure === null) return
    this.reportedByWrite = failures
    if (failure.code === 'ENOSPC' || failure.code === 'EDQUOT') {
      throw new PosixError(failure.code, 'written data was lost', { cause: failure })
    }
  }
}

export class Handles {
  readonly #max: number
  readonly #files = new Map<number, FileHandle>()
  readonly #directories = new Map<number, DirectoryStream>()
  #next = 1

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#files.size + this.#directories.size
  }

  /** Throws EMFILE when there are too many: ask before the open is registered anywhere. */
  checkRoom(): void {
    if (this.size >= this.#max) throw new PosixError('EMFILE', `${this.#max} handles are open`)
  }

  addFile(file: FileHandle): number {
    const handle = this.#next++
    this.#files.set(handle, file)
    return handle
  }

  addDirectory(stream: DirectoryStream): number {
    const handle = this.#next++
    this.#directories.set(handle, stream)
    return handle
  }

  /** Throws EBADF. */
  file(handle: number): FileHandle {
    const file = this.#files.get(handle)
    if (file === undefined) throw new PosixError('EBADF', `no open file ${handle}`)
    return file
  }

  peekFile(handle: number): FileHandle | undefined {
    return this.#files.get(handle)
  }

  /** Throws EBADF. */
  directory(handle: number): DirectoryStream {
    const stream = this.#directories.get(handle)
    if (stream === undefined) throw new PosixError('EBADF', `no open directory ${handle}`)
    return stream
  }

  files(): [number, FileHandle][] {
    return [...this.#files]
  }

  directories(): Iterable<DirectoryStream> {
    return this.#directories.values()
  }

  remove(handle: number): void {
    this.#files.delete(handle)
    this.#directories.delete(handle)
  }
}
