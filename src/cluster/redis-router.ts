/**
 * Carries a call out where its slot lives, until its deadline.
 *
 * The way of a call: slot of the key -> owner from the slot map -> that master's one pipelined connection. This is our
 * own and not ioredis's Cluster, because that waits without a deadline when no node answers, and adds a queue for each
 * call. What goes wrong is sorted by redis-errors.ts, and tried again here.
 *
 * Invariant: a failure that says "nothing was done" is told only if no attempt may have run, of this call or of earlier ones that share
 * its `doubt`. A call whose reply was lost, and which is refused when it is sent again, is REDIS_UNREACHABLE.
 */
import type { Clock } from '../base/clock.js'
import { RingfsError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { Timer } from '../base/metrics.js'
import type { Doubt, RedisArg, RedisValue, Script } from './contract.js'
import { doubtful, resolved, telling, unreachable, type Attempts } from './redis-attempts.js'
import { LinkLostError, classify, finalError, type Verdict } from './redis-errors.js'
import type { RedisLink } from './redis-link.js'
import type { Topology } from './redis-topology.js'
import type { Prefix } from './resp-commands.js'

/** One command: the parts of its bytes. */
export interface Command {
  readonly prefix: Prefix
  readonly first: readonly RedisArg[]
  readonly second: readonly RedisArg[]
}

/** What is carried out where a slot lives, and what it is named by in errors. */
export interface Call {
  readonly slot: number
  readonly what: string
  readonly timer: Timer
  readonly send: Send
  readonly timeoutMs: number
  readonly script?: Script
  readonly doubt?: Doubt | undefined
}

/** An attempt that went wrong, and where it had gone. */
interface Failed {
  readonly error: unknown
  readonly address: string
}

export type Send = (link: MasterLink) => Promise<RedisValue>

export function sending({ prefix, first, second }: Command): Send {
  return (link) => new Promise((resolve, reject) => link.enqueue(prefix, first, second, resolve, reject))
}

/** Where the next attempt goes, when a redirection said so. */
interface Target {
  readonly address: string
  readonly asking: boolean
}

/** The connection to a master. */
export type MasterLink = Pick<RedisLink, 'address' | 'enqueue' | 'send'>

/** Who owns the slots, and the connections to them: redis-topology.ts. */
export interface Masters extends Pick<Topology, 'owner' | 'moved' | 'refresh' | 'refreshBehind'> {
  readyLink(slot: number): MasterLink | undefined
  connect(address: string): Promise<MasterLink>
}

export interface RouterOptions {
  readonly topology: Masters
  readonly clock: Clock
  readonly log: Log
  /** Addresses of the URL. */
  readonly seeds: readonly string[]
  /** So long a link waits for an answer. */
  readonly replyTimeoutMs: number
  readonly attempts: Attempts
}

export class Router {
  readonly #topology: Masters
  readonly #clock: Clock
  readonly #log: Log
  readonly #seeds: readonly string[]
  readonly #replyTimeoutMs: number
  readonly #attempts: Attempts
  #retries = 0
  #isClosed = false

  constructor({ topology, clock, log, seeds, replyTimeoutMs, attempts }: RouterOptions) {
    this.#topology = topology
    this.#clock = clock
    this.#log = log
    this.#seeds = seeds
    this.#replyTimeoutMs = replyTimeoutMs
    this.#attempts = attempts
  }

  get retries(): number {
    return this.#retries
  }

  /** Nothing is begun or tried again from now on: CANCELLED. */
  close(): void {
    this.#isClosed = true
  }

  /** The usual call: the link is there, its own timeouts end before the deadline, and it goes well. Else see route(). */
  start({ prefix, first, second }: Command, call: Call): Promise<RedisValue> {
    const link = this.#isClosed ? undefined : this.#topology.readyLink(call.slot)
    const startedMs = this.#clock.monotonicMs()
    if (link === undefined || call.timeoutMs <= 2 * this.#replyTimeoutMs) return this.route(call, startedMs)
    return new Promise((resolve, reject) => {
      const replied = (value: RedisValue): void => {
        call.timer.record(this.#clock.monotonicMs() - startedMs)
        resolve(value)
      }
      link.enqueue(prefix, first, second, replied, (error) => {
        this.route(call, startedMs, { error, address: link.address }).then(resolve, reject)
      })
    })
  }

  /** Tries until the deadline. `failed`: of the first attempt, if that was made already. */
  async route(call: Call, startedMs: number, failed?: Failed): Promise<RedisValue> {
    const deadline = startedMs + call.timeoutMs
    let target: Target | undefined
    let last: unknown
    let failure = failed
    const doubt = call.doubt ?? { mayHaveRun: false }
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
      if (doubt.mayHaveRun && (kind === 'full' || kind === 'refused')) throw doubtful(address, call.what, error)
      if (kind === 'full' || kind === 'auth' || kind === 'refused') throw finalError(kind, error, address, call.what)
      doubt.mayHaveRun ||= kind === 'lost'
      if (this.#clock.monotonicMs() >= deadline) throw unreachable(this.#seeds, call.timeoutMs, telling(error, last))
      last = error
      target = await this.#recover(resolved(verdict, address), call, target, attempt, deadline)
    }
  }

  #addressOf(slot: number, target: Target | undefined): string {
    return target?.address ?? this.#topology.owner(slot) ?? this.#seeds.join(',')
  }

  async #attempt(call: Call, target: Target | undefined, deadline: number): Promise<RedisValue> {
    const { send } = call
    const ready = target === undefined ? this.#topology.readyLink(call.slot) : undefined
    if (ready !== undefined) return this.#attempts.before(deadline, send(ready))
    const link = await this.#attempts.before(deadline, this.#connect(call.slot, target))
    if (target?.asking !== true) return this.#attempts.before(deadline, send(link))
    // ASKING holds for the next command of the connection only: nothing may come between the two.
    const asking = link.send('ASKING', [])
    const reply = send(link)
    reply.catch(() => undefined)
    await asking
    return this.#attempts.before(deadline, reply)
  }

  async #connect(slot: number, target: Target | undefined): Promise<MasterLink> {
    if (target !== undefined) return this.#topology.connect(target.address)
    if (this.#topology.owner(slot) === undefined) await this.#topology.refresh()
    const owner = this.#topology.owner(slot)
    if (owner === undefined) throw new LinkLostError(`no master serves slot ${slot}`)
    return this.#topology.connect(owner)
  }

  /** Makes the next attempt possible; answers where it goes. */
  async #recover(
    verdict: Verdict,
    { slot, script }: Call,
    target: Target | undefined,
    attempt: number,
    deadline: number,
  ): Promise<Target | undefined> {
    switch (verdict.kind) {
      case 'moved':
        this.#topology.moved(slot, verdict.address)
        // Two nodes that each say the other one has it (a failover under way) must not be asked without a pause.
        if (attempt > 1) await this.#attempts.pause(attempt, deadline)
        return undefined
      case 'ask':
        if (attempt > 3) await this.#attempts.pause(attempt, deadline)
        return { address: verdict.address, asking: true }
      case 'noscript':
        if (script !== undefined) await this.#load(script, slot, target, deadline)
        return target
      case 'lost':
        await this.#attempts.pause(attempt, deadline)
        await this.#attempts.before(deadline, this.#topology.refresh()).catch((error: unknown) => {
          this.#log.debug({ err: error }, 'slot map not refreshed')
        })
        return undefined
      default:
        await this.#attempts.pause(attempt, deadline)
        // What waits may wait for a slot that has gone elsewhere meanwhile, or READONLY for a new master.
        this.#topology.refreshBehind()
        return undefined
    }
  }

  /** SCRIPT LOAD on the node that will run it. A failure shows in the next attempt. */
  async #load(script: Script, slot: number, target: Target | undefined, deadline: number): Promise<void> {
    try {
      const link = await this.#attempts.before(deadline, this.#connect(slot, target))
      await this.#attempts.before(deadline, link.send('SCRIPT', ['LOAD', script.source]))
    } catch (error) {
      if (classify(error).kind === 'refused') throw finalError('refused', error, '', `script ${script.name}`)
      this.#log.debug({ err: error, script: script.name }, 'script not loaded')
    }
  }
}
