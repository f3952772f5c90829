/**
 * One client's session: its id, the lease that it renews, and the numbering of its changes.
 *
 *   new --open--> live --lease not renewed in time--> lapsed --renewed--> live
 *                  |                                     |
 *                  +---- marked dead by another client --+--> dead (a new id is taken: onDead)
 *
 * Invariants. A sequence number is used for one change only, however often it is sent. `low` of a partition never passes a sequence
 * of it whose reply has not come. A change of names or contents that failed is not carried out behind a later one, nor where another
 * client may have a lock of the file that was held here: these wait until it cannot be any more (late-copies.ts). While `isLive` no other
 * client can have marked the session dead: the lease is counted from before it was asked for, by the steady clock and by that of the wall,
 * whichever has come further (time-passed.ts).
 */
import { hostname } from 'node:os'
import type { Clock } from '../base/clock.js'
import { momentOf, passedMs, type Moment } from '../base/time-passed.js'
import { leavesDoubt } from '../base/doubt.js'
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { Processes } from '../base/processes.js'
import type { RedisArg, RedisStore, Script } from '../cluster/contract.js'
import { arrayOf, numberOf } from '../cluster/reply.js'
import { pastFreeze } from './freeze.js'
import { InFlight } from './in-flight.js'
import { LateCopies } from './late-copies.js'
import { STATUS_DEAD_SESSION, STATUS_DONE, STATUS_STALE, type Reply } from './reply.js'
import type { VolumeKeys } from './keys.js'
import type { Replicas } from './replicas.js'
import { Tails, encodeNamed, isOfContents } from './tails.js'
import { SCRIPTS } from './scripts.js'

/** Less is what a clock that is kept right does by itself. */
export const CLOCK_STEP_MS = 5_000
/** A renewal that took no longer tells Redis's time well enough. */
const EXACT_MS = 1_000
const RENEW_DIVISOR = 4
/** How often is looked whether the lease has run out while the machine was suspended. */
const LOOK_MS = 500

/** Behind them another client may have a lock under which something was written here. To lock anew may be to hold less than before. */
const GIVE_LOCKS: ReadonlySet<Script> = new Set<Script>([SCRIPTS.unlock, SCRIPTS.lock, SCRIPTS.lockDrop])

export interface SessionOptions {
  readonly store: RedisStore
  readonly keys: VolumeKeys
  readonly clock: Clock
  readonly log: Log
  readonly processes: Processes
  readonly replicas: Replicas
  readonly ttlMs: number
  readonly operationDeadlineMs: number
}

export class Session {
  readonly #options: SessionOptions
  readonly #inFlight = new InFlight()
  /** Changes of names and contents, by the partitions that they change. */
  readonly #late = new LateCopies<number>()
  readonly tails = new Tails()
  #id = 0
  #newest = 0
  #sequence = 0
  /** Redis's clock minus ours, which never steps: what it is at least and at most. */
  #redisAhead: { readonly leastMs: number; readonly mostMs: number } | undefined
  /** When the newest lease that was given was asked for. */
  #leasedAt: Moment | undefined
  #liveSinceMs = 0
  #wasLive = false
  #timer: NodeJS.Timeout | undefined
  #looking: NodeJS.Timeout | undefined
  #renewing: Promise<void> | undefined
  /** Ends with the newest renewal, whatever it answers. */
  #asked: Promise<unknown> = Promise.resolve()
  #isClosed = false
  /** Called when the lease lapsed (false) and when it is good again (true). */
  onLive: (live: boolean) => void = () => undefined
  /** Called when a change of a partition, and of those `beside` it, was sent, and whether it was made is not known. */
  onUncertain: (p: number, sequence: number, beside: readonly number[]) => void = () => undefined
  /** Called when a change was judged: what is below `low` in the partition is not wanted any more. */
  onJudged: (p: number, low: number) => void = () => undefined
  /** Called when another client has marked this session dead, before anything is sent in the next. */
  onEnded: () => void = () => undefined
  /** Called then, to ask for the last time what became of its changes. What it throws keeps the next session from beginning. */
  onLastLook: () => Promise<void> = () => Promise.resolve()
  /** Called when another client has marked this session dead and a new id was taken. */
  onDead: () => Promise<void> = () => Promise.resolve()

  constructor(options: SessionOptions) {
    this.#options = options
  }

  get id(): number {
    return this.#id
  }

  /** The newest session of the volume, of whomever, as the last renewal told. */
  get newest(): number {
    return this.#newest
  }

  get ttlMs(): number {
    return this.#options.ttlMs
  }

  get isLive(): boolean {
    return this.leaseLeftMs > 0
  }

  /** How long it is good from now; 0 if it is not. */
  get leaseLeftMs(): number {
    if (this.#leasedAt === undefined) return 0
    return Math.max(0, this.#options.ttlMs - passedMs(this.#options.clock, this.#leasedAt))
  }

  /** How long the lease has been good without a gap; 0 if it is not. */
  get liveForMs(): number {
    return this.isLive ? this.#options.clock.monotonicMs() - this.#liveSinceMs : 0
  }

  get partitionsTouched(): Iterable<number> {
    return this.tails.partitions
  }

  async open(): Promise<void> {
    await this.#begin()
    this.#schedule()
  }

  /** No sequence of this session is higher so far. */
  get newestSequence(): number {
    return this.#sequence
  }

  /** Resolves when no change of the partition is under way that is now: what is sent behind it comes behind all copies of it. undefined: none is. */
  past(p: number): Promise<void> | undefined {
    return this.#inFlight.past(p, this.#sequence)
  }

  /** Sequence numbers name transactions, too. */
  nextSequence(): number {
    return ++this.#sequence
  }

  /**
   * Runs a script of lib/mutate.lua on partition `p`, once. `keys` and `args` follow those that all of them have. `beside`: what else it
   * changes; whether it was judged, and what became of it, is known in `p` alone.
   */
  async change(
    script: Script,
    p: number,
    keys: readonly string[],
    args: readonly RedisArg[],
    beside: readonly number[] = [],
  ): Promise<Reply> {
    const { store, keys: volume, clock, operationDeadlineMs, replicas } = this.#options
    const partition = volume.partition(p)
    const session = this.#id
    if (isOfContents(script) || GIVE_LOCKS.has(script)) {
      for (const one of [p, ...beside]) if (this.#late.has(one)) await this.#untilPast(one)
    }
    const sequence = this.nextSequence()
    const low = this.#inFlight.begin(p, sequence)
    const named = this.tails.name(p, script, sequence, low)
    const now = clock.now()
    let [isJudged, isInDoubt] = [false, false]
    try {
      const all = [
        partition.inodes,
        partition.locks,
        partition.counters,
        partition.replies(session),
        partition.channel,
        partition.open,
        partition.garbage,
        partition.zombies,
        ...keys,
      ]
      const words = [session, sequence, low, encodeNamed(named), now.sec, now.nsec, ...args]
      const doubt = { mayHaveRun: false }
      const options = { deadlineMs: operationDeadlineMs, doubt }
      const run = (): Promise<Reply> =>
        pastFreeze(clock, operationDeadlineMs, doubt, () => store.run(script, all, words, options))
      // Judged behind it: until then nobody may say that a lost server has lost it.
      // A refusal changes nothing; but what it had forgotten must not be missed later.
      const isNothing = (reply: Reply): boolean => reply.status !== STATUS_DONE && named.contents.length === 0
      const reply = await replicas.ofChange(script, partition.inodes, run, isNothing)
      // One of these two was not judged at all: what came with it is in the table still.
      if (reply.status !== STATUS_DEAD_SESSION && reply.status !== STATUS_STALE) {
        isJudged = true
        if (session === this.#id) this.tails.judged(p, script, sequence, named, isNothing(reply), beside)
        this.onJudged(p, low)
      }
      return this.#judge(reply)
    } catch (error) {
      isInDoubt = leavesDoubt(error)
      if (isInDoubt) this.onUncertain(p, sequence, beside)
      throw error
    } finally {
      this.#inFlight.end(p, sequence)
      if (isInDoubt && session === this.#id && isOfContents(script)) {
        for (const one of [p, ...beside]) this.#late.add(one, this.#inFlight.past(p, sequence))
      }
      if (!isJudged && session === this.#id) this.tails.failed(p, sequence, named)
    }
  }

  /** Resolves when no change of the partition that failed can be carried out any more; undefined: none can. EIO: the session was ended. */
  settled(p: number): Promise<void> | undefined {
    return this.#late.has(p) ? this.#untilPast(p) : undefined
  }

  async #untilPast(p: number): Promise<void> {
    const session = this.#id
    for (let end = this.#late.end(p); end !== undefined; end = this.#late.end(p)) await end
    if (session !== this.#id) throw new PosixError('EIO', 'the session was ended by another client')
  }

  #judge(reply: Reply): Reply {
    if (reply.status === STATUS_DEAD_SESSION) {
      this.#leasedAt = undefined
      this.#tellLive()
      void this.#renewOnce()
      throw new PosixError('EIO', 'the session was ended by another client; whether the change was made is unknown')
    }
    if (reply.status === STATUS_STALE) throw new PosixError('EIO', 'a change was answered before it was made')
    return reply
  }

  async #begin(): Promise<void> {
    const { store, keys, clock, ttlMs, processes } = this.#options
    const asked = momentOf(clock)
    const who = JSON.stringify({ host: hostname(), pid: process.pid, since: Date.now(), ...processes.self() })
    // A reply that is lost leaves a session that holds nothing and lapses.
    const id = await store.run(
      SCRIPTS.sessionBegin,
      [keys.wide('s'), keys.wide('h'), keys.wide('n')],
      [ttlMs, who, store.isLone ? '1' : '0'],
      {
        deadlineMs: ttlMs,
      },
    )
    this.#id = numberOf(id, 'session-begin')
    this.#newest = this.#id
    this.tails.clear()
    this.#late.clear()
    this.#liveFrom(asked)
  }

  async #renew(): Promise<boolean> {
    const { store, keys, clock, ttlMs } = this.#options
    const asked = momentOf(clock)
    const reply = await store.run(
      SCRIPTS.sessionRenew,
      [keys.wide('s'), keys.wide('n'), keys.wide('dead')],
      [this.#id, ttlMs],
      { deadlineMs: ttlMs },
    )
    if (reply === 0) return false
    const [newest, redisMs] = arrayOf(reply, 'session-renew')
    const nowMs = numberOf(redisMs, 'session-renew')
    this.#newest = numberOf(newest, 'session-renew')
    this.#liveFrom(asked)
    this.#timeIs(nowMs, asked.steadyMs)
    return true
  }

  /**
   * What Redis's clock says now, as far as it goes on as it did at the last renewal; undefined before the first one. A replica
   * that is promoted has a clock of its own.
   */
  get redisMs(): number | undefined {
    if (this.#redisAhead === undefined) return undefined
    const { leastMs, mostMs } = this.#redisAhead
    return this.#options.clock.monotonicMs() + (leastMs + mostMs) / 2
  }

  /**
   * After a step of Redis's clock nobody's lease means what it said: as after an outage, all may renew before anyone is judged. It read
   * its clock at some moment while it was asked: of a renewal that took long (a Redis that was away, a process that stood still) only
   * what no such moment explains is a step.
   */
  #timeIs(redisMs: number, askedMs: number): void {
    const told = { leastMs: redisMs - this.#options.clock.monotonicMs(), mostMs: redisMs - askedMs }
    const known = this.#redisAhead ?? told
    const leastMs = Math.max(known.leastMs, told.leastMs)
    const mostMs = Math.min(known.mostMs, told.mostMs)
    const stepMs = leastMs - mostMs
    const isExact = told.mostMs - told.leastMs <= EXACT_MS
    if (stepMs <= 0) this.#redisAhead = { leastMs, mostMs }
    else if (isExact || stepMs > CLOCK_STEP_MS) this.#redisAhead = told
    if (stepMs <= CLOCK_STEP_MS) return
    this.#options.log.warn({ stepMs: Math.round(stepMs) }, 'the clock of Redis was set')
    this.#liveSinceMs = askedMs
  }

  #liveFrom(asked: Moment): void {
    if (!this.isLive) this.#liveSinceMs = asked.steadyMs
    this.#leasedAt = asked
  }

  #tellLive(): void {
    if (this.isLive === this.#wasLive) return
    this.#wasLive = this.isLive
    this.onLive(this.#wasLive)
  }

  /** One renewal at a time; a dead session is replaced by a new one. */
  #renewOnce(): Promise<void> {
    this.#renewing ??= this.#renewOrReplace()
      .catch((error: unknown) => {
        this.#options.log.warn({ error: messageOf(error) }, 'the lease of the session could not be renewed')
      })
      .finally(() => {
        this.#renewing = undefined
        this.#tellLive()
      })
    return this.#renewing
  }

  async #renewOrReplace(): Promise<void> {
    if (this.#hasStopped()) return
    const renewal = this.#renew()
    this.#asked = Promise.allSettled([renewal])
    // Ended by itself meanwhile: nobody needs another one.
    if ((await renewal) || this.#hasStopped()) return
    this.#leasedAt = undefined
    this.#tellLive()
    this.#options.log.warn({ session: this.#id }, 'the session was ended by another client: beginning a new one')
    this.onEnded()
    await this.onLastLook()
    await this.#begin()
    await this.onDead()
  }

  #hasStopped(): boolean {
    return this.#isClosed
  }

  /** Finds out whether the lease is good, and renews it. */
  async confirm(): Promise<void> {
    if (!this.isLive) await this.#renewOnce()
    if (!this.isLive) throw new PosixError('EIO', 'the lease of the session could not be renewed')
  }

  #schedule(): void {
    this.#wasLive = this.isLive
    const tick = (): void => {
      void this.#renewOnce()
      this.#tellLive()
    }
    this.#timer = setInterval(tick, this.#options.ttlMs / RENEW_DIVISOR)
    this.#timer.unref()
    // Behind a suspend the kernel goes by what it has, and asks nothing: it is to be told soon.
    this.#looking = setInterval(() => {
      if (this.#wasLive && !this.isLive) tick()
    }, LOOK_MS)
    this.#looking.unref()
  }

  /** No renewal is on its way any more, and none will be. What follows on the end of a session before may go on for as long as it likes. */
  async stopRenewing(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    clearInterval(this.#looking)
    await this.#asked
  }

  /** Stops all. What the session holds is released by the caller (recovery.ts). */
  async stop(): Promise<void> {
    await this.stopRenewing()
    await this.#renewing
  }
}
