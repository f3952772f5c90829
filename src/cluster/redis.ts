/**
 * The door to Redis Cluster: see RedisStore in contract.ts for what it promises. It connects and checks the masters, and puts the parts
 * together: calls (redis-router.ts), subscriptions (redis-subscription.ts), waits for replicas (replica-waits.ts), the append-only file of
 * a private server (aof.ts).
 */
import { existsSync } from 'node:fs'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { Metrics, type Timer } from '../base/metrics.js'
import { CredentialSource } from './credentials.js'
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script, Subscription } from './contract.js'
import { LocalAof, findLocalFolder } from './aof.js'
import { readFiles, socketPath } from './private-redis-files.js'
import { checkServers } from './redis-check.js'
import { Attempts, isSilence, serversAt, telling, unreachable } from './redis-attempts.js'
import { classify } from './redis-errors.js'
import { Router, sending, type Send } from './redis-router.js'
import { ShardSubscription } from './redis-subscription.js'
import { Topology } from './redis-topology.js'
import { MARK, ReplicaWaits, WAIT_SLICE_MS, type AskedLink } from './replica-waits.js'
import { NO_PREFIX, encodePrefix, type Prefix } from './resp-commands.js'
import { keySlot } from './slot.js'
import { formatHost, type MetaUrl } from './url.js'

export interface ConnectOptions {
  readonly log: Log
  readonly clock?: Clock
  /** Round trips by script or command. */
  readonly metrics?: Metrics
  /** 0 to 1; for the jitter of retries. */
  readonly random?: () => number
  /** For the whole of connectRedis, unless a part of a cluster answers, and for each later connection to a node. Default 5,000. */
  readonly connectTimeoutMs?: number
  /**
   * So long connectRedis waits, in place of connectTimeoutMs, where somebody listens who has not answered yet: for a process that goes on for
   * long, and is not to fail because a machine is busy while it starts. Where nobody listens it does not wait longer.
   */
  readonly firstAnswerMs?: number
  /** A node that answers nothing for so long is taken for lost, and its calls are sent again. Default 5,000. */
  readonly replyTimeoutMs?: number
  /** Default true: refuse servers that would forget (no append-only file) or drop keys (an evicting maxmemory-policy). */
  readonly requirePersistence?: boolean
}

const CONNECT_TIMEOUT_MS = 5_000
const REPLY_TIMEOUT_MS = 5_000
const DEADLINE_MS = 30_000
/** `firstAnswerMs` of processes that go on for long. */
export const FIRST_ANSWER_MS = 30_000

/**
 * Connects and checks every master. Errors: REDIS_UNREACHABLE, REDIS_AUTH, REDIS_NOT_CLUSTER, REDIS_UNSAFE. A server
 * that still loads its data is waited for, within the connect timeout (or `firstAnswerMs`); where a part of a cluster answers and a part does not, a
 * replica may be about to take over, and that is waited for as long as any call waits.
 */
export async function connectRedis(url: MetaUrl, options: ConnectOptions): Promise<RedisStore> {
  const store = new ClusterStore(url, options)
  try {
    await store.open(options)
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

/** `folders`: of all masters, where they are private ones of this machine. */
async function isLone(folders: readonly (string | undefined)[]): Promise<boolean> {
  const [folder] = folders
  if (folder === undefined || folders.length > 1) return false
  return (await readFiles(folder))?.member === undefined
}

class ClusterStore implements RedisStore {
  readonly #seeds: readonly string[]
  readonly #log: Log
  readonly #clock: Clock
  readonly #random: () => number
  readonly #replyTimeoutMs: number
  readonly #attempts: Attempts
  readonly #topology: Topology
  readonly #router: Router
  /** WAIT holds up its connection, so it has its own. */
  readonly #waits: Topology
  readonly #replicaWaits: ReplicaWaits
  /** By script or command. */
  readonly #timer: (what: string) => Timer
  #unknowns = 0
  readonly #subscriptions = new Set<ShardSubscription>()
  /** By the SHA-1 of the script and how many keys it gets. */
  readonly #prefixes = new Map<string, Prefix[]>()
  #aofs: readonly (LocalAof | undefined)[] = []
  #isLone = false

  constructor(url: MetaUrl, options: ConnectOptions) {
    this.#seeds = url.hosts.map(formatHost)
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    const metrics = options.metrics ?? new Metrics()
    metrics.counter('redis.retries', () => this.#router.retries)
    this.#timer = metrics.timers('redis')
    this.#replyTimeoutMs = options.replyTimeoutMs ?? REPLY_TIMEOUT_MS
    this.#attempts = new Attempts(this.#clock, this.#random, this.#replyTimeoutMs)
    const credentials = new CredentialSource(url, options.log)
    const link = {
      log: options.log,
      clock: this.#clock,
      credentials: () => credentials.load(),
      connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      seeds: this.#seeds,
      protocol: 2,
    } as const
    this.#topology = new Topology({ ...link, replyTimeoutMs: this.#replyTimeoutMs })
    this.#router = new Router({
      topology: this.#topology,
      clock: this.#clock,
      log: options.log,
      seeds: this.#seeds,
      replyTimeoutMs: this.#replyTimeoutMs,
      attempts: this.#attempts,
    })
    this.#waits = new Topology({
      ...link,
      replyTimeoutMs: this.#replyTimeoutMs + WAIT_SLICE_MS,
      electorate: this.#topology,
    })
    this.#replicaWaits = new ReplicaWaits({
      clock: this.#clock,
      masterOf: (key) => this.#topology.owner(keySlot(key)) ?? `slot ${keySlot(key)}`,
      route: (key, timeoutMs, ask) => this.#routeWait(key, timeoutMs, ask),
    })
  }

  async open(options: ConnectOptions): Promise<void> {
    const { connectTimeoutMs = CONNECT_TIMEOUT_MS, firstAnswerMs = 0, requirePersistence = true } = options
    const startedMs = this.#clock.monotonicMs()
    let timeoutMs = connectTimeoutMs
    let last: unknown
    for (let attempt = 0; ; attempt++) {
      const deadline = startedMs + timeoutMs
      const attemptMs = this.#clock.monotonicMs()
      try {
        const servers = await this.#attempts.before(
          deadline,
          checkServers(this.#topology, requirePersistence, this.#log),
        )
        const folders = await Promise.all(servers.map(findLocalFolder))
        this.#aofs = folders.map((folder) => (folder === undefined ? undefined : new LocalAof(folder)))
        this.#useSockets(folders)
        this.#isLone = await isLone(folders)
        return
      } catch (error) {
        const isFinal = error instanceof RingfsError || classify(error).kind === 'refused'
        if (isFinal) throw error
        last = telling(error, last)
        if (timeoutMs < DEADLINE_MS && this.#topology.masters().length > 0) {
          this.#log.warn(
            { err: last },
            `a part of the Redis Cluster does not answer: waiting up to ${DEADLINE_MS / 1_000} s`,
          )
          timeoutMs = DEADLINE_MS
        } else if (
          timeoutMs < firstAnswerMs &&
          isSilence(error, this.#clock.monotonicMs() - attemptMs, connectTimeoutMs)
        ) {
          this.#log.warn(
            { err: last },
            `${serversAt(this.#seeds)} has not answered yet: waiting up to ${firstAnswerMs / 1_000} s`,
          )
          timeoutMs = firstAnswerMs
        } else if (!(await this.#attempts.pause(attempt, deadline))) throw unreachable(this.#seeds, timeoutMs, last)
      }
    }
  }

  /** `folders`: of the masters in their order, where they are private ones of this machine. */
  #useSockets(folders: readonly (string | undefined)[]): void {
    for (const [index, { address }] of this.#topology.masters().entries()) {
      const folder = folders[index]
      const path = folder === undefined ? undefined : socketPath(folder)
      if (path !== undefined && existsSync(path)) this.#topology.useSocket(address, path)
    }
  }

  run(script: Script, keys: readonly string[], args: readonly RedisArg[], options?: RunOptions): Promise<RedisValue> {
    const [key] = keys
    if (key === undefined) return Promise.reject(new RingfsError('INTERNAL', `script ${script.name} was given no key`))
    const timeoutMs = options?.deadlineMs ?? DEADLINE_MS
    const command = { prefix: this.#prefixOf(script, keys.length), first: keys, second: args }
    const { name } = script
    const timer = this.#timer(name)
    return this.#router.start(command, {
      slot: keySlot(key),
      what: name,
      timer,
      send: sending(command),
      timeoutMs,
      script,
      doubt: options?.doubt,
    })
  }

  call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    const whole = { prefix: NO_PREFIX, first: [command, key], second: args }
    const [slot, timer, send] = [keySlot(key), this.#timer(command), sending(whole)]
    const call = { slot, what: command, timer, send, timeoutMs: DEADLINE_MS }
    return this.#router.start(whole, call)
  }

  /** EVALSHA, the script, and how many keys it gets. */
  #prefixOf(script: Script, keys: number): Prefix {
    let known = this.#prefixes.get(script.sha1)
    if (known === undefined) this.#prefixes.set(script.sha1, (known = []))
    return (known[keys] ??= encodePrefix('EVALSHA', script.sha1, keys))
  }

  async subscribe(
    channels: readonly string[],
    onMessage: (channel: string, message: Buffer) => void,
    onState: (healthy: boolean) => void,
  ): Promise<Subscription> {
    const subscription = new ShardSubscription({
      topology: this.#topology,
      clock: this.#clock,
      random: this.#random,
      log: this.#log,
      channels,
      onMessage,
      onState,
    })
    this.#subscriptions.add(subscription)
    await subscription.start()
    return {
      listen: (channel) => subscription.listen(channel),
      ignore: (channel) => subscription.ignore(channel),
      caughtUp: () => subscription.caughtUp(),
      close: () => {
        this.#subscriptions.delete(subscription)
        subscription.close()
        return Promise.resolve()
      },
    }
  }

  waitReplicas(keys: readonly string[], replicas: number, timeoutMs: number): Promise<number> {
    return this.#replicaWaits.count(keys, replicas, timeoutMs)
  }

  #routeWait(key: string, timeoutMs: number, ask: (link: AskedLink) => Promise<RedisValue>): Promise<RedisValue> {
    const send: Send = async (main) => ask(await this.#waits.connect(main.address))
    const what = { slot: keySlot(key), what: 'WAIT', script: MARK, timer: this.#timer('WAIT') }
    return this.#router.route({ ...what, send, timeoutMs: timeoutMs + this.#replyTimeoutMs }, this.#clock.monotonicMs())
  }

  serverOf(key: string): string {
    const owner = this.#topology.owner(keySlot(key))
    // Never the same: nobody knows who it is.
    if (owner === undefined) return `unknown ${++this.#unknowns}`
    return `${owner} ${this.#topology.turns(owner)} ${this.#waits.turns(owner)}`
  }

  get isLone(): boolean {
    return this.#isLone
  }

  async syncLocal(): Promise<boolean> {
    await Promise.all(this.#aofs.map(async (aof) => aof?.sync()))
    return !this.#aofs.includes(undefined)
  }

  async prepare(scripts: readonly Script[]): Promise<void> {
    for (const { address } of this.#topology.masters()) {
      try {
        const link = await this.#topology.connect(address)
        const known = await link.send('SCRIPT', ['EXISTS', ...scripts.map(({ sha1 }) => sha1)])
        const missing = scripts.filter((_, at) => !Array.isArray(known) || known[at] !== 1)
        // One at a time: each keeps the server from its work for as long as it takes to compile it.
        for (const { source } of missing) await link.send('SCRIPT', ['LOAD', source])
      } catch (error) {
        this.#log.debug({ err: error, address }, 'scripts were not loaded ahead')
      }
    }
  }

  masters(): Promise<readonly { readonly address: string; readonly slots: readonly (readonly [number, number])[] }[]> {
    return Promise.resolve(this.#topology.masters())
  }

  async close(): Promise<void> {
    this.#router.close()
    for (const subscription of this.#subscriptions) subscription.close()
    this.#subscriptions.clear()
    this.#waits.close()
    this.#topology.close()
    await Promise.all(this.#aofs.map(async (aof) => aof?.close()))
  }
}
