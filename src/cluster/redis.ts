/**
 * The door to Redis Cluster: see RedisStore in contract.ts for what it promises.
 *
 * The way of a call: slot of the key -> owner from the slot map -> that master's one pipelined connection. This is our
 * own and not ioredis's Cluster, because that waits without a deadline when no node answers, and adds a queue for each
 * call. What goes wrong is sorted by redis-errors.ts, and tried again here until the call's deadline.
 */
import { existsSync } from 'node:fs'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { Metrics, type Timer } from '../base/metrics.js'
import { CredentialSource } from './credentials.js'
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script, Subscription } from './contract.js'
import { LocalAof, findLocalFolder } from './aof.js'
import { readFiles, socketPath } from './private-redis-files.js'
import { checkServers } from './redis-check.js'
import { LateError, doubtful, isSilence, resolved, telling } from './redis-attempts.js'
import { LinkLostError, classify, finalError, type Verdict } from './redis-errors.js'
import type { RedisLink } from './redis-link.js'
import { ShardSubscription } from './redis-subscription.js'
import { Topology } from './redis-topology.js'
import { MARK, ReplicaWaits, WAIT_SLICE_MS } from './replica-waits.js'
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
const BACKOFF_FIRST_MS = 5
const BACKOFF_MAX_MS = 500

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

/** One command: the parts of its bytes. */
interface Command {
  readonly prefix: Prefix
  readonly first: readonly RedisArg[]
  readonly second: readonly RedisArg[]
}

/** What is carried out where a slot lives, and what it is named by in errors. */
interface Call {
  readonly slot: number
  readonly what: string
  readonly timer: Timer
  readonly send: Send
  readonly timeoutMs: number
  readonly script?: Script
}

/** An attempt that went wrong, and where it had gone. */
interface Failed {
  readonly error: unknown
  readonly address: string
}

type Send = (link: RedisLink) => Promise<RedisValue>

function sending({ prefix, first, second }: Command): Send {
  return (link) => new Promise((resolve, reject) => link.enqueue(prefix, first, second, resolve, reject))
}

/** Where the next attempt goes, when a redirection said so. */
interface Target {
  readonly address: string
  readonly asking: boolean
}

class ClusterStore implements RedisStore {
  readonly #seeds: readonly string[]
  readonly #log: Log
  readonly #clock: Clock
  readonly #random: () => number
  readonly #replyTimeoutMs: number
  readonly #topology: Topology
  /** WAIT holds up its connection, so it has its own. */
  readonly #waits: Topology
  readonly #replicaWaits: ReplicaWaits
  /** By script or command. */
  readonly #timer: (what: string) => Timer
  #retries = 0
  #unknowns = 0
  readonly #subscriptions = new Set<ShardSubscription>()
  /** By the SHA-1 of the script and how many keys it gets. */
  readonly #prefixes = new Map<string, Prefix[]>()
  #aofs: readonly (LocalAof | undefined)[] = []
  #isClosed = false
  #isLone = false

  constructor(url: MetaUrl, options: ConnectOptions) {
    this.#seeds = url.hosts.map(formatHost)
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    const metrics = options.metrics ?? new Metrics()
    metrics.counter('redis.retries', () => this.#retries)
    this.#timer = metrics.timers('redis')
    this.#replyTimeoutMs = options.replyTimeoutMs ?? REPLY_TIMEOUT_MS
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
        const servers = await this.#before(deadline, checkServers(this.#topology, requirePersistence, this.#log))
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
          this.#log.warn({ err: last }, `${this.#named} has not answered yet: waiting up to ${firstAnswerMs / 1_000} s`)
          timeoutMs = firstAnswerMs
        } else if (!(await this.#pause(attempt, deadline))) throw this.#unreachable(timeoutMs, last)
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
    return this.#start(command, { slot: keySlot(key), what: name, timer, send: sending(command), timeoutMs, script })
  }

  call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    const whole = { prefix: NO_PREFIX, first: [command, key], second: args }
    const [slot, timer, send] = [keySlot(key), this.#timer(command), sending(whole)]
    const call = { slot, what: command, timer, send, timeoutMs: DEADLINE_MS }
    return this.#start(whole, call)
  }

  /** EVALSHA, the script, and how many keys it gets. */
  #prefixOf(script: Script, keys: number): Prefix {
    let known = this.#prefixes.get(script.sha1)
    if (known === undefined) this.#prefixes.set(script.sha1, (known = []))
    return (known[keys] ??= encodePrefix('EVALSHA', script.sha1, keys))
  }

  /** The usual call: the link is there, its own timeouts end before the deadline, and it goes well. Else see #route. */
  #start({ prefix, first, second }: Command, call: Call): Promise<RedisValue> {
    const link = this.#isClosed ? undefined : this.#topology.readyLink(call.slot)
    const startedMs = this.#clock.monotonicMs()
    if (link === undefined || call.timeoutMs <= 2 * this.#replyTimeoutMs) return this.#route(call, startedMs)
    return new Promise((resolve, reject) => {
      const replied = (value: RedisValue): void => {
        call.timer.record(this.#clock.monotonicMs() - startedMs)
        resolve(value)
      }
      link.enqueue(prefix, first, second, replied, (error) => {
        this.#route(call, startedMs, { error, address: link.address }).then(resolve, reject)
      })
    })
  }

  /** Tries until the deadline. `failed`: of the first attempt, if that was made already. */
  async #route(call: Call, startedMs: number, failed?: Failed): Promise<RedisValue> {
    const deadline = startedMs + call.timeoutMs
    let target: Target | undefined
    let last: unknown
    let failure = failed
    let mayHaveRun = false
    for (let attempt = 0; ; attempt++) {
      if (this.#isClosed) throw new RingfsError('CANCELLED', 'the connection to Redis was closed')
      if (failure === undefined) {
        // Read before anything is awaited: it is where this attempt goes, whatever the map says when it fails.
        const address = this.#addressOf(call.slot, target)
        try {
          const value = await this.#attempt(call, target, deadline)
          call.timer.record(this.#clock.monotonicMs() - startedMs)
          return value
        } catch (error) {
          if (error instanceof RingfsError) throw error
          failure = { error, address }
        }
      }
      const { error, address } = failure
      failure = undefined
      const verdict = classify(error)
      const { kind } = verdict
      // A script that the server does not know yet is no trouble.
      if (kind !== 'noscript') {
        call.timer.errors++
        this.#retries++
      }
      // A refusal says nothing of an earlier attempt that may have run: it must not be taken for 'nothing was done'.
      if (mayHaveRun && (kind === 'full' || kind === 'refused')) throw doubtful(address, call.what, error)
      if (kind === 'full' || kind === 'auth' || kind === 'refused') throw finalError(kind, error, address, call.what)
      mayHaveRun ||= kind === 'lost'
      if (this.#clock.monotonicMs() >= deadline) throw this.#unreachable(call.timeoutMs, telling(error, last))
      last = error
      target = await this.#recover(resolved(verdict, address), call.slot, target, call.script, attempt, deadline)
    }
  }

  #addressOf(slot: number, target: Target | undefined): string {
    return target?.address ?? this.#topology.owner(slot) ?? this.#seeds.join(',')
  }

  async #attempt(call: Call, target: Target | undefined, deadline: number): Promise<RedisValue> {
    const { send } = call
    const ready = target === undefined ? this.#topology.readyLink(call.slot) : undefined
    if (ready !== undefined) return this.#before(deadline, send(ready))
    const link = await this.#before(deadline, this.#connect(call.slot, target))
    if (target?.asking !== true) return this.#before(deadline, send(link))
    // ASKING holds for the next command of the connection only: nothing may come between the two.
    const asking = link.send('ASKING', [])
    const reply = send(link)
    reply.catch(() => undefined)
    await asking
    return this.#before(deadline, reply)
  }

  async #connect(slot: number, target: Target | undefined): Promise<RedisLink> {
    if (target !== undefined) return this.#topology.connect(target.address)
    if (this.#topology.owner(slot) === undefined) await this.#topology.refresh()
    const owner = this.#topology.owner(slot)
    if (owner === undefined) throw new LinkLostError(`no master serves slot ${slot}`)
    return this.#topology.connect(owner)
  }

  /** Makes the next attempt possible; answers where it goes. */
  async #recover(
    verdict: Verdict,
    slot: number,
    target: Target | undefined,
    script: Script | undefined,
    attempt: number,
    deadline: number,
  ): Promise<Target | undefined> {
    switch (verdict.kind) {
      case 'moved':
        this.#topology.moved(slot, verdict.address)
        // Two nodes that each say the other one has it (a failover under way) must not be asked without a pause.
        if (attempt > 1) await this.#pause(attempt, deadline)
        return undefined
      case 'ask':
        if (attempt > 3) await this.#pause(attempt, deadline)
        return { address: verdict.address, asking: true }
      case 'noscript':
        if (script !== undefined) await this.#load(script, slot, target, deadline)
        return target
      case 'lost':
        await this.#pause(attempt, deadline)
        await this.#before(deadline, this.#topology.refresh()).catch((error: unknown) => {
          this.#log.debug({ err: error }, 'slot map not refreshed')
        })
        return undefined
      default:
        await this.#pause(attempt, deadline)
        // What waits may wait for a slot that has gone elsewhere meanwhile, or READONLY for a new master.
        this.#topology.refreshBehind()
        return undefined
    }
  }

  /** SCRIPT LOAD on the node that will run it. A failure shows in the next attempt. */
  async #load(script: Script, slot: number, target: Target | undefined, deadline: number): Promise<void> {
    try {
      const link = await this.#before(deadline, this.#connect(slot, target))
      await this.#before(deadline, link.send('SCRIPT', ['LOAD', script.source]))
    } catch (error) {
      if (classify(error).kind === 'refused') throw finalError('refused', error, '', `script ${script.name}`)
      this.#log.debug({ err: error, script: script.name }, 'script not loaded')
    }
  }

  /** Sleeps with backoff and jitter; false when the deadline would pass meanwhile. */
  async #pause(attempt: number, deadline: number): Promise<boolean> {
    const longestMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 16))
    const leftMs = deadline - this.#clock.monotonicMs()
    if (leftMs <= 0) return false
    await this.#clock.sleep(Math.min(leftMs, longestMs * (0.5 + this.#random() / 2)))
    return true
  }

  /**
   * The promise, or LinkLostError at the deadline. What is further off than the links' own timeouts needs no timer of
   * its own: so the usual call costs none.
   */
  async #before<T>(deadline: number, promise: Promise<T>): Promise<T> {
    const leftMs = deadline - this.#clock.monotonicMs()
    if (leftMs > 2 * this.#replyTimeoutMs) return promise
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new LateError('no answer before the deadline')), Math.max(0, leftMs))
    })
    try {
      return await Promise.race([promise, late])
    } finally {
      clearTimeout(timer)
    }
  }

  get #named(): string {
    return `Redis at ${this.#seeds.join(',')}`
  }

  #unreachable(timeoutMs: number, cause: unknown): RingfsError {
    const code = classify(cause).kind === 'wait' ? 'is not ready' : 'cannot be reached'
    return new RingfsError(
      'REDIS_UNREACHABLE',
      `${this.#named} ${code} (${messageOf(cause)}; tried for ${Math.round(timeoutMs)} ms): ` +
        'start redis-server there, or run `ringfs up`, which starts its own',
      { cause },
    )
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

  #routeWait(key: string, timeoutMs: number, ask: Send): Promise<RedisValue> {
    const send: Send = async (main) => ask(await this.#waits.connect(main.address))
    const what = { slot: keySlot(key), what: 'WAIT', script: MARK, timer: this.#timer('WAIT') }
    return this.#route({ ...what, send, timeoutMs: timeoutMs + this.#replyTimeoutMs }, this.#clock.monotonicMs())
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
    this.#isClosed = true
    for (const subscription of this.#subscriptions) subscription.close()
    this.#subscriptions.clear()
    this.#waits.close()
    this.#topology.close()
    await Promise.all(this.#aofs.map(async (aof) => aof?.close()))
  }
}
