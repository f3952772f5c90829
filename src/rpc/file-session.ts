/** What the parts of the file client share: the channel, the deadline, and checks of what the caller gives. */
import { PosixError } from '../base/errno.js'
import { FILE_MAX_BYTES } from '../base/limits.js'
import type { RpcChannel, TypedReply } from './channel.js'
import type { Method } from './method.js'

/** Bytes of one read or write request: large enough to fill a connection, small enough to run many at once. */
export const IO_BYTES = 1024 * 1024

/** A path in the volume: UTF-8 text, or bytes where names are not UTF-8. */
export type PathLike = string | Buffer

export interface CallSettings {
  readonly signal?: AbortSignal
}

export class FileSession {
  readonly channel: RpcChannel
  readonly #deadlineMs: number

  constructor(channel: RpcChannel, deadlineMs: number) {
    this.channel = channel
    this.#deadlineMs = deadlineMs
  }

  call<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    settings: CallSettings = {},
    payload: readonly Uint8Array[] = [],
  ): Promise<TypedReply<Reply>> {
    const { signal } = settings
    return this.channel.call(method, request, payload, { deadlineMs: this.#deadlineMs, ...(signal && { signal }) })
  }

  /** A handle ended with the connection that opened it. Errors: EBADF. */
  checkGeneration(generation: number): void {
    if (generation !== this.channel.generation) {
      throw new PosixError('EBADF', 'the connection was lost and the handle with it: open again')
    }
  }
}

/** Errors: EINVAL. */
export function bytesOf(path: PathLike): Buffer {
  if (typeof path === 'string') return Buffer.from(path)
  if (Buffer.isBuffer(path)) return path
  throw new PosixError('EINVAL', 'a path is a string or a Buffer')
}

/** Errors: EINVAL, and EFBIG beyond the largest file. */
export function checkRange(offset: number, lengthBytes: number): void {
  for (const value of [offset, lengthBytes]) {
    if (!Number.isInteger(value) || value < 0) throw new PosixError('EINVAL', `not an offset or length: ${value}`)
  }
  if (offset + lengthBytes > FILE_MAX_BYTES) throw new PosixError('EFBIG')
}

/**
 * Runs jobs with at most `width` at once. The first failure is the result: nothing is started after it, and it is thrown
 * only when what was started has ended, so that no job still uses its buffers.
 */
export class Window {
  readonly #width: number
  readonly #running = new Set<Promise<void>>()
  #failure: Error | null = null

  constructor(width: number) {
    this.#width = width
  }

  /** Settles when there is room for a next one. */
  async add(job: () => Promise<void>): Promise<void> {
    if (this.#failure !== null) return this.drain()
    const run = job()
      .catch((error: unknown) => {
        this.#failure ??= error instanceof Error ? error : new Error(String(error))
      })
      .finally(() => this.#running.delete(run))
    this.#running.add(run)
    while (this.#running.size >= this.#width) await Promise.race(this.#running)
    await this.#stopped()
  }

  async #stopped(): Promise<void> {
    if (this.#failure !== null) await this.drain()
  }

  async drain(): Promise<void> {
    await Promise.all(this.#running)
    if (this.#failure !== null) throw this.#failure
  }
}
