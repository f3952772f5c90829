/**
 * One client as the server sees it.
 *
 * Bounds: a request counts from its arrival until its reply is with the kernel, so a client that does not read its
 * replies runs into maxInFlight; reply payload is reserved before it is made; and above pauseAboveBytes of output
 * nothing more is read. A handler's AbortSignal fires when the client cancels, when the deadline passes and when the
 * connection ends; a cancelled request gets no reply.
 */
import type { Socket } from 'node:net'
import { PosixError } from '../base/errno.js'
import { RingfsError, messageOf } from '../base/errors.js'
import { FrameSocket } from './frame-socket.js'
import { KIND, encodeHead, totalBytes, type Frame, type Landing, type PayloadMemory, type Preamble } from './frame.js'
import type { ServerLimits } from './limits.js'
import { ByteBudget } from './byte-budget.js'
import { encodeError } from './wire-errors.js'

/** What all connections of a server share. */
export interface ServerLoad {
  /** Payload of requests in work. */
  bytes: number
  /** Where long payloads of requests land; lent until the reply has been sent. */
  readonly memory: PayloadMemory | null
}

/** What a handler knows of its call. */
export interface CallContext {
  readonly connection: ServerConnection
  /** Milliseconds that the caller waits, counted from receipt; 0: no limit. */
  readonly deadlineMs: number
  /** The caller waits no more. Made when it is first asked for. */
  readonly signal: AbortSignal
  /** The caller has said that it waits no more, or is gone: the reply will not be sent. */
  readonly cancelled: boolean
  /**
   * Calls `undo` once if the caller says that it waits no more, also when the reply is on its way already, which it then drops. Answers what
   * is called when the caller has shown that it has the reply.
   */
  ifUnheard(undo: () => void): () => void
  /** Waits until the reply may hold so many bytes of payload; call it before making them, once. Errors: CANCELLED. */
  reserve(bytes: number): Promise<void>
}

export type RawHandler = (frame: Frame, context: CallContext) => Promise<RawReplyOut>

interface RawReplyOut {
  readonly header: Uint8Array
  readonly payload: readonly Uint8Array[]
  readonly onSent?: (() => void) | undefined
}

export class ServerConnection {
  readonly #wire: FrameSocket
  readonly #handlers: ReadonlyMap<number, RawHandler>
  readonly #limits: ServerLimits
  readonly #load: ServerLoad
  readonly #calls = new Map<number, ServerCall>()
  readonly #closeListeners = new Set<() => void>()
  /** By the ids of their calls: what is to be undone of replies that were never heard. */
  readonly #undos = new Map<number, () => void>()
  readonly replies: ByteBudget
  #inFlightBytes = 0
  #draining: (() => void) | null = null
  closed = false

  constructor(
    socket: Socket,
    handlers: ReadonlyMap<number, RawHandler>,
    limits: ServerLimits,
    load: ServerLoad,
    onClose: (error: RingfsError | null) => void,
  ) {
    this.#handlers = handlers
    this.#limits = limits
    this.#load = load
    this.replies = new ByteBudget(limits.maxReplyBytes)
    this.#wire = new FrameSocket(socket, {
      onFrame: (frame) => this.#receive(frame),
      land: (frame) => this.#land(frame),
      onClose: (error) => {
        this.#ended()
        onClose(error)
      },
      onBad: (error) => this.#refuse(error),
      stallMs: limits.stallMs,
      pauseAboveBytes: limits.pauseAboveBytes,
    })
  }

  /** Calls back once when the connection has ended; at once if it has. */
  onClose(listener: () => void): void {
    if (this.closed) listener()
    else this.#closeListeners.add(listener)
  }

  /** Lets requests in work finish, answers new ones with CONNECTION_LOST, then closes. */
  async drain(): Promise<void> {
    if (this.closed) return
    const gone = new Promise<void>((resolve) => this.onClose(resolve))
    const timer = setTimeout(() => this.#wire.destroy(null), this.#limits.drainMs)
    this.#draining = () => this.#wire.end()
    if (this.#calls.size === 0) this.#draining()
    await gone
    clearTimeout(timer)
  }

  #land({ kind, payloadBytes }: Preamble): Landing | null {
    const { memory } = this.#load
    return memory === null || kind !== KIND.request || payloadBytes > memory.maxBytes ? null : memory.take(payloadBytes)
  }

  #receive(frame: Frame): void {
    if (frame.kind === KIND.request) {
      this.#request(frame)
      return
    }
    if (frame.kind === KIND.cancel) {
      this.#calls.get(frame.id)?.cancel('the caller cancelled')
      this.#undo(frame.id)
      return
    }
    if (frame.kind === KIND.ping) {
      this.#wire.send(encodeHead(KIND.pong, frame.id))
      return
    }
    this.#refuse(new RingfsError('FRAME_BAD', `bad frame: kind ${frame.kind} from a client`))
  }

  /** As CallContext.ifUnheard. */
  ifUnheard(id: number, undo: () => void): () => void {
    this.#undos.set(id, undo)
    return () => {
      if (this.#undos.get(id) === undo) this.#undos.delete(id)
    }
  }

  #undo(id: number): void {
    const undo = this.#undos.get(id)
    this.#undos.delete(id)
    undo?.()
  }

  #request(frame: Frame): void {
    // The id is used again: its last call is settled.
    this.#undos.delete(frame.id)
    if (this.#calls.has(frame.id)) {
      frame.release()
      this.#refuse(new RingfsError('FRAME_BAD', `bad frame: request id ${frame.id} is in use`))
      return
    }
    const refusal = this.#refusal(frame)
    if (refusal !== null) {
      frame.release()
      this.#wire.send(encodeHead(KIND.error, frame.id, encodeError(refusal)))
      return
    }
    const call = new ServerCall(this, frame)
    this.#calls.set(frame.id, call)
    this.#inFlightBytes += frame.payloadBytes
    this.#load.bytes += frame.payloadBytes
    void this.#run(frame, call)
  }

  #refusal(frame: Frame): RingfsError | null {
    if (this.#draining !== null)
      return new RingfsError('CONNECTION_LOST', 'the server is shutting down; nothing was done')
    if (!this.#handlers.has(frame.method)) return new RingfsError('METHOD_UNKNOWN', `no method ${frame.method} here`)
    if (this.#calls.size >= this.#limits.maxInFlight) {
      return new RingfsError('OVERLOADED', `${this.#calls.size} requests in work on this connection already`)
    }
    if (this.#calls.size > 0 && this.#inFlightBytes + frame.payloadBytes > this.#limits.maxInFlightBytes) {
      return new RingfsError('OVERLOADED', `${this.#inFlightBytes} bytes in work on this connection already`)
    }
    if (frame.payloadBytes > 0 && this.#load.bytes + frame.payloadBytes > this.#limits.maxTotalBytes) {
      return new RingfsError('OVERLOADED', `${this.#load.bytes} bytes in work on all connections already`)
    }
    return null
  }

  async #run(frame: Frame, call: ServerCall): Promise<void> {
    try {
      const handler = this.#handlers.get(frame.method)
      if (handler === undefined) throw new RingfsError('METHOD_UNKNOWN', `no method ${frame.method} here`)
      this.#answer(call, await handler(frame, call))
    } catch (error) {
      this.#fail(call, error)
    }
  }

  #answer(call: ServerCall, { header, payload, onSent }: RawReplyOut): void {
    call.settle()
    call.onSent = onSent ?? null
    if (call.cancelled || this.closed) {
      this.#forget(call)
      return
    }
    const head = encodeHead(KIND.reply, call.id, header, totalBytes(payload))
    this.#wire.send(head, payload, () => this.#forget(call))
  }

  #fail(call: ServerCall, error: unknown): void {
    call.settle()
    if (call.cancelled || this.closed) {
      this.#forget(call)
      return
    }
    const known = error instanceof RingfsError || error instanceof PosixError
    const sent = known ? error : new RingfsError('INTERNAL', messageOf(error), { cause: error })
    this.#wire.send(encodeHead(KIND.error, call.id, encodeError(sent)), [], () => this.#forget(call))
  }

  #forget(call: ServerCall): void {
    if (!this.#calls.delete(call.id)) return
    this.#inFlightBytes -= call.payloadBytes
    this.#load.bytes -= call.payloadBytes
    if (call.reservedBytes > 0) this.replies.give(call.reservedBytes)
    call.release()
    call.onSent?.()
    if (this.#calls.size === 0) this.#draining?.()
  }

  /** What came cannot be understood, so neither can anything after it: say so and close. */
  #refuse(error: RingfsError): void {
    this.#wire.refuse(encodeHead(KIND.error, 0, encodeError(error)), error)
  }

  #ended(): void {
    this.closed = true
    for (const call of [...this.#calls.values()]) {
      call.cancel('the connection was lost')
      // Its reply will never be flushed; the others are forgotten when their handlers are done.
      if (call.settled) this.#forget(call)
    }
    this.replies.close()
    this.#undos.clear()
    for (const listener of this.#closeListeners) listener()
    this.#closeListeners.clear()
  }
}

class ServerCall implements CallContext {
  readonly connection: ServerConnection
  readonly id: number
  readonly payloadBytes: number
  readonly deadlineMs: number
  readonly #startMs = performance.now()
  reservedBytes = 0
  cancelled = false
  settled = false
  onSent: (() => void) | null = null
  /** Gives back the memory of the request's payload, which the reply may name, too. */
  readonly release: () => void
  #controller: AbortController | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(connection: ServerConnection, { id, payloadBytes, deadlineMs, release }: Frame) {
    this.connection = connection
    this.id = id
    this.payloadBytes = payloadBytes
    this.deadlineMs = deadlineMs
    this.release = release
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController()
      if (this.cancelled) this.#controller.abort(new RingfsError('CANCELLED', 'the caller cancelled'))
      else this.#armDeadline(this.#controller)
    }
    return this.#controller.signal
  }

  ifUnheard(undo: () => void): () => void {
    if (!this.cancelled) return this.connection.ifUnheard(this.id, undo)
    undo()
    return () => undefined
  }

  async reserve(bytes: number): Promise<void> {
    await this.connection.replies.take(bytes, () => this.signal)
    this.reservedBytes = bytes
  }

  cancel(why: string): void {
    this.cancelled = true
    this.#stopTimer()
    this.#controller?.abort(new RingfsError('CANCELLED', why))
  }

  /** The handler is done: no timer may outlive it. */
  settle(): void {
    this.settled = true
    this.#stopTimer()
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #armDeadline(controller: AbortController): void {
    if (this.deadlineMs === 0) return
    const leftMs = Math.max(0, this.deadlineMs - (performance.now() - this.#startMs))
    if (leftMs > TIMER_MAX_MS) return
    this.#timer = setTimeout(() => {
      controller.abort(new RingfsError('DEADLINE', `the caller waited only ${this.deadlineMs} ms`))
    }, leftMs)
  }
}

/** setTimeout takes 31 bits; a deadline beyond 24 days needs no timer. */
const TIMER_MAX_MS = 2 ** 31 - 1
