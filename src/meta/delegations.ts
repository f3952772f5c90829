/**
 * The delegations that this session holds: docs/decisions/2026-11-21-delegations.md says what they promise and why.
 *
 *   none --used twice, quiet--> asked --reply and marker--> held --used, half over--> held, renewal asked
 *     ^                           |                           |
 *     +------- refused, recall, loss of coherence, an own transaction prepared there, time over
 *
 * Invariants. `holds` is true only between the marker of a grant, behind which no event of the partition is on its way, and
 * whatever ends it: a recall that was read, HOLD_MS since the grant or its last renewal was asked for, loss of coherence. Each
 * end has a number, and a reply that was asked for before the last end counts for nothing. A token is used once, and rises.
 */
import type { Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'

/** An entry in Redis is good for VALID_MS; the holder counts less, since two clocks do not run alike. */
export const VALID_MS = 3_000
const HOLD_MS = 2_000
const RENEW_BELOW_MS = 1_000
/** Two uses of a partition within this time are worth a question. */
const WANTED_MS = 3_000
/** How long a grant may wait for its marker before it is asked for anew. */
const MARKER_MS = 500
const RETRY_FIRST_MS = 50
const RETRY_FAILED_MS = 1_000
/** By so much the wall clock and the monotonic one part when the machine slept, or somebody set its clock. */
const SLEPT_MS = 500
const LOOK_AT_CLOCK_MS = 1

/** What `delegate.lua` answers: later: not before so many milliseconds; lapsed: what was to be renewed is over. */
export type Grant =
  { readonly kind: 'granted' } | { readonly kind: 'later'; readonly ms: number } | { readonly kind: 'lapsed' }

export interface DelegationDeps {
  readonly partitions: number
  readonly clock: Clock
  readonly log: Log
  /** Events of the partition arrive, and the lease is good. */
  readonly isCoherent: (p: number) => boolean
  /** Asks for a delegation; `renews`: the token of the one that is held, 0 for a new one. */
  readonly ask: (p: number, token: number, renews: number) => Promise<Grant>
  /** Registers what is owed in the partition, then ends the entry in Redis that has this token or an older one. */
  readonly giveBack: (p: number, token: number) => Promise<void>
  /** No delegation is asked for so long after a change by others was heard of. */
  readonly quietMs: number
}

interface Share {
  /** Held until then, on the monotonic clock. */
  untilMs: number
  /** Of what is held. */
  token: number
  /** How often it ended. */
  ends: number
  usedMs: number
  notBeforeMs: number
  asking: boolean
  /** Granted, but its marker has not come. */
  granted: { readonly token: number; readonly askedMs: number } | undefined
  /** The last marker that came. */
  marked: number
  /** Own changes under way that may take a last name away: nothing is opened without being registered meanwhile. */
  removals: number
  givingBack: Promise<void> | undefined
  /** The newest token of what is still to be given back, 0 if nothing is. */
  toGiveBack: number
  /** Until then Redis may have an entry of ours, whether we know of it or not. */
  entryUntilMs: number
}

export class Delegations {
  readonly #deps: DelegationDeps
  readonly #shares: (Share | undefined)[]
  #lastToken = 1
  readonly #asking = new Set<Promise<void>>()
  #isStopped = false
  #lookedMs = -Infinity
  #partedMs: number

  constructor(deps: DelegationDeps) {
    this.#deps = deps
    this.#shares = new Array<Share | undefined>(deps.partitions)
    this.#partedMs = this.#parting(deps.clock.monotonicMs())
  }

  /** Nobody else has changed anything in the partition that was not heard of, nor will in this turn. Counts as a use of it. */
  holds(p: number): boolean {
    const { clock, isCoherent } = this.#deps
    const share = (this.#shares[p] ??= newShare())
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#lookedMs >= LOOK_AT_CLOCK_MS) this.#lookAtClock(nowMs)
    if (!isCoherent(p)) return false
    if (share.untilMs > nowMs && share.removals === 0) {
      if (share.untilMs - nowMs < RENEW_BELOW_MS && nowMs >= share.notBeforeMs) this.#ask(p, share, share.token)
      return true
    }
    if (share.untilMs <= nowMs) this.#want(p, share, nowMs)
    return false
  }

  /** The marker of a grant came, and with it all that was published in the partition before. */
  marked(p: number, token: number): void {
    const share = this.#shares[p]
    if (share === undefined) return
    share.marked = token
    if (share.granted?.token === token) this.#hold(share, share.granted)
  }

  /** Others want to change something. */
  recalled(p: number): void {
    this.#end((this.#shares[p] ??= newShare()))
    void this.giveBack(p)
  }

  /** Others have changed something. Whoever holds the delegation should have been asked first: so he does not, whatever went wrong. */
  changed(p: number): void {
    const share = this.#shares[p]
    if (share === undefined) return
    if (share.untilMs > 0) this.#end(share)
    share.notBeforeMs = Math.max(share.notBeforeMs, this.#deps.clock.monotonicMs() + this.#deps.quietMs)
  }

  /** Nothing is held any more, and nothing that was asked for counts. */
  lost(): void {
    for (const share of this.#shares) if (share !== undefined) this.#end(share)
  }

  /** The same of one partition. */
  lostIn(p: number): void {
    const share = this.#shares[p]
    if (share !== undefined) this.#end(share)
  }

  /**
   * Runs an own change that may take a last name away: nothing is opened meanwhile by what is held here. Nothing is held any more
   * after one that failed, for it may still be done later, and after one that `prepares`: what it prepared becomes true elsewhere.
   * A grant that came just before it ends when its reply comes; after it none is given.
   */
  async removing<T>(p: number, prepares: boolean, change: () => Promise<T>): Promise<T> {
    const share = (this.#shares[p] ??= newShare())
    share.removals++
    let ends = true
    try {
      const reply = await change()
      ends = prepares
      return reply
    } finally {
      if (ends) this.#end(share)
      share.removals--
    }
  }

  /** Ends what is held of the partition, and says so. Never fails: the entry in Redis ends by itself. */
  giveBack(p: number): Promise<void> {
    const share = (this.#shares[p] ??= newShare())
    this.#end(share)
    // Of now: what is asked for from here on is not meant.
    share.toGiveBack = this.#lastToken
    share.givingBack ??= this.#giveBack(p, share).finally(() => {
      share.givingBack = undefined
    })
    return share.givingBack
  }

  /** Nothing is held or asked for any more. All that Redis may have of it is given back: what is not would keep others waiting. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.lost()
    await Promise.all(this.#asking)
    const nowMs = this.#deps.clock.monotonicMs()
    const left = [...this.#shares.entries()].filter(([, share]) => (share?.entryUntilMs ?? -Infinity) > nowMs)
    await Promise.all(left.map(([p]) => this.giveBack(p)))
  }

  async #giveBack(p: number, share: Share): Promise<void> {
    while (share.toGiveBack > 0) {
      const token = share.toGiveBack
      share.toGiveBack = 0
      const { entryUntilMs } = share
      try {
        await this.#deps.giveBack(p, token)
        const wasAsked = share.asking || share.entryUntilMs !== entryUntilMs
        if (!wasAsked) share.entryUntilMs = -Infinity
      } catch (error) {
        this.#deps.log.warn(
          { partition: p, error: messageOf(error) },
          'a delegation could not be given back: it runs out',
        )
      }
    }
  }

  #end(share: Share): void {
    share.ends++
    share.untilMs = 0
    share.granted = undefined
  }

  #want(p: number, share: Share, nowMs: number): void {
    const isWanted = nowMs - share.usedMs < WANTED_MS
    share.usedMs = nowMs
    if (this.#isStopped) return
    const isWaiting = share.granted !== undefined && nowMs - share.granted.askedMs < MARKER_MS
    if (!isWanted || isWaiting || nowMs < share.notBeforeMs) return
    this.#ask(p, share, 0)
  }

  #ask(p: number, share: Share, renews: number): void {
    if (share.asking) return
    share.asking = true
    const asking = this.#askNow(p, share, renews).finally(() => {
      share.asking = false
      this.#asking.delete(asking)
    })
    this.#asking.add(asking)
  }

  async #askNow(p: number, share: Share, renews: number): Promise<void> {
    const { clock, log, ask } = this.#deps
    const token = ++this.#lastToken
    const { ends } = share
    const askedMs = clock.monotonicMs()
    try {
      const reply = await ask(p, token, renews)
      if (share.ends === ends) this.#judge(share, reply, renews, { token, askedMs })
    } catch (error) {
      share.notBeforeMs = clock.monotonicMs() + RETRY_FAILED_MS
      log.debug({ partition: p, error: messageOf(error) }, 'no delegation')
    } finally {
      share.entryUntilMs = clock.monotonicMs() + VALID_MS
    }
  }

  #judge(
    share: Share,
    reply: Grant,
    renews: number,
    grant: { readonly token: number; readonly askedMs: number },
  ): void {
    if (reply.kind === 'later') {
      share.notBeforeMs = this.#deps.clock.monotonicMs() + Math.max(RETRY_FIRST_MS, reply.ms)
    } else if (reply.kind === 'lapsed') this.#end(share)
    // Unbroken: the script saw the entry that was renewed.
    else if (renews !== 0 || share.marked === grant.token) this.#hold(share, grant)
    else share.granted = grant
  }

  #hold(share: Share, { token, askedMs }: { readonly token: number; readonly askedMs: number }): void {
    share.granted = undefined
    share.token = token
    share.untilMs = askedMs + HOLD_MS
  }

  #lookAtClock(nowMs: number): void {
    this.#lookedMs = nowMs
    const partedMs = this.#parting(nowMs)
    if (Math.abs(partedMs - this.#partedMs) > SLEPT_MS) this.lost()
    this.#partedMs = partedMs
  }

  #parting(monotonicMs: number): number {
    const { sec, nsec } = this.#deps.clock.now()
    return sec * 1_000 + nsec / 1e6 - monotonicMs
  }
}

function newShare(): Share {
  return {
    untilMs: 0,
    token: 0,
    ends: 0,
    usedMs: -Infinity,
    notBeforeMs: -Infinity,
    asking: false,
    granted: undefined,
    marked: 0,
    removals: 0,
    givingBack: undefined,
    toGiveBack: 0,
    entryUntilMs: -Infinity,
  }
}
