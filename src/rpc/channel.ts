/**
 * A connection that is made when it is first needed, and again after it was lost. What was outstanding when it was lost
 * fails with CONNECTION_LOST: whether to repeat it is known only to the caller. No call goes over one before `greet` is content with it.
 *
 *      idle --call--> dialling --ok--> connected --lost--> idle
 *                        |failed
 *                        v
 *                     backing off --time over--> idle       (calls meanwhile fail at once with the dial's error)
 */
import type { Socket } from 'node:net'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError, hasCode, messageOf } from '../base/errors.js'
import { RpcConnection, type RpcCallOptions, type RpcReply } from './client.js'
import { join } from './frame.js'
import { KeyRing } from './key-ring.js'
import { CLIENT_LIMITS, type ClientLimits } from './limits.js'
import { PING, type Method } from './method.js'
import { dial, keyIdOf, type DialOptions } from './transport.js'

export interface ChannelOptions {
  /** Cluster keys; one that it has is needed by every TCP listener that has any. */
  readonly key?: KeyRing
  readonly limits?: Partial<ClientLimits>
  readonly clock?: Clock
  /** 0 to below 1, for jitter. */
  readonly random?: () => number
  readonly dial?: (target: string, options: DialOptions) => Promise<Socket>
  /** Rejects where somebody else answers than was called, or nobody within `timeoutMs`: that is as a failed dial. */
  readonly greet?: (connection: RpcConnection, timeoutMs: number) => Promise<void>
}

export interface TypedReply<Reply> {
  readonly reply: Reply
  readonly payload: readonly Buffer[]
  /** Idempotent; to be called only by those who gave `memory`. */
  readonly release: () => void
}

export class RpcChannel {
  readonly target: string
  readonly #limits: ClientLimits
  readonly #key: KeyRing | null
  readonly #unwatchKeys: () => void
  readonly #clock: Clock
  readonly #random: () => number
  readonly #dial: (target: string, options: DialOptions) => Promise<Socket>
  readonly #greet: (connection: RpcConnection, timeoutMs: number) => Promise<void>
  readonly #greeted = new Set<RpcConnection>()
  #connection: RpcConnection | null = null
  /** The key that it was made with. */
  #keyId: string | null = null
  #isRenewing = false
  #renewTimer: NodeJS.Timeout | null = null
  #dialling: Promise<RpcConnection> | null = null
  #failures = 0
  #notBeforeMs = 0
  #lastFailure: RingfsError | null = null
  #closed = false
  /** Rises with each connection made: what belongs to one (file handles) can tell that it is gone. */
  generation = 0

  constructor(target: string, options: ChannelOptions = {}) {
    this.target = target
    this.#limits = { ...CLIENT_LIMITS, ...options.limits }
    this.#key = options.key ?? null
    this.#unwatchKeys = this.#key?.onChange(() => this.#keysChanged()) ?? (() => undefined)
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#dial = options.dial ?? dial
    this.#greet = options.greet ?? (() => Promise.resolve())
  }

  /**
   * Errors: those of RpcConnection.call; NODE_UNREACHABLE and KEY_REQUIRED when there is no connection (nothing was
   * sent); FRAME_BAD for a reply that does not fit the method.
   */
  async call<Request, Reply>(
    method: Method<Request, Reply>,
    request: Request,
    payload: readonly Uint8Array[],
    options: RpcCallOptions,
  ): Promise<TypedReply<Reply>> {
    const header = method.request.encode(request)
    const answer = await this.callRaw(method.number, header, payload, options)
    try {
      return { reply: method.reply.decode(answer.header), payload: answer.payload, release: answer.release }
    } catch (error) {
      answer.release()
      throw error
    }
  }

  async callRaw(
    method: number,
    header: Uint8Array,
    payload: readonly Uint8Array[],
    options: RpcCallOptions,
  ): Promise<RpcReply> {
    const connection = this.#connection
    if (connection !== null) return connection.call(method, header, payload, options)
    const startMs = this.#clock.monotonicMs()
    const fresh = await within(this.connect(), options, this.target)
    const leftMs = options.deadlineMs - (this.#clock.monotonicMs() - startMs)
    if (leftMs <= 0) throw deadline(this.target, options.deadlineMs)
    return fresh.call(method, header, payload, { ...options, deadlineMs: leftMs })
  }

  /** Milliseconds of a round trip, and the pid that answered. The payload comes back as it was sent. */
  async ping(
    options: RpcCallOptions,
    payload: Uint8Array = EMPTY,
  ): Promise<{ ms: number; pid: number; payload: Buffer }> {
    const startMs = this.#clock.monotonicMs()
    const answer = await this.call(PING, {}, payload.length === 0 ? [] : [payload], options)
    return { ms: this.#clock.monotonicMs() - startMs, pid: answer.reply.pid, payload: join(answer.payload) }
  }

  /** Makes the connection if there is none. */
  connect(): Promise<RpcConnection> {
    if (this.#closed)
      return Promise.reject(new RingfsError('CONNECTION_LOST', `the channel to ${this.target} is closed`))
    if (this.#connection !== null) return Promise.resolve(this.#connection)
    if (this.#dialling !== null) return this.#dialling
    if (this.#lastFailure !== null && this.#clock.monotonicMs() < this.#notBeforeMs) {
      return Promise.reject(again(this.#lastFailure))
    }
    this.#dialling = this.#establish().finally(() => (this.#dialling = null))
    return this.#dialling
  }

  /** New calls fail; those outstanding may finish. */
  async close(): Promise<void> {
    this.#closed = true
    this.#unwatchKeys()
    if (this.#renewTimer !== null) clearTimeout(this.#renewTimer)
    const end = new RingfsError('CONNECTION_LOST', `the channel to ${this.target} is closed`)
    for (const connection of this.#greeted) connection.destroy(end)
    await this.#dialling?.catch(() => undefined)
    this.#connection?.close()
  }

  async #establish(): Promise<RpcConnection> {
    const made = await this.#dialled(this.#key).catch((error: unknown) => {
      throw this.#backOff(error)
    })
    this.#failures = 0
    this.#lastFailure = null
    this.#adopt(made)
    if (this.#closed) made.connection.close()
    else this.#renewSoon()
    return made.connection
  }

  async #dialled(key: KeyRing | null): Promise<Made> {
    const timeoutMs = this.#limits.connectTimeoutMs
    const socket = await this.#dial(this.target, { key, timeoutMs })
    const connection = new RpcConnection(socket, this.target, this.#limits, () => {
      if (this.#connection === connection) this.#connection = null
    })
    this.#greeted.add(connection)
    try {
      if (!this.#closed) await this.#greet(connection, timeoutMs)
    } catch (error) {
      connection.close()
      throw error
    } finally {
      this.#greeted.delete(connection)
    }
    return { connection, keyId: keyIdOf(socket) }
  }

  #adopt({ connection, keyId }: Made): void {
    this.generation++
    // It may have been lost since.
    this.#connection = connection.closed ? null : connection
    this.#keyId = keyId
  }

  #keysChanged(): void {
    this.#lastFailure = null
    this.#failures = 0
    void this.#renew()
  }

  get #isOutdated(): boolean {
    return this.#connection !== null && this.#keyId !== null && this.#keyId !== this.#key?.newest?.id
  }

  /** The peer did not know the newest key, or it is newer than the connection: asked again now and then. */
  #renewSoon(): void {
    if (!this.#isOutdated || this.#closed || this.#renewTimer !== null) return
    this.#renewTimer = setTimeout(() => {
      this.#renewTimer = null
      void this.#renew()
    }, this.#limits.keyRetryMs).unref()
  }

  /**
   * From a connection with an older key to one with the newest. Calls go over the old one until the new one is there, and
   * those on their way then end on the old one: none fails, and none waits.
   */
  async #renew(): Promise<void> {
    const old = this.#connection
    const newest = this.#key?.newest
    if (!this.#isOutdated || this.#isRenewing || old === null || newest === undefined) return
    this.#isRenewing = true
    try {
      const made = await this.#dialled(new KeyRing([newest]))
      if (this.#closed || this.#connection !== old) made.connection.close()
      else {
        this.#adopt(made)
        old.close()
      }
    } catch {
      // The old one is as good as before.
    } finally {
      this.#isRenewing = false
      this.#renewSoon()
    }
  }

  #backOff(error: unknown): RingfsError {
    const failure = error instanceof RingfsError ? error : new RingfsError('NODE_UNREACHABLE', messageOf(error))
    const usualMs = Math.min(this.#limits.backoffMaxMs, this.#limits.backoffMinMs * 2 ** this.#failures)
    const fullMs = hasCode(failure, 'KEY_REQUIRED') ? this.#limits.keyBackoffMs : usualMs
    this.#failures = Math.min(this.#failures + 1, 30)
    // Half fixed, half random: many clients of a node that comes back do not arrive all at once.
    this.#notBeforeMs = this.#clock.monotonicMs() + fullMs / 2 + (this.#random() * fullMs) / 2
    this.#lastFailure = failure
    return failure
  }
}

interface Made {
  readonly connection: RpcConnection
  /** The key that it was made with. */
  readonly keyId: string | null
}

const EMPTY = new Uint8Array(0)

/** An own object for each caller: errors carry a stack and a cause. */
function again(error: RingfsError): RingfsError {
  return new RingfsError(error.code, error.message, { cause: error })
}

function deadline(target: string, deadlineMs: number): RingfsError {
  return new RingfsError('DEADLINE', `no answer from ${target} in ${deadlineMs} ms`)
}

/** The promise, but no longer than the call's own deadline and signal. */
function within<T>(promise: Promise<T>, options: RpcCallOptions, target: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => finish(() => reject(new RingfsError('CANCELLED', 'the call was cancelled')))
    const timer = setTimeout(
      () => finish(() => reject(deadline(target, options.deadlineMs))),
      Math.min(options.deadlineMs, 2 ** 31 - 1),
    )
    const finish = (settle: () => void): void => {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', onAbort)
      settle()
    }
    if (options.signal?.aborted === true) {
      // Nobody else hears of its failure, and one that nobody hears of ends the process.
      promise.catch(() => undefined)
      onAbort()
      return
    }
    options.signal?.addEventListener('abort', onAbort, { once: true })
    promise.then(
      (value) => finish(() => resolve(value)),
      (error: unknown) => finish(() => reject(error instanceof Error ? error : new Error(String(error)))),
    )
  })
}
