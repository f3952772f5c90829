/** Follows the membership: keeps the newest view and the ring made of it. Fetching the view also drives its timeouts. */
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { systemClock, type Clock, type Timer } from '../base/clock.js'
import { ClockOffset, wallMs } from './clock-offset.js'
import type { ClusterSettings, ClusterView, Member, RedisStore, RangedRing } from './contract.js'
import { ClusterKeys } from './keys.js'
import { VIEW } from './membership.js'
import { buildRing, type RingMember } from './ring.js'
import { decodeView } from './view.js'

export interface ClusterWatcher {
  /** What is known now; costs nothing. Ring and view belong together. */
  current(): CurrentRing
  /** This machine's clock against that of Redis. */
  readonly clockOffset: ClockOffset
  /** A view fetched after this call. Throws REDIS_UNREACHABLE; the old view stays then. */
  refresh(): Promise<ClusterView>
  /** Called after each change of the epoch. Answers a function that ends it. */
  onChange(listener: (view: ClusterView) => void): () => void
  close(): void
}

export interface CurrentRing {
  readonly view: ClusterView
  readonly ring: RangedRing
  /**
   * As `ring`, with the members that are leaving or were given up for the time being in their old places: its owners are
   * those from before they left.
   */
  readonly former: RangedRing
}

export interface WatchOptions {
  readonly volume: string
  readonly log: Log
  /** Default 2,000. */
  readonly intervalMs?: number
  /**
   * So old the figures of members may be (space, chunks, silence, queues, reports) as long as the epoch is the same: then one look costs the
   * same however many members there are. Who calls `refresh` gets new ones. Default: they are new with every look.
   */
  readonly figuresMs?: number
  readonly clock?: Clock
}

const INTERVAL_MS = 2_000
const FETCH_DEADLINE_MS = 10_000

/** Resolves when the first view is there. */
export async function watchView(store: RedisStore, options: WatchOptions): Promise<ClusterWatcher> {
  const watcher = new Watcher(store, options)
  await watcher.refresh()
  watcher.start()
  return watcher
}

/** One look. Queues of nodes that are not in `known` cost a second round trip. */
export async function fetchView(
  store: RedisStore,
  volume: string,
  known: readonly string[] = [],
  onTime: (redisMs: number) => void = () => undefined,
): Promise<ClusterView> {
  const keys = new ClusterKeys(volume)
  const view = await fetchOnce(store, keys, known, onTime)
  const asked = new Set(known)
  if (view.members.every((member) => asked.has(member.id))) return view
  const ids = view.members.map((member) => member.id)
  return fetchOnce(store, keys, ids, () => undefined)
}

async function fetchOnce(
  store: RedisStore,
  keys: ClusterKeys,
  queuesOf: readonly string[],
  onTime: (redisMs: number) => void,
): Promise<ClusterView> {
  const queues = queuesOf.map((id) => keys.queue(id))
  const reply = await store.run(VIEW, [...keys.membership, ...queues], [], { deadlineMs: FETCH_DEADLINE_MS })
  const { redisMs, members, lengths, ...rest } = decodeView(reply)
  if (members === null) throw new RingfsError('INTERNAL', 'Redis answered view without the members that were asked for')
  onTime(redisMs)
  const lengthOf = new Map(lengths.map((length, i) => [queuesOf[i] ?? '', length]))
  return { ...rest, members: withLengths(members, lengthOf) }
}

/** One look without new figures where the members are still those of `old`; where they are others, queues are as long as they were. */
async function fetchChange(
  store: RedisStore,
  keys: ClusterKeys,
  old: ClusterView,
  onTime: (redisMs: number) => void,
): Promise<ClusterView> {
  const known = [old.epoch, old.changedMs ?? -1]
  const reply = await store.run(VIEW, keys.membership, known, { deadlineMs: FETCH_DEADLINE_MS })
  const { redisMs, members, settings, epoch, changedMs } = decodeView(reply)
  onTime(redisMs)
  if (members === null) return isSameSettings(settings, old.settings) ? old : { ...old, settings }
  const lengthOf = new Map(old.members.map(({ id, queueLength }) => [id, queueLength]))
  return { epoch, changedMs, members: withLengths(members, lengthOf), settings }
}

function withLengths(members: readonly Member[], lengthOf: ReadonlyMap<string, number>): readonly Member[] {
  return members.map((member) => ({ ...member, queueLength: lengthOf.get(member.id) ?? 0 }))
}

function isSameSettings(a: ClusterSettings, b: ClusterSettings | undefined): boolean {
  if (b === undefined) return false
  const others = new Map(Object.entries(b))
  return Object.entries(a).every(([name, value]) => others.get(name) === value)
}

/**
 * Who has a place on the ring. A node that is down keeps it for a while: what it misses waits in its queue, and its chunks
 * come back with it. One that is out, drains or is gone has none, one that joins has none yet.
 */
export function ringMembers(view: ClusterView): readonly RingMember[] {
  return view.members
    .filter(({ state, isOut }) => (state === 'up' || state === 'suspect' || state === 'down') && isOut !== true)
    .map(placeOf)
}

function formerMembers(view: ClusterView): readonly RingMember[] {
  return view.members.filter(({ state }) => state !== 'gone' && state !== 'joining').map(placeOf)
}

function isSame(a: readonly RingMember[], b: readonly RingMember[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ id, weight, zone }, index) => {
      const other = b[index]
      return other !== undefined && id === other.id && weight === other.weight && zone === other.zone
    })
  )
}

function placeOf({ id, weight, zone }: Member): RingMember {
  return { id, weight, zone }
}

function idsOf({ members }: ClusterView): readonly string[] {
  return members.map(({ id }) => id)
}

class Watcher implements ClusterWatcher {
  readonly #store: RedisStore
  readonly #options: WatchOptions
  readonly #listeners = new Set<(view: ClusterView) => void>()
  readonly clockOffset = new ClockOffset()
  readonly #clock: Clock
  readonly #keys: ClusterKeys
  #current: CurrentRing
  #timer: Timer | undefined
  /** Of the clock that never steps: when the figures were fetched. */
  #figuresMs = -Infinity
  #fetching: Promise<ClusterView> | undefined
  #following: Promise<ClusterView> | undefined
  #isClosed = false

  constructor(store: RedisStore, options: WatchOptions) {
    this.#store = store
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#keys = new ClusterKeys(options.volume)
    const none = buildRing([])
    this.#current = { view: { epoch: -1, members: [] }, ring: none, former: none }
  }

  start(): void {
    this.#timer = this.#clock.after(this.#options.intervalMs ?? INTERVAL_MS, () => {
      const { figuresMs = 0 } = this.#options
      const isFull = this.#clock.monotonicMs() - this.#figuresMs >= figuresMs
      ;(this.#fetching ?? this.#fetch(isFull))
        .catch((error: unknown) => this.#options.log.warn({ err: messageOf(error) }, 'membership not refreshed'))
        .finally(() => {
          if (!this.#isClosed) this.start()
        })
    })
    this.#timer.unref()
  }

  current(): CurrentRing {
    return this.#current
  }

  /** A fetch that runs already may have been answered before the caller's reason arose: then the next one is shared. */
  refresh(): Promise<ClusterView> {
    if (this.#fetching === undefined) return this.#fetch(true)
    this.#following ??= this.#fetching
      .catch(() => undefined)
      .then(() => {
        this.#following = undefined
        return this.#fetch(true)
      })
    return this.#following
  }

  #fetch(isFull: boolean): Promise<ClusterView> {
    this.#fetching = this.#fetchOnce(isFull).finally(() => (this.#fetching = undefined))
    return this.#fetching
  }

  async #fetchOnce(isFull: boolean): Promise<ClusterView> {
    const { view: old } = this.#current
    const startedMs = this.#clock.monotonicMs()
    const onTime = (redisMs: number): void => {
      const steadyMs = this.#clock.monotonicMs()
      this.clockOffset.note(steadyMs - startedMs, wallMs(this.#clock), redisMs, steadyMs)
    }
    const view = isFull
      ? await fetchView(this.#store, this.#options.volume, idsOf(old), onTime)
      : await fetchChange(this.#store, this.#keys, old, onTime)
    if (isFull) this.#figuresMs = startedMs
    this.#accept(view)
    return view
  }

  #accept(view: ClusterView): void {
    const { view: old, ring: oldRing, former: oldFormer } = this.#current
    if (this.#isClosed || view === old) return
    if (view.members === old.members) this.#current = { view, ring: oldRing, former: oldFormer }
    else {
      const [members, formers] = [ringMembers(view), formerMembers(view)]
      // Placing all tokens takes milliseconds, so it is not done when somebody is merely suspected.
      const ring = isSame(members, ringMembers(old)) ? oldRing : buildRing(members)
      const isSameFormer = isSame(formers, formerMembers(old))
      const former = isSame(members, formers) ? ring : isSameFormer ? oldFormer : buildRing(formers)
      this.#current = { view, ring, former }
    }
    // The figures in the view change all the time; who is interested in them looks.
    const isSameEpoch = old.epoch === view.epoch && old.changedMs === view.changedMs
    const isKnown = isSameEpoch && old.settings?.walks === view.settings?.walks
    if (isKnown && old.members.length === view.members.length) return
    for (const listener of this.#listeners) listener(view)
  }

  onChange(listener: (view: ClusterView) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.#isClosed = true
    this.#timer?.close()
    this.#listeners.clear()
  }
}
