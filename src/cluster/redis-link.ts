/**
 * One connection to one Redis node. ioredis does the protocol; its queues, retries and reconnects are all turned off,
 * because a call that waits inside them has no deadline. Here a connection lives once: when it ends, or when a reply is
 * overdue, everything in flight fails with LinkLostError and the owner of the link makes a new one.
 *
 *   new -> connecting -> ready -> ended          (ended is final)
 */
import { Redis, Command } from 'ioredis'
import type { Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { RedisArg, RedisValue } from './contract.js'
import { LinkLostError, authError, classify } from './redis-errors.js'
import { parseHost } from './url.js'

export interface LinkOptions {
  readonly clock: Clock
  readonly password?: string
  /** For TCP, AUTH and HELLO together. */
  readonly connectTimeoutMs: number
  /** No reply at all for this long while something is in flight: the node hangs, the connection is given up. */
  readonly replyTimeoutMs: number
  /** Pub/sub needs 3: pushed messages then cannot be mistaken for replies. */
  readonly protocol: 2 | 3
}

/** ioredis's last step on close is to wait for the server's FIN, which a hanging server never sends. */
const CLOSE_GRACE_MS = 100
const BUFFERS = { replyEncoding: null } as const

export class RedisLink {
  readonly address: string
  readonly #redis: Redis
  readonly #options: LinkOptions
  #connecting: Promise<void> | undefined
  #watchdog: NodeJS.Timeout | undefined
  #isReady = false
  #isEnded = false
  #inFlight = 0
  /** When the last reply came, or when the first call in flight was sent after a rest. */
  #progressMs = 0
  #watchedMs = 0
  #lastError: unknown
  #reason = 'the connection ended'

  /** `address` as formatHost writes it. */
  constructor(address: string, options: LinkOptions) {
    this.address = address
    this.#options = options
    this.#redis = new Redis({
      ...parseHost(address),
      ...(options.password === undefined ? {} : { password: options.password }),
      protocol: options.protocol,
      lazyConnect: true,
      connectTimeout: options.connectTimeoutMs,
      disconnectTimeout: CLOSE_GRACE_MS,
      retryStrategy: () => null,
      maxRetriesPerRequest: null,
      enableOfflineQueue: false,
      enableReadyCheck: false,
      autoResendUnfulfilledCommands: false,
      autoResubscribe: false,
      disableClientInfo: true,
    })
    this.#redis.on('error', (error: unknown) => (this.#lastError = error))
    this.#redis.on('end', () => this.#ended())
  }

  get isReady(): boolean {
    return this.#isReady
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  get isIdle(): boolean {
    return this.#isReady && this.#inFlight === 0
  }

  /** Resolves when authenticated. Throws LinkLostError, or RingfsError REDIS_AUTH. All callers share one attempt. */
  connect(): Promise<void> {
    this.#connecting ??= this.#connect()
    return this.#connecting
  }

  async #connect(): Promise<void> {
    const { connectTimeoutMs, replyTimeoutMs } = this.#options
    if (this.#isEnded) throw this.#lost()
    const timer = setTimeout(() => this.abort(`no answer within ${connectTimeoutMs} ms`), connectTimeoutMs)
    try {
      await this.#redis.connect()
      if (this.isEnded) throw this.#lost()
      this.#isReady = true
      this.#watchedMs = this.#options.clock.monotonicMs()
      this.#watchdog = setInterval(() => this.#watch(), Math.max(10, replyTimeoutMs / 4)).unref()
    } catch (error) {
      this.abort(messageOf(this.#lastError ?? error))
      const cause = this.#lastError
      if (cause !== undefined && classify(cause).kind === 'auth') throw authError(this.address, messageOf(cause), cause)
      throw this.#lost()
    } finally {
      clearTimeout(timer)
    }
  }

  /** Error replies are thrown as ioredis gives them (see classify); no reply is LinkLostError. */
  send(name: string, args: readonly RedisArg[]): Promise<RedisValue> {
    if (!this.#isReady) return Promise.reject(this.#lost())
    // In capitals, since ioredis reshapes the replies of some commands that it knows by their small letters.
    return this.#send(new Command(name.toUpperCase(), [...args], BUFFERS))
  }

  /** SSUBSCRIBE by the name under which ioredis recognises it. */
  subscribe(channel: string): Promise<RedisValue> {
    if (!this.#isReady) return Promise.reject(this.#lost())
    return this.#send(new Command('ssubscribe', [channel], BUFFERS))
  }

  #send(command: Command): Promise<RedisValue> {
    if (this.#inFlight++ === 0) this.#progressMs = this.#options.clock.monotonicMs()
    this.#redis.sendCommand(command)
    return command.promise.then(this.#onReply, this.#onError)
  }

  readonly #onReply = (value: RedisValue): RedisValue => {
    this.#inFlight--
    this.#progressMs = this.#options.clock.monotonicMs()
    return value
  }

  readonly #onError = (error: unknown): never => {
    this.#inFlight--
    this.#progressMs = this.#options.clock.monotonicMs()
    // An error reply carries the command; everything else ioredis throws is about the connection.
    if (error instanceof Error && error.name === 'ReplyError' && !this.#isEnded) throw error
    throw this.#lost()
  }

  #watch(): void {
    const nowMs = this.#options.clock.monotonicMs()
    const sinceWatchMs = nowMs - this.#watchedMs
    this.#watchedMs = nowMs
    // It was this process that hung (or slept with its machine): replies may be waiting to be read.
    if (sinceWatchMs > this.#options.replyTimeoutMs / 2) return
    const silentMs = nowMs - this.#progressMs
    if (this.#inFlight > 0 && silentMs > this.#options.replyTimeoutMs) {
      this.abort(`no reply for ${Math.round(silentMs)} ms`)
    }
  }

  onMessage(listener: (channel: Buffer, message: Buffer) => void): void {
    this.#redis.on('smessageBuffer', listener)
  }

  /** The server ended a shard subscription by itself: the channel's slot went elsewhere. */
  onMoved(listener: () => void): void {
    this.#redis.on('moved', listener)
  }

  onEnd(listener: () => void): void {
    this.#redis.once('end', listener)
  }

  /** Ends it now: in-flight calls fail with LinkLostError. */
  abort(reason = 'closed'): void {
    if (this.#isEnded) return
    this.#reason = reason
    this.#redis.disconnect()
    // There is none before the connect began.
    if (Object.hasOwn(this.#redis, 'stream')) this.#redis.stream.destroy()
    this.#ended()
  }

  #ended(): void {
    this.#isReady = false
    this.#isEnded = true
    clearInterval(this.#watchdog)
  }

  #lost(): LinkLostError {
    const cause = this.#lastError
    const detail = cause === undefined ? this.#reason : messageOf(cause)
    return new LinkLostError(`${this.address}: ${detail}`, { cause })
  }
}
