/**
 * One connection to one Redis node. ioredis makes it (AUTH, HELLO) and tells when it ends; its queues, retries and reconnects
 * are all turned off, because a call that waits inside them has no deadline. Commands and replies go past it (resp-*.ts): all
 * that is asked in one turn of the event loop leaves in one write. Here a connection lives once: when it ends, or when a reply
 * is overdue, everything in flight fails with LinkLostError and the owner of the link makes a new one.
 *
 *   new -> connecting -> ready -> ended          (ended is final)
 *
 * Invariant: `#waiting` holds, in order, whoever waits for the replies to the commands that were added; a server answers in
 * that order. A subscription under RESP3 is answered by a push in its turn.
 */
import { Redis } from 'ioredis'
import type { Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { RedisArg, RedisValue } from './contract.js'
import type { Credentials } from './credentials.js'
import { LinkLostError, authError, classify, tlsError } from './redis-errors.js'
import { Fence } from './redis-fence.js'
import { connectorTo } from './redis-socket.js'
import { CommandBuffer, NO_PREFIX, type Prefix } from './resp-commands.js'
import { ReplyReader, type ReplyError } from './resp-replies.js'
import { parseHost } from './url.js'

export interface LinkOptions {
  readonly clock: Clock
  /** Asked before each connection. */
  readonly credentials: () => Promise<Credentials>
  /** For TCP, TLS, AUTH and HELLO together. */
  readonly connectTimeoutMs: number
  /** No reply at all for this long while something is in flight: the node hangs, the connection is given up. */
  readonly replyTimeoutMs: number
  /** Pub/sub needs 3: pushed messages then cannot be mistaken for replies. */
  readonly protocol: 2 | 3
  /** The node's Unix socket, when it is on this machine: a call costs both sides less than over loopback. */
  readonly socketPath?: string
  /** Whether the node is still a master: redis-fence.ts. Missing: nothing that it says depends on that. */
  readonly confirm?: () => true | Promise<boolean | undefined>
}

/** ioredis's last step on close is to wait for the server's FIN, which a hanging server never sends. */
const CLOSE_GRACE_MS = 100
/** More than this does not wait for the end of the turn: the server has something to do meanwhile. */
const HELD_COMMANDS_MAX = 8
const HELD_BYTES_MAX = 32 * 1024
/** Answered calls at the front of the queue are cut off when there are so many. */
const QUEUE_CUT = 512

/** Who waits for a reply. Neither function may throw. */
interface Waiting {
  readonly resolve: (value: RedisValue) => void
  readonly reject: (error: Error) => void
  /** What it says holds only while the node is a master. */
  readonly isFenced: boolean
  /** Asked to be told nothing more of this channel: the answer is a push that may also come unasked. */
  readonly leaves?: string
}

export class RedisLink {
  readonly address: string
  readonly #redis: Redis
  readonly #options: LinkOptions
  readonly #commands = new CommandBuffer()
  readonly #replies = new ReplyReader({
    onReply: (value) => this.#replied(value),
    onError: (error) => this.#refused(error),
    onPush: (values) => this.#pushed(values),
  })
  readonly #fence: Fence
  #waiting: Waiting[] = []
  /** Those before it have their replies. */
  #first = 0
  /** How many commands are added and not yet written. */
  #held = 0
  #willFlush = false
  #connecting: Promise<void> | undefined
  #watchdog: NodeJS.Timeout | undefined
  #isReady = false
  #isEnded = false
  /** When something last came, or when the first call in flight was sent after a rest. */
  #progressMs = 0
  #watchedMs = 0
  #lastError: unknown
  #credentials: Credentials = {}
  #reason = 'the connection ended'
  #onMessage: (channel: Buffer, message: Buffer) => void = () => undefined
  #onMoved: () => void = () => undefined
  #onEnd: () => void = () => undefined

  /** `address` as formatHost writes it. */
  constructor(address: string, options: LinkOptions) {
    this.address = address
    this.#options = options
    this.#fence = new Fence({
      clock: options.clock,
      confirm: options.confirm ?? (() => true),
      patienceMs: options.replyTimeoutMs,
      onReplaced: () => this.abort('after a silence the other nodes do not know it as a master'),
    })
    this.#redis = new Redis({
      Connector: connectorTo({
        where: options.socketPath === undefined ? parseHost(address) : { path: options.socketPath },
        tls: () => this.#credentials.tls,
        closeGraceMs: CLOSE_GRACE_MS,
        onBytes: (bytes) => this.#received(bytes),
      }),
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

  /** Over the server's Unix socket. */
  get isLocal(): boolean {
    return this.#options.socketPath !== undefined
  }

  get isIdle(): boolean {
    return this.#isReady && this.#inFlight === 0 && this.#fence.size === 0
  }

  get #inFlight(): number {
    return this.#waiting.length - this.#first
  }

  /** Resolves when authenticated. Throws LinkLostError, or RingfsError REDIS_AUTH. All callers share one attempt. */
  connect(): Promise<void> {
    this.#connecting ??= this.#connect()
    return this.#connecting
  }

  async #connect(): Promise<void> {
    const { connectTimeoutMs } = this.#options
    this.#checkOpen()
    const timer = setTimeout(() => this.abort(`no answer within ${connectTimeoutMs} ms`), connectTimeoutMs)
    try {
      await this.#login()
      this.#checkOpen()
      await this.#redis.connect()
      this.#checkOpen()
      this.#isReady = true
    } catch (error) {
      this.abort(messageOf(this.#lastError ?? error))
      const cause = this.#lastError
      if (error instanceof RingfsError) throw error
      const untrusted = this.#isTls ? tlsError(this.address, cause) : undefined
      if (untrusted !== undefined) throw untrusted
      if (cause !== undefined && classify(cause).kind === 'auth') throw authError(this.address, messageOf(cause), cause)
      throw this.#lost()
    } finally {
      clearTimeout(timer)
    }
  }

  /** Asked after whatever is waited for: abort may have come meanwhile. */
  #checkOpen(): void {
    if (this.#isEnded) throw this.#lost()
  }

  /** What ioredis shows of us when it connects. */
  async #login(): Promise<void> {
    const credentials = await this.#options.credentials()
    const { username, password, tls } = credentials
    this.#credentials = credentials
    Object.assign(this.#redis.options, { username, password })
    // Its value does not matter: the socket is ours. With it ioredis waits for the handshake.
    if (this.#isTls) this.#redis.options.tls = tls ?? {}
  }

  /** A server's Unix socket has no TLS. */
  get #isTls(): boolean {
    return this.#credentials.tls !== undefined && !this.isLocal
  }

  /**
   * For what any node may be asked. Error replies are thrown as ReplyError (see classify); no reply is LinkLostError.
   */
  send(name: string, args: readonly RedisArg[]): Promise<RedisValue> {
    return new Promise((resolve, reject) => this.#add(NO_PREFIX, [name], args, { resolve, reject, isFenced: false }))
  }

  /**
   * As `send`, for the command that `prefix`, `first` and `second` make up, and what only a master may say: its reply is believed as
   * long as it is one. `resolve` and `reject` must not throw.
   */
  enqueue(
    prefix: Prefix,
    first: readonly RedisArg[],
    second: readonly RedisArg[],
    resolve: (value: RedisValue) => void,
    reject: (error: Error) => void,
  ): void {
    this.#add(prefix, first, second, { resolve, reject, isFenced: true })
  }

  /** As `send`; believed as `enqueue` says. */
  sendFenced(command: string, args: readonly RedisArg[]): Promise<RedisValue> {
    return new Promise((resolve, reject) => this.enqueue(NO_PREFIX, [command], args, resolve, reject))
  }

  #add(prefix: Prefix, first: readonly RedisArg[], second: readonly RedisArg[], waiting: Waiting): void {
    if (!this.#isReady) {
      waiting.reject(this.#lost())
      return
    }
    if (this.#inFlight === 0) this.#awoken()
    this.#commands.add(prefix, first, second)
    this.#waiting.push(waiting)
    this.#held++
    if (this.#held >= HELD_COMMANDS_MAX || this.#commands.length >= HELD_BYTES_MAX) this.#flush()
    else this.#flushSoon()
  }

  subscribe(channel: string): Promise<RedisValue> {
    return this.send('SSUBSCRIBE', [channel])
  }

  unsubscribe(channel: string): Promise<RedisValue> {
    return new Promise((resolve, reject) =>
      this.#add(NO_PREFIX, ['SUNSUBSCRIBE'], [channel], { resolve, reject, isFenced: false, leaves: channel }),
    )
  }

  #flushSoon(): void {
    if (this.#willFlush) return
    this.#willFlush = true
    setImmediate(this.#flushNow)
  }

  readonly #flushNow = (): void => {
    this.#willFlush = false
    this.#flush()
  }

  #flush(): void {
    if (this.#held === 0 || this.#isEnded) return
    this.#held = 0
    const { stream } = this.#redis
    this.#commands.drain((bytes) => {
      stream.write(bytes)
      // Nearly always the kernel has taken it already.
      return stream.writableLength === 0
    })
  }

  /** false: before it is ready, ioredis reads. */
  #received(bytes: Buffer): boolean {
    if (!this.#isReady) return this.#isEnded
    this.#progressMs = this.#options.clock.monotonicMs()
    this.#fence.heard(this.#progressMs)
    try {
      this.#replies.push(bytes)
    } catch (error) {
      this.abort(messageOf(error))
    }
    return true
  }

  #next(): Waiting | undefined {
    const waiting = this.#waiting[this.#first]
    if (waiting === undefined) return undefined
    this.#first++
    if (this.#first === this.#waiting.length) {
      this.#waiting.length = 0
      this.#first = 0
    } else if (this.#first >= QUEUE_CUT) {
      this.#waiting.splice(0, this.#first)
      this.#first = 0
    }
    return waiting
  }

  #replied(value: RedisValue): void {
    const waiting = this.#next()
    if (waiting?.isFenced === true) this.#fence.pass(() => waiting.resolve(value), waiting.reject)
    else waiting?.resolve(value)
  }

  #refused(error: ReplyError): void {
    const waiting = this.#next()
    if (waiting?.isFenced === true) this.#fence.pass(() => waiting.reject(error), waiting.reject)
    else waiting?.reject(error)
  }

  #pushed(values: readonly RedisValue[]): void {
    const [kind, channel, message] = values
    switch (String(kind)) {
      case 'smessage':
        if (Buffer.isBuffer(channel) && Buffer.isBuffer(message)) this.#onMessage(channel, message)
        return
      case 'ssubscribe':
        this.#next()?.resolve(values)
        return
      case 'sunsubscribe':
        // Of two, one that nobody asked for and the answer behind it, the second is one too many: either may stand for the other.
        if (this.#waiting[this.#first]?.leaves === String(channel)) this.#next()?.resolve(values)
        else this.#onMoved()
    }
  }

  /** Something is in flight again: whether replies come is watched as long as that goes on. */
  #awoken(): void {
    this.#progressMs = this.#options.clock.monotonicMs()
    if (this.#watchdog !== undefined) return
    this.#watchedMs = this.#progressMs
    this.#watchdog = setInterval(() => this.#watch(), Math.max(10, this.#options.replyTimeoutMs / 4)).unref()
  }

  #watch(): void {
    if (this.#inFlight === 0) {
      clearInterval(this.#watchdog)
      this.#watchdog = undefined
      return
    }
    const nowMs = this.#options.clock.monotonicMs()
    const sinceWatchMs = nowMs - this.#watchedMs
    this.#watchedMs = nowMs
    // It was this process that hung (or slept with its machine): replies may be waiting to be read.
    if (sinceWatchMs > this.#options.replyTimeoutMs / 2) return
    const silentMs = nowMs - this.#progressMs
    if (silentMs > this.#options.replyTimeoutMs) this.abort(`no reply for ${Math.round(silentMs)} ms`)
  }

  onMessage(listener: (channel: Buffer, message: Buffer) => void): void {
    this.#onMessage = listener
  }

  /** The server ended a shard subscription by itself: the channel's slot went elsewhere. */
  onMoved(listener: () => void): void {
    this.#onMoved = listener
  }

  /** Told in the turn in which it ends, before what is in flight fails: whoever waits for that finds it known. */
  onEnd(listener: () => void): void {
    this.#onEnd = listener
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
    if (this.#isEnded) return
    this.#isReady = false
    this.#isEnded = true
    clearInterval(this.#watchdog)
    this.#watchdog = undefined
    const waiting = this.#waiting.splice(0).slice(this.#first)
    this.#first = 0
    this.#onEnd()
    this.#fence.drop(this.#lost())
    for (const { reject } of waiting) reject(this.#lost())
  }

  #lost(): LinkLostError {
    const cause = this.#lastError
    const detail = cause === undefined ? this.#reason : messageOf(cause)
    return new LinkLostError(`${this.address}: ${detail}`, { cause })
  }
}
