/**
 * One connection as both sides see it: frames in through the parser, frames out through a bounded queue.
 *
 * Output goes to the socket in batches, a tick's frames in one writev, and only as far as the socket keeps up: what is
 * not handed over yet can still be withdrawn, and never more than OUTPUT_BATCH_BYTES plus a frame is.
 *
 * A peer that takes nothing of what is written for `stallMs` is given up, and one that sends nothing for so long in the middle of a frame:
 * there is memory for the rest of it.
 */
import type { Socket } from 'node:net'
import { RingfsError } from '../base/errors.js'
import { KIB } from '../base/limits.js'
import { attachSink } from './feed.js'
import { FrameParser, totalBytes, type Frame, type LandFrame } from './frame.js'

const OUTPUT_BATCH_BYTES = 512 * KIB
const LINGER_MS = 1000

export interface FrameSocketOptions {
  readonly onFrame: (frame: Frame) => void
  /** Memory for the payload of a frame that begins; null: the parser's own. */
  readonly land?: LandFrame
  /** Once. null: the peer or this side ended it between two frames. */
  readonly onClose: (error: RingfsError | null) => void
  /** Bytes that are no frame. It must destroy or refuse; without it the connection is destroyed. */
  readonly onBad?: (error: RingfsError) => void
  readonly stallMs: number
  /** Stop reading while more than this waits to be written; Infinity never. Only one side of a connection may set it. */
  readonly pauseAboveBytes: number
}

/** A frame on its way out. */
export interface Outgoing {
  readonly head: Buffer
  readonly payload: readonly Uint8Array[]
  readonly bytes: number
  /** The kernel has it all: the payload may change again. */
  readonly onFlushed: (() => void) | null
}

export class FrameSocket {
  readonly #socket: Socket
  readonly #options: FrameSocketOptions
  readonly #parser: FrameParser
  readonly #queue = new Set<Outgoing>()
  #queuedBytes = 0
  /** Handed to the socket, not flushed. */
  #writingBytes = 0
  #flushScheduled = false
  #flushedFrames = 0
  #stallTimer: NodeJS.Timeout | null = null
  #arrivalTimer: NodeJS.Timeout | null = null
  #paused = false
  /** How often nothing was read for a while. */
  #pauses = 0
  #ending: 'no' | 'drain' | 'leave' = 'no'
  #error: RingfsError | null = null
  closed = false
  /** Counts what was received, so that a silent peer can be told from a slow one. */
  receivedBytes = 0

  constructor(socket: Socket, options: FrameSocketOptions) {
    this.#socket = socket
    this.#options = options
    this.#parser = new FrameParser(options.onFrame, options.land)
    const fed = attachSink(socket, {
      room: () => (this.#error === null ? this.#parser.room() : null),
      landed: (bytes) => this.#receive(bytes, () => this.#parser.landed(bytes)),
      passing: (data) => this.#receive(data.length, () => this.#parser.push(data, 'passing')),
    })
    if (!fed) socket.on('data', (data: Buffer) => this.#receive(data.length, () => this.#parser.push(data)))
    socket.on('error', (error: Error) => {
      this.#error ??= new RingfsError('CONNECTION_LOST', `connection lost: ${error.message}`)
    })
    socket.on('close', () => this.#closed())
  }

  get pendingBytes(): number {
    return this.#queuedBytes + this.#writingBytes
  }

  send(head: Buffer, payload: readonly Uint8Array[] = [], onFlushed: (() => void) | null = null): Outgoing {
    const frame: Outgoing = { head, payload, bytes: head.length + totalBytes(payload), onFlushed }
    if (this.closed || this.#ending !== 'no') return frame
    this.#queue.add(frame)
    this.#queuedBytes += frame.bytes
    this.#schedule()
    this.#regulate()
    return frame
  }

  /** true: the peer will never see it. */
  withdraw(frame: Outgoing): boolean {
    if (!this.#queue.delete(frame)) return false
    this.#queuedBytes -= frame.bytes
    this.#regulate()
    return true
  }

  /** Sends what is queued, then ends the stream and waits for the peer to end its side. */
  end(): void {
    this.#finish('drain')
  }

  /** Sends what is queued, then closes: nothing that the peer may still send is of interest. */
  leave(): void {
    this.#finish('leave')
  }

  #finish(how: 'drain' | 'leave'): void {
    if (this.#ending !== 'no') return
    this.#ending = how
    if (this.pendingBytes === 0) this.#finishSocket()
  }

  #finishSocket(): void {
    if (this.#ending === 'leave') this.#socket.destroySoon()
    else this.#socket.end()
  }

  destroy(error: RingfsError | null): void {
    this.#error ??= error
    this.#socket.destroy()
  }

  /**
   * Sends a last frame that tells the peer why, and ends. What the peer still sends is dropped unread for a while:
   * closing on unread data would reset the connection and take the last frame with it.
   */
  refuse(head: Buffer, error: RingfsError): void {
    if (this.#error !== null || this.#ending !== 'no') {
      this.destroy(error)
      return
    }
    this.#error = error
    this.send(head)
    this.end()
    setTimeout(() => this.#socket.destroy(), LINGER_MS).unref()
  }

  #receive(bytes: number, parse: () => void): void {
    this.receivedBytes += bytes
    if (this.#error !== null) return
    try {
      parse()
      if (!this.#parser.idle) this.#watchArrival()
    } catch (error) {
      const failure =
        error instanceof RingfsError ? error : new RingfsError('INTERNAL', String(error), { cause: error })
      if (this.#options.onBad === undefined) this.destroy(failure)
      else this.#options.onBad(failure)
    }
  }

  #closed(): void {
    this.closed = true
    if (this.#stallTimer !== null) clearTimeout(this.#stallTimer)
    if (this.#arrivalTimer !== null) clearTimeout(this.#arrivalTimer)
    this.#parser.abandon()
    const cut = this.#parser.idle
      ? null
      : new RingfsError('CONNECTION_LOST', 'connection lost in the middle of a frame')
    this.#options.onClose(this.#error ?? cut)
  }

  #schedule(): void {
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    process.nextTick(() => {
      this.#flushScheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.closed || this.#queue.size === 0 || this.#writingBytes >= OUTPUT_BATCH_BYTES) return
    this.#socket.cork()
    for (const frame of this.#queue) {
      if (this.#writingBytes >= OUTPUT_BATCH_BYTES) break
      this.#queue.delete(frame)
      this.#queuedBytes -= frame.bytes
      this.#writingBytes += frame.bytes
      this.#write(frame)
    }
    this.#socket.uncork()
    this.#watchStall()
  }

  #write(frame: Outgoing): void {
    const done = (error?: Error | null): void => this.#flushed(frame, error ?? null)
    const last = frame.payload.length - 1
    if (last < 0) {
      this.#socket.write(frame.head, done)
      return
    }
    this.#socket.write(frame.head)
    for (let i = 0; i < last; i++) this.#socket.write(frame.payload[i] ?? EMPTY)
    this.#socket.write(frame.payload[last] ?? EMPTY, done)
  }

  #flushed(frame: Outgoing, error: Error | null): void {
    this.#writingBytes -= frame.bytes
    this.#flushedFrames++
    if (error !== null) return
    frame.onFlushed?.()
    if (this.#queue.size > 0) this.#schedule()
    else if (this.#ending !== 'no' && this.#writingBytes === 0) this.#finishSocket()
    this.#regulate()
  }

  #regulate(): void {
    const above = this.pendingBytes > this.#options.pauseAboveBytes
    if (above === this.#paused) return
    this.#paused = above
    if (above) this.#pauses++
    if (above) this.#socket.pause()
    else this.#socket.resume()
  }

  #watchArrival(): void {
    if (this.#arrivalTimer !== null || this.closed) return
    const [received, pauses] = [this.receivedBytes, this.#pauses]
    this.#arrivalTimer = setTimeout(() => {
      // What came while this process stood still is read first.
      setImmediate(() => {
        this.#arrivalTimer = null
        if (this.closed || this.#parser.idle) return
        if (this.receivedBytes !== received || this.#pauses !== pauses || this.#paused) this.#watchArrival()
        else {
          const why = `nothing came for ${this.#options.stallMs} ms in the middle of a frame`
          this.destroy(new RingfsError('CONNECTION_LOST', why))
        }
      })
    }, this.#options.stallMs).unref()
  }

  #watchStall(): void {
    if (this.#stallTimer !== null || this.#writingBytes === 0) return
    const before = this.#flushedFrames
    this.#stallTimer = setTimeout(() => {
      this.#stallTimer = null
      if (this.#writingBytes > 0 && this.#flushedFrames === before) {
        this.destroy(new RingfsError('CONNECTION_LOST', `the peer took no data for ${this.#options.stallMs} ms`))
      } else this.#watchStall()
    }, this.#options.stallMs).unref()
  }
}

const EMPTY = Buffer.alloc(0)
