/**
 * The calling side of one connection: many requests in flight, each with its own deadline.
 *
 * Invariants:
 * - Every call settles exactly once: with its reply, the peer's error, DEADLINE, CANCELLED, or the connection's end.
 * - When it has settled, nothing of this process reads the payload's buffers any more: a call that is given up while the
 *   socket still holds its bytes waits for the kernel to take them, at most FLUSH_GRACE_MS; then the connection goes.
 * - With nothing outstanding there are no timers.
 */
import type { Socket } from 'node:net'
import type { CancelSignal } from '../base/cancel.js'
import { RingfsError } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import {
  DEADLINE_MAX_MS,
  KIND,
  REQUEST_ID_MAX,
  encodeHead,
  totalBytes,
  type Frame,
  type Landing,
  type PayloadMemory,
  type Preamble,
} from './frame.js'
import { FrameSocket, type Outgoing } from './frame-socket.js'
import type { ClientLimits } from './limits.js'
import { decodeError } from './wire-errors.js'

const FLUSH_GRACE_MS = 1000

export interface RpcCallOptions {
  /** Milliseconds from now until the call fails with DEADLINE; above 0. */
  readonly deadlineMs: number
  /** Aborted: the call fails with CANCELLED, and the server is told. */
  readonly signal?: CancelSignal | undefined
  /** Where a long payload of the reply may land. Then the caller calls the reply's `release` when it is done with it. */
  readonly memory?: PayloadMemory
}

export interface RpcReply {
  readonly header: Buffer
  readonly payload: readonly Buffer[]
  /** Idempotent; to be called only by those who gave `memory`. */
  readonly release: () => void
}

interface Call {
  readonly id: number
  readonly bytes: number
  readonly options: RpcCallOptions
  readonly resolve: (reply: RpcReply) => void
  readonly reject: (error: Error) => void
  readonly head: Buffer
  readonly payload: readonly Uint8Array[]
  timer: NodeJS.Timeout | null
  onAbort: (() => void) | null
  /** Set when it has left the waiting line. */
  sent: Outgoing | null
  flushed: boolean
  /** Given up, and waiting for the socket to let go of the payload. */
  failure: Error | null
}

export class RpcConnection {
  readonly #wire: FrameSocket
  readonly #limits: ClientLimits
  readonly #peer: string
  readonly #onClose: () => void
  /** Waiting for room in flight, in order. */
  readonly #waiting = new Set<Call>()
  readonly #inFlight = new Map<number, Call>()
  #inFlightBytes = 0
  #lastId = 0
  #aliveTimer: NodeJS.Timeout | null = null
  #failure: RingfsError | null = null
  #closing = false
  closed = false

  constructor(socket: Socket, peer: string, limits: ClientLimits, onClose: () => void) {
    this.#limits = limits
    this.#peer = peer
    this.#onClose = onClose
    this.#wire = new FrameSocket(socket, {
      onFrame: (frame) => this.#receive(frame),
      land: (frame) => this.#land(frame),
      onClose: (error) => this.#ended(error),
      stallMs: limits.stallMs,
      pauseAboveBytes: Infinity,
    })
  }

  /** Calls that have not settled. */
  get outstanding(): number {
    return this.#inFlight.size + this.#waiting.size
  }

  /**
   * Errors: what the server answers (PosixError, RingfsError), DEADLINE, CANCELLED, OVERLOADED (too many calls wait
   * here; nothing was sent), CONNECTION_LOST (it may or may not have been done), FRAME_TOO_LONG.
   * The payload must not change until the promise settles.
   */
  call(method: number, header: Uint8Array, payload: readonly Uint8Array[], options: RpcCallOptions): Promise<RpcReply> {
    if (this.closed || this.#closing) return Promise.reject(this.#failure ?? this.#lost('the connection is closed'))
    if (options.signal?.aborted === true) return Promise.reject(cancelled())
    if (this.#waiting.size >= this.#limits.maxWaiting) {
      return Promise.reject(new RingfsError('OVERLOADED', `${this.#waiting.size} calls wait for ${this.#peer} already`))
    }
    return new Promise((resolve, reject) => {
      const id = this.#nextId()
      const bytes = totalBytes(payload)
      const deadlineMs = Math.min(DEADLINE_MAX_MS, Math.max(1, Math.ceil(options.deadlineMs)))
      const head = encodeHead(KIND.request, id, header, bytes, method, deadlineMs)
      const call: Call = {
        ...{ id, bytes, options, resolve, reject, head, payload },
        ...{ timer: null, onAbort: null, sent: null, flushed: false, failure: null },
      }
      this.#watch(call)
      this.#waiting.add(call)
      this.#pump()
    })
  }

  /** No new calls; ends when those outstanding have settled. */
  close(): void {
    this.#closing = true
    if (this.outstanding === 0) this.#wire.leave()
  }

  destroy(error: RingfsError): void {
    this.#wire.destroy(error)
  }

  #watch(call: Call): void {
    const { deadlineMs, signal } = call.options
    call.timer = setTimeout(
      () =>
        this.#giveUp(call, new RingfsError('DEADLINE', `no answer from ${this.#peer} in ${Math.round(deadlineMs)} ms`)),
      Math.min(deadlineMs, TIMER_MAX_MS),
    )
    if (signal === undefined) return
    call.onAbort = () => this.#giveUp(call, cancelled())
    signal.addEventListener('abort', call.onAbort, { once: true })
  }

  #unwatch(call: Call): void {
    if (call.timer !== null) clearTimeout(call.timer)
    call.timer = null
    if (call.onAbort !== null) call.options.signal?.removeEventListener('abort', call.onAbort)
    call.onAbort = null
  }

  /** Moves calls from the waiting line into flight, as far as the limits allow. One always fits. */
  #pump(): void {
    for (const call of this.#waiting) {
      const room =
        this.#inFlight.size < this.#limits.maxInFlight &&
        (this.#inFlight.size === 0 || this.#inFlightBytes + call.bytes <= this.#limits.maxInFlightBytes)
      if (!room) return
      this.#waiting.delete(call)
      this.#inFlight.set(call.id, call)
      this.#inFlightBytes += call.bytes
      call.sent = this.#wire.send(call.head, call.payload, () => this.#flushed(call))
    }
    this.#keepAlive()
  }

  #flushed(call: Call): void {
    call.flushed = true
    if (call.failure !== null) this.#reject(call, call.failure)
  }

  #giveUp(call: Call, error: Error): void {
    if (call.failure !== null) return
    this.#unwatch(call)
    if (call.sent === null || this.#wire.withdraw(call.sent)) {
      this.#reject(call, error)
      return
    }
    this.#wire.send(encodeHead(KIND.cancel, call.id))
    if (call.flushed || call.bytes === 0) {
      this.#reject(call, error)
      return
    }
    call.failure = error
    call.timer = setTimeout(
      () => this.destroy(this.#lost('it takes no data, and a request in its way was given up')),
      FLUSH_GRACE_MS,
    )
  }

  #reject(call: Call, error: Error): void {
    this.#forget(call)
    call.reject(error)
  }

  #forget(call: Call): void {
    this.#unwatch(call)
    this.#waiting.delete(call)
    if (this.#inFlight.delete(call.id)) this.#inFlightBytes -= call.bytes
    if (this.#waiting.size > 0) this.#pump()
    if (this.#closing && this.outstanding === 0) this.#wire.leave()
  }

  #land({ id, payloadBytes }: Preamble): Landing | null {
    const memory = this.#inFlight.get(id)?.options.memory
    return memory === undefined || payloadBytes > memory.maxBytes ? null : memory.take(payloadBytes)
  }

  /** A reply that nobody waits for any more gives its memory back at once. */
  #receive(frame: Frame): void {
    if (!this.#settle(frame)) frame.release()
  }

  /** true: the frame went to a caller. */
  #settle(frame: Frame): boolean {
    if (frame.kind === KIND.pong) return false
    if (frame.kind !== KIND.reply && frame.kind !== KIND.error) {
      this.destroy(new RingfsError('FRAME_BAD', `bad frame: kind ${frame.kind} from a server`))
      return false
    }
    if (frame.id === 0) {
      this.destroy(connectionError(decodeErrorSafely(frame.header)))
      return false
    }
    // Unknown: the reply to a call that was given up.
    const call = this.#inFlight.get(frame.id)
    if (call === undefined) return false
    if (frame.kind === KIND.error) {
      this.#reject(call, call.failure ?? decodeErrorSafely(frame.header))
      return false
    }
    if (call.failure !== null) {
      this.#reject(call, call.failure)
      return false
    }
    this.#forget(call)
    call.resolve({ header: frame.header, payload: frame.payload, release: frame.release })
    return true
  }

  #ended(error: RingfsError | null): void {
    this.closed = true
    this.#failure = error ?? this.#lost(this.#whyClosed())
    if (this.#aliveTimer !== null) clearTimeout(this.#aliveTimer)
    const calls = [...this.#inFlight.values(), ...this.#waiting]
    this.#waiting.clear()
    for (const call of calls) this.#reject(call, call.failure ?? this.#failure)
    this.#onClose()
  }

  /** A TLS listener ends a connection without TLS before the first byte, and cannot say why. */
  #whyClosed(): string {
    const mute = this.#wire.receivedBytes === 0
    return mute ? 'it closed the connection without an answer: does it want a cluster key?' : 'it closed the connection'
  }

  /**
   * Two silent periods in a row with calls outstanding, the second after a ping, and the peer is taken for dead: its
   * kernel may be gone without a FIN. The second period also gives this process, if it was it that slept, time to read.
   */
  #keepAlive(): void {
    if (this.#aliveTimer !== null || this.outstanding === 0 || this.closed) return
    this.#armAlive(this.#wire.receivedBytes, false)
  }

  #armAlive(before: number, pinged: boolean): void {
    this.#aliveTimer = setTimeout(() => {
      this.#aliveTimer = null
      if (this.outstanding === 0) return
      const now = this.#wire.receivedBytes
      if (now !== before) {
        this.#armAlive(now, false)
        return
      }
      if (pinged) {
        this.destroy(this.#lost(`silent for ${2 * this.#limits.keepAliveMs} ms`))
        return
      }
      this.#wire.send(encodeHead(KIND.ping, this.#nextId()))
      this.#armAlive(now, true)
    }, this.#limits.keepAliveMs).unref()
  }

  #nextId(): number {
    invariant(this.outstanding < REQUEST_ID_MAX, 'there is always a free request id')
    do this.#lastId = this.#lastId === REQUEST_ID_MAX ? 1 : this.#lastId + 1
    while (this.#inFlight.has(this.#lastId))
    return this.#lastId
  }

  #lost(why: string): RingfsError {
    return new RingfsError('CONNECTION_LOST', `connection to ${this.#peer} lost: ${why}`)
  }
}

/** setTimeout takes 31 bits. */
const TIMER_MAX_MS = 2 ** 31 - 1

export function cancelled(): RingfsError {
  return new RingfsError('CANCELLED', 'the call was cancelled')
}

function decodeErrorSafely(header: Buffer): Error {
  try {
    return decodeError(header)
  } catch (error) {
    return error instanceof Error ? error : new RingfsError('FRAME_BAD', 'bad error message')
  }
}

function connectionError(error: Error): RingfsError {
  return error instanceof RingfsError ? error : new RingfsError('CONNECTION_LOST', error.message)
}
