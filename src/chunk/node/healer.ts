/**
 * A node's share of keeping every chunk on all its owners. It walks what it has, in the order of the ring; finds out from the owners of
 * each chunk whether they have it (compare.ts); looks again at what one seems to lack, a little later, and puts what is still lacking
 * into that owner's queue; and gives up what is none of its business once all owners have it on disk.
 *
 *            ring changed, or a rebalance             nothing lacking
 *   idle ----------------------------------> walking ------------------> whole --surplusMs--> walking, giving up surplus
 *     ^                                         | something lacking          |
 *     |                                         +--> waiting for the queues, then walking again
 *     +---- the ring changes at any time: begin anew ---+
 *
 * Invariants:
 * - Nobody decides for all: of the owners that have a chunk, the first in ring order queues it for those that lack it, after a
 *   walk in vain the second, too, and so on (the first may have looked before anything was lacking, and rest by now), in the end those
 *   that are no owners; where no owner has it, everyone who does. A task done twice is done once in effect.
 * - The last good copy is never removed: a copy is given up only while every owner, R of them, says that it has the chunk on disk
 *   and is not about to give it up itself (ChunkStore.retire: while a copy is being given up, its node answers that it has none.
 *   Of nodes that give up a chunk at the same time, the one that began last asks after all others began, and finds only copies
 *   that stay).
 * - A chunk that was put under an old ring is found: who puts learns of a newer epoch from the reply and queues for the new
 *   owners; what was put before this node knew of the new ring is met by the walk for it, which begins later.
 * - Nothing is done about what was seen only once: what is being written is not everywhere yet, and what is being deleted not gone
 *   everywhere.
 * - What lies in a folder that cannot be listed is not walked: it is neither offered nor given up. The walk goes on, and says how many such there are:
 *   a node that drains is not done with them.
 * - What this node is still to remove is offered to nobody: others have removed it, and would have it for good.
 * - A walk changes nothing that a second one would do differently: it may be interrupted anywhere.
 */
import type { Clock } from '../../base/clock.js'
import { messageOf } from '../../base/errors.js'
import { addTo } from '../../base/groups.js'
import type { Log } from '../../base/log.js'
import type { ClusterView, HealReport, RangedRing, RingRange } from '../../cluster/contract.js'
import { planOf } from '../../cluster/plan.js'
import { CHUNK_BUCKETS, type ChunkNodeApi } from '../contract.js'
import type { Enqueue, ReplicationTask } from '../replication.js'
import { sharedRanges } from './compare.js'
import { idsOnDisk, placesOf } from './digest.js'
import type { ChunkDisk } from './disk.js'
import { answerOf, foundIn, isAway, questionsOf, type Found } from './found.js'
import { OwnersAsked } from './owners-asked.js'
import type { Pace } from './pace.js'

export interface HealerOptions {
  readonly nodeId: string
  /** Volume uuid. */
  readonly volume: string
  readonly replicas: number
  readonly disk: Pick<ChunkDisk, 'list' | 'lacks' | 'retire' | 'chunks'>
  readonly peer: (nodeId: string) => ChunkNodeApi
  readonly current: () => { readonly view: ClusterView; readonly ring: RangedRing }
  readonly enqueue: Enqueue
  /** Entries in a node's queue. */
  readonly queueLength: (nodeId: string) => Promise<number>
  /** Whether this node has begun with all that stood in its queue when it started: what was deleted meanwhile is not offered. */
  readonly caughtUp: () => Promise<boolean>
  /** Chunks that this node is still to remove, as its queue says. Default: none. */
  readonly removals?: () => Promise<ReadonlySet<number>>
  readonly pace: Pace
  /** Chunks that were fetched so far. */
  readonly copied: () => number
  readonly clock: Clock
  readonly log: Log
  readonly random?: () => number
  readonly times?: Partial<HealTimes>
}

export interface HealTimes {
  /** A ring that has just changed may change again. */
  readonly settleMs: number
  /** What seems to be lacking is looked at again after so long: by then what is being written or deleted is so everywhere. */
  readonly graceMs: number
  /** A walk that found something lacking is repeated after so long at the latest. */
  readonly repeatMs: number
  /** All is compared again, whatever is known. */
  readonly auditMs: number
  readonly pollMs: number
  /** So long the first walk waits for the own queue. */
  readonly caughtUpMs: number
}

/** Where the view does not say it. */
const SURPLUS_MS = 60_000

const TIMES: HealTimes = {
  settleMs: 1_000,
  graceMs: 2_000,
  repeatMs: 60_000,
  auditMs: 6 * 3_600_000,
  pollMs: 500,
  caughtUpMs: 10 * 60_000,
}

/** Chunks of about so many are compared at a time. */
const SPAN_CHUNKS = 32_768
/** So many tasks wait in a queue at most: Redis holds them in memory. */
const QUEUE_MAX = 4_000
const NONE: ReadonlySet<number> = new Set()

/** What seemed to be lacking, and since when. */
interface Doubt {
  readonly ids: readonly number[]
  readonly sinceMs: number
}

export class Healer {
  readonly #options: HealerOptions
  readonly #times: HealTimes
  readonly #random: () => number
  readonly #owners: OwnersAsked
  /** Put into a queue by this process, and not known to be done. */
  readonly #queued = new Map<string, Set<number>>()
  #state = { plan: '', walked: 0, isDone: false, lacking: 0, skipped: 0, unlisted: 0, surplus: 0 }
  #retired = 0
  /** Walks for this plan after which something was still lacking. */
  #inVain = 0
  /** Owners that were down when their chunks were walked: when one is back, what it lacks is still to be found. */
  readonly #skipped = new Set<string>()
  /** Here, and to be removed: the queue is too long to be waited for. */
  #doomed = NONE

  constructor(options: HealerOptions) {
    this.#options = options
    this.#times = { ...TIMES, ...options.times }
    this.#random = options.random ?? Math.random
    this.#owners = new OwnersAsked(options)
  }

  report(): HealReport {
    const { pace, copied } = this.#options
    const rate = { copied: copied(), copiedBytes: pace.totalBytes, bytesPerS: Math.round(pace.bytesPerS) }
    return { ...this.#state, ...rate, retired: this.#retired }
  }

  /** Until the signal. Failures are logged and outlasted. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#catchUp(signal)
    while (!signal.aborted) {
      const plan = this.#plan()
      this.#skipped.clear()
      try {
        await this.#keep(plan, signal)
      } catch (error) {
        this.#options.log.warn({ err: messageOf(error) }, 'walk of the chunks cut short')
        await this.#wait(this.#times.repeatMs * this.#random(), plan, signal)
      }
    }
  }

  #plan(): string {
    return planOf(this.#options.current().view)
  }

  #isStill(plan: string): boolean {
    if (this.#plan() !== plan) return false
    if (this.#skipped.size === 0) return true
    const { members } = this.#options.current().view
    return !members.some(({ id, state }) => this.#skipped.has(id) && !isAway(state))
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const { clock, removals } = this.#options
    const { pollMs, caughtUpMs } = this.#times
    const endMs = clock.monotonicMs() + caughtUpMs
    while (!signal.aborted && clock.monotonicMs() < endMs) {
      if (await this.#isCaughtUp()) return
      await clock.sleep(pollMs)
    }
    // Others may need all else that is here.
    for (let isKnown = removals === undefined; !isKnown && !signal.aborted;) {
      try {
        this.#doomed = (await removals?.()) ?? NONE
        isKnown = true
      } catch (error) {
        this.#options.log.debug({ err: messageOf(error) }, 'what this node is to remove is not known yet')
        await clock.sleep(pollMs)
      }
    }
  }

  #isCaughtUp(): Promise<boolean> {
    return this.#options.caughtUp().catch(() => false)
  }

  /** Everything that one plan needs, and then rest; ends when the plan changes. */
  async #keep(plan: string, signal: AbortSignal): Promise<void> {
    const { settleMs, auditMs } = this.#times
    if (this.#doomed.size > 0 && (await this.#isCaughtUp())) this.#doomed = NONE
    if (!(await this.#wait(settleMs * (0.5 + this.#random()), plan, signal))) return
    if (!(await this.#makeWhole(plan, signal))) return
    if (!(await this.#giveUp(plan, signal))) return
    await this.#wait(auditMs * (0.75 + this.#random() / 2), plan, signal)
  }

  async #makeWhole(plan: string, signal: AbortSignal): Promise<boolean> {
    for (this.#inVain = 0; ; this.#inVain++) {
      if (!(await this.#walk(plan, false, signal))) return false
      if (this.#state.isDone) return true
      if (!(await this.#waitForQueues(plan, signal))) return false
    }
  }

  /** What an owner's bad copy, or its silence, keeps here is tried again, less and less often: owners hash all that they are asked for. */
  async #giveUp(plan: string, signal: AbortSignal): Promise<boolean> {
    const { auditMs } = this.#times
    const firstMs = this.#options.current().view.settings?.surplusMs ?? SURPLUS_MS
    for (let pauseMs = firstMs; this.#state.surplus > 0 && pauseMs < auditMs; pauseMs = Math.max(1_000, 2 * pauseMs)) {
      if (!(await this.#wait(pauseMs, plan, signal))) return false
      if (!(await this.#walk(plan, true, signal))) return false
      if (!this.#state.isDone && !(await this.#makeWhole(plan, signal))) return false
    }
    return true
  }

  /** Resolves false as soon as the plan is another, or at the signal. */
  async #wait(ms: number, plan: string, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#options
    const endMs = clock.monotonicMs() + ms
    for (;;) {
      if (signal.aborted || !this.#isStill(plan)) return false
      const leftMs = endMs - clock.monotonicMs()
      if (leftMs <= 0) return true
      await clock.sleep(Math.min(leftMs, this.#times.pollMs))
    }
  }

  async #waitForQueues(plan: string, signal: AbortSignal): Promise<boolean> {
    const endMs = this.#options.clock.monotonicMs() + this.#times.repeatMs
    while (this.#options.clock.monotonicMs() < endMs) {
      if (!(await this.#wait(2 * this.#times.pollMs, plan, signal))) return false
      const lengths = await Promise.all([...this.#queued.keys()].map((node) => this.#lengthOf(node)))
      if (lengths.every((length) => length === 0)) return true
    }
    return true
  }

  /** Asked for, it also forgets what is known to be done. */
  async #lengthOf(node: string): Promise<number> {
    const length = await this.#options.queueLength(node)
    if (length === 0) this.#queued.delete(node)
    return length
  }

  /** Resolves false when it was not finished. */
  async #walk(plan: string, retiring: boolean, signal: AbortSignal): Promise<boolean> {
    this.#state = { plan, walked: 0, isDone: retiring, lacking: 0, skipped: 0, unlisted: 0, surplus: 0 }
    this.#skipped.clear()
    const doubts: Doubt[] = []
    let unknown = 0
    const step = this.#bucketsAtATime()
    for (let bucket = 0; bucket < CHUNK_BUCKETS; bucket += step) {
      const ids = await this.#idsIn(bucket, bucket + step, plan, signal)
      if (ids === null) return false
      const found = await this.#look(ids, placesOf(bucket, bucket + step))
      doubts.push({ ids: found.doubtful, sinceMs: this.#options.clock.monotonicMs() })
      this.#state.skipped = this.#skipped.size
      const given = retiring ? await this.#retire(found.surplus) : 0
      unknown += found.unknown + (await this.#lookAgain(doubts, false, plan, signal))
      this.#state.walked = bucket + step
      this.#state.surplus += found.surplus.length - given
    }
    unknown += await this.#lookAgain(doubts, true, plan, signal)
    if (doubts.length > 0) return false
    this.#state.skipped = this.#skipped.size
    this.#state.isDone = this.#state.lacking + unknown === 0
    return true
  }

  #bucketsAtATime(): number {
    const spans = 2 ** Math.ceil(Math.log2(Math.max(1, this.#options.disk.chunks / SPAN_CHUNKS)))
    return Math.max(1, CHUNK_BUCKETS / spans)
  }

  /** null: the walk is over. */
  async #idsIn(from: number, to: number, plan: string, signal: AbortSignal): Promise<readonly number[] | null> {
    const { disk, volume } = this.#options
    const ids: number[] = []
    const gaps = new Set<number>()
    const onGaps = (buckets: readonly number[]): void => buckets.forEach((bucket) => gaps.add(bucket))
    for await (const page of idsOnDisk(disk, volume, from, to, onGaps)) {
      if (signal.aborted || !this.#isStill(plan)) return null
      for (const id of page) if (!this.#doomed.has(id)) ids.push(id)
    }
    this.#state.unlisted += gaps.size
    return signal.aborted || !this.#isStill(plan) ? null : ids
  }

  /**
   * Takes out of `doubts` those whose grace is over, all if it is to wait for them, and queues what is lacking still. Answers how many
   * owners could not be asked. What is left in `doubts` after it has waited: the walk is over.
   */
  async #lookAgain(doubts: Doubt[], wait: boolean, plan: string, signal: AbortSignal): Promise<number> {
    let unknown = 0
    for (let [doubt] = doubts; doubt !== undefined; [doubt] = doubts) {
      const leftMs = doubt.sinceMs + this.#times.graceMs - this.#options.clock.monotonicMs()
      if (doubt.ids.length > 0 && leftMs > 0 && !wait) break
      if (doubt.ids.length > 0 && !(await this.#wait(leftMs, plan, signal))) break
      doubts.shift()
      unknown += await this.#settleDoubt(doubt.ids, plan, signal)
    }
    return unknown
  }

  async #settleDoubt(ids: readonly number[], plan: string, signal: AbortSignal): Promise<number> {
    if (ids.length === 0) return 0
    const gone = new Set(await this.#options.disk.lacks(ids, false))
    const found = await this.#look(
      ids.filter((id) => !gone.has(id)),
      null,
    )
    await this.#queue(found, plan, signal)
    this.#state.lacking += found.lacks
    this.#state.surplus += found.surplus.length
    return found.unknown
  }

  /** `span`: all that is here between these places is in `ids`. null: it is not, each is asked for by its id. */
  async #look(ids: readonly number[], span: RingRange | null): Promise<Found> {
    const { replicas, current, nodeId } = this.#options
    const { ring, view } = current()
    const owners = new Map(ids.map((id) => [id, ring.owners(id, replicas)]))
    const away = new Set(view.members.filter(({ state }) => isAway(state)).map(({ id }) => id))
    for (const nodes of owners.values()) for (const node of nodes) if (away.has(node)) this.#skipped.add(node)
    const shared = span === null ? null : sharedRanges(ring, replicas, nodeId, span)
    const answers = await this.#owners.askAll(questionsOf(owners, nodeId, away, shared))
    return foundIn(owners, answers, { own: nodeId, replicas, away, inVain: this.#inVain })
  }

  /** With the other copies as sources, in turns, so that no node serves all. */
  async #queue({ lacking }: Found, plan: string, signal: AbortSignal): Promise<void> {
    for (const [node, ids] of lacking) {
      while ((await this.#lengthOf(node)) > QUEUE_MAX) {
        if (!(await this.#wait(this.#times.pollMs, plan, signal))) return
      }
      const before = this.#queued.get(node) ?? new Set<number>()
      const fresh = ids.filter((id) => !before.has(id))
      if (fresh.length === 0) continue
      await this.#options.enqueue(
        node,
        fresh.map((id) => this.#taskOf(id, node)),
      )
      this.#queued.set(node, new Set([...before, ...fresh]))
    }
  }

  #taskOf(chunk: number, node: string): ReplicationTask {
    const { current, replicas, nodeId } = this.#options
    const { ring, view } = current()
    const others = new Set([nodeId, ...ring.owners(chunk, replicas)])
    others.delete(node)
    const list = [...others]
    const turn = chunk % list.length
    return {
      kind: 'copy',
      chunk,
      root: null,
      sources: [...list.slice(turn), ...list.slice(0, turn)],
      epoch: view.epoch,
    }
  }

  /** Answers how many were given up. */
  async #retire(ids: readonly number[]): Promise<number> {
    if (ids.length === 0) return 0
    const given = await this.#options.disk.retire(ids, (held) => this.#safe(held))
    this.#retired += given
    return given
  }

  /** Which of them every owner has on disk, by the ring of this moment. */
  async #safe(ids: readonly number[]): Promise<readonly number[]> {
    const { replicas, current, nodeId } = this.#options
    const { ring } = current()
    const owners = new Map(ids.map((id) => [id, ring.owners(id, replicas)]))
    const asked = new Map<string, number[]>()
    for (const [id, nodes] of owners) for (const node of nodes) addTo(asked, node, id)
    const answers = new Map<string, ReadonlySet<number> | null>()
    await Promise.all(
      [...asked].map(async ([node, list]) => {
        answers.set(node, node === nodeId ? null : await this.#owners.ask(node, list, true))
      }),
    )
    return ids.filter((id) => {
      const nodes = owners.get(id) ?? []
      return nodes.length === replicas && nodes.every((node) => answerOf(answers.get(node), id) === 'has')
    })
  }
}
