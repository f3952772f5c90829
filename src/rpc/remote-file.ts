/** An open file on the other side. */
import { PosixError } from '../base/errno.js'
import type { TimeSpec } from '../base/clock.js'
import { CHUNK_MAX_BYTES } from '../base/limits.js'
import { checkRange, IO_BYTES, Window, type CallSettings, type FileSession } from './file-session.js'
import { join } from './frame.js'
import {
  FILE_CLOSE,
  FILE_READ,
  FILE_SETATTR,
  FILE_STAT,
  FILE_SYNC,
  FILE_WRITE,
  type FileStat,
  type SetattrRequest,
  type Target,
  type WriteDurability,
} from './messages-file.js'
import { OPEN_FLAG } from './open-flags.js'

export interface WriteSettings extends CallSettings {
  /** How many owners must have the data before a sync or close succeeds; without it as the server is set. */
  readonly durability?: WriteDurability
}

export type TimeChange = TimeSpec | Date | 'now'

/** Requests of one read or write that are in flight at once. */
const PARALLEL = 8

/** Every method throws PosixError for what the file system refuses, RingfsError for what happens to the connection. */
export class RemoteFile {
  /** As it was when the file was opened. */
  readonly opened: FileStat
  readonly #session: FileSession
  readonly #handle: number
  readonly #flags: number
  readonly #generation: number
  #closed = false

  constructor(session: FileSession, handle: number, opened: FileStat, flags: number) {
    this.#session = session
    this.#handle = handle
    this.#flags = flags
    this.#generation = session.channel.generation
    this.opened = opened
  }

  /** Short only at the end of the file. */
  async read(offset: number, lengthBytes: number, settings: CallSettings = {}): Promise<Buffer> {
    checkRange(offset, lengthBytes)
    if (lengthBytes <= IO_BYTES) return this.#readPiece(offset, lengthBytes, settings)
    const pieces: Buffer[] = []
    const window = new Window(PARALLEL)
    for (let at = 0; at < lengthBytes; at += IO_BYTES) {
      const index = at / IO_BYTES
      const bytes = Math.min(IO_BYTES, lengthBytes - at)
      await window.add(async () => {
        pieces[index] = await this.#readPiece(offset + at, bytes, settings)
      })
      // The end of the file was met: what lies behind is not asked for.
      if (index >= PARALLEL && (pieces[index - PARALLEL]?.length ?? IO_BYTES) < IO_BYTES) break
    }
    await window.drain()
    return Buffer.concat(untilShort(pieces))
  }

  /** With O_APPEND the offset is ignored, and up to CHUNK_MAX_BYTES are appended in one piece. All of `data` is written. */
  async write(offset: number, data: Uint8Array, settings: WriteSettings = {}): Promise<void> {
    const append = (this.#flags & OPEN_FLAG.O_APPEND) !== 0
    checkRange(append ? 0 : offset, data.length)
    const pieceBytes = append ? CHUNK_MAX_BYTES : IO_BYTES
    if (data.length <= pieceBytes) return this.#writePiece(offset, data, settings)
    const window = new Window(append ? 1 : PARALLEL)
    for (let at = 0; at < data.length; at += pieceBytes) {
      await window.add(() => this.#writePiece(offset + at, data.subarray(at, at + pieceBytes), settings))
    }
    await window.drain()
  }

  async truncate(sizeBytes: number, settings: CallSettings = {}): Promise<void> {
    checkRange(sizeBytes, 0)
    await this.#setattr({ sizeBytes }, settings)
  }

  async chmod(mode: number): Promise<void> {
    await this.#setattr({ mode })
  }

  async utimes(atime: TimeChange, mtime: TimeChange): Promise<void> {
    await this.#setattr({ atime: timeOf(atime), mtime: timeOf(mtime) })
  }

  async stat(settings: CallSettings = {}): Promise<FileStat> {
    this.#check()
    return (await this.#session.call(FILE_STAT, this.#target(), settings)).reply
  }

  /** As fsync(2), or fdatasync(2) with dataOnly. */
  async sync(dataOnly = false, settings: CallSettings = {}): Promise<void> {
    this.#check()
    await this.#session.call(FILE_SYNC, { handle: this.#handle, dataOnly }, settings)
  }

  /** Throws what the file system could not write, once; the handle is gone in any case. A second close does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#check()
    this.#closed = true
    await this.#session.call(FILE_CLOSE, { handle: this.#handle })
  }

  /** `await using file = …` */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #readPiece(offset: number, lengthBytes: number, settings: CallSettings): Promise<Buffer> {
    this.#check()
    return join((await this.#session.call(FILE_READ, { handle: this.#handle, offset, lengthBytes }, settings)).payload)
  }

  async #writePiece(offset: number, data: Uint8Array, { durability, ...settings }: WriteSettings): Promise<void> {
    this.#check()
    const request = { handle: this.#handle, offset, ...(durability && { durability }) }
    const { reply } = await this.#session.call(FILE_WRITE, request, settings, data.length === 0 ? [] : [data])
    if (reply.writtenBytes !== data.length) throw new PosixError('EIO', `only ${reply.writtenBytes} bytes were taken`)
  }

  async #setattr(change: Omit<SetattrRequest, 'target'>, settings: CallSettings = {}): Promise<void> {
    this.#check()
    await this.#session.call(FILE_SETATTR, { target: this.#target(), ...change }, settings)
  }

  #target(): Target {
    return { handle: this.#handle, path: NO_PATH, noFollow: false }
  }

  #check(): void {
    if (this.#closed) throw new PosixError('EBADF', 'the file is closed')
    this.#session.checkGeneration(this.#generation)
  }
}

const NO_PATH = Buffer.alloc(0)

/** The pieces up to the first that is not full: a file that shrinks meanwhile leaves no gap in the middle. */
function untilShort(pieces: readonly Buffer[]): readonly Buffer[] {
  const short = pieces.findIndex((piece) => piece.length < IO_BYTES)
  return short < 0 ? pieces : pieces.slice(0, short + 1)
}

export function timeOf(time: TimeChange): TimeSpec | 'now' {
  if (!(time instanceof Date)) return time
  const sec = Math.floor(time.getTime() / 1000)
  if (!Number.isSafeInteger(sec)) throw new PosixError('EINVAL', 'not a date')
  return { sec, nsec: (time.getTime() - sec * 1000) * 1_000_000 }
}
