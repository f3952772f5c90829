/**
 * A node's share of keeping every chunk on all its owners. It walks what it has, in the order of the ring; asks the owners of
 * each chunk whether they have it; puts what an owner lacks into that owner's queue; and gives up what is none of its business
 * once all owners have it on disk.
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
 * - A walk changes nothing that a second one would do differently: it may be interrupted anywhere.
 */
import type { Clock } from '../../base/clock.js'
import { messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { ClusterView, HealReport, NodeState, RingContract } from '../../cluster/contract.js'
import { planOf } from '../../cluster/plan.js'
import { CHUNK_BUCKETS, type ChunkNodeApi } from '../contract.js'
import { withDeadline } from '../deadline.js'
import type { Enqueue, ReplicationTask } from '../replication.js'
import type { Pace } from './pace.js'
import type { ChunkDisk } from './disk.js'

export interface HealerOptions {
  readonly nodeId: string
  /** Volume uuid. */
  readonly volume: string
  readonly replicas: number
  readonly disk: Pick<ChunkDisk, 'list' | 'retire'>
  readonly peer: (nodeId: string) => ChunkNodeApi
  readonly current: () => { readonly view: ClusterView; readonly ring: RingContract }
  readonly enqueue: Enqueue
  /** Entries in a node's queue. */
  readonly queueLength: (nodeId: string) => Promise<number>
  /** Whether this node has begun with all that stood in its queue when it started: what was deleted meanwhile is not offered. */
  readonly caughtUp: () => Promise<boolean>
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
  /** A walk that found something lacking is repeated after so long at the latest. */
  readonly repeatMs: number
  /** All is compared again, whatever is known. */
  readonly auditMs: number
  readonly pollMs: number
}

/** Where the view does not say it. */
const SURPLUS_MS = 60_000

const TIMES: HealTimes = {
  settleMs: 1_000,
  repeatMs: 60_000,
  auditMs: 6 * 3_600_000,
  pollMs: 500,
}

const PAGE = 2_048
const ASK_DEADLINE_MS = 20_000
/** So many tasks wait in a queue at most: Redis holds them in memory. */
const QUEUE_MAX = 4_000
const CAUGHT_UP_MAX_MS = 10 * 60_000

/** One page of what this node has, and what its owners say to it. */
interface Found {
  readonly lacking: Map<string, number[]>
  readonly surplus: number[]
  /** Owners that could not be asked, though they are up. */
  unknown: number
  lacks: number
}

export class Healer {
  readonly #options: HealerOptions
  readonly #times: HealTimes
  readonly #random: () => number
  /** Put into a queue by this process, and not known to be done. */
  readonly #queued = new Map<string, Set<number>>()
  #state = { plan: '', walked: 0, isDone: false, lacking: 0, surplus: 0 }
  #retired = 0
  /** Walks for this plan after which something was still lacking. */
  #inVain = 0
  /** Owners that were down when their chunks were walked: when one is back, what it lacks is still to be found. */
  readonly #skipped = new Set<string>()

  constructor(options: HealerOptions) {
    this.#options = options
    this.#times = { ...TIMES, ...options.times }
    this.#random = options.random ?? Math.random
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
    const { members } = this.#options.current().view
    return !members.some(({ id, state }) => this.#skipped.has(id) && !isAway(state))
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const endMs = this.#options.clock.monotonicMs() + CAUGHT_UP_MAX_MS
    while (!signal.aborted && this.#options.clock.monotonicMs() < endMs) {
      const done = await this.#options.caughtUp().catch(() => false)
      if (done) return
      await this.#options.clock.sleep(this.#times.pollMs)
    }
  }

  /** Everything that one plan needs, and then rest; ends when the plan changes. */
  async #keep(plan: string, signal: AbortSignal): Promise<void> {
    const { settleMs, auditMs } = this.#times
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
    const { disk, volume } = this.#options
    this.#state = { plan, walked: 0, isDone: retiring, lacking: 0, surplus: 0 }
    this.#skipped.clear()
    let unknown = 0
    let next: { readonly bucket: number; readonly id: number } | null = { bucket: 0, id: 0 }
    while (next !== null) {
      if (signal.aborted || !this.#isStill(plan)) return false
      const from = { fromBucket: next.bucket, fromId: next.id, toBucket: CHUNK_BUCKETS }
      const page = await disk.list({ volume, ...from, limit: PAGE, headers: false })
      const found = await this.#look(page.chunks.map(({ id }) => id))
      await this.#queue(found, plan, signal)
      const given = retiring ? await this.#retire(found.surplus) : 0
      unknown += found.unknown
      next = page.next
      this.#state.walked = next?.bucket ?? CHUNK_BUCKETS
      this.#state.lacking += found.lacks
      this.#state.surplus += found.surplus.length - given
    }
    this.#state.isDone = this.#state.lacking + unknown === 0
    return true
  }

  async #look(ids: readonly number[]): Promise<Found> {
    const { replicas, current, nodeId } = this.#options
    const { ring, view } = current()
    const owners = new Map(ids.map((id) => [id, ring.owners(id, replicas)]))
    const away = new Set(view.members.filter(({ state }) => isAway(state)).map(({ id }) => id))
    const missing = await this.#askOwners(owners, away)
    const found: Found = { lacking: new Map(), surplus: [], unknown: 0, lacks: 0 }
    for (const [id, nodes] of owners) {
      const answers = nodes.map((node) => (node === nodeId ? 'has' : answerOf(missing.get(node), id)))
      const having = nodes.filter((_, index) => answers[index] === 'has')
      const lacking = nodes.filter((_, index) => answers[index] === 'lacks')
      found.lacks += lacking.length
      found.unknown += nodes.filter((node, index) => answers[index] === 'unknown' && !away.has(node)).length
      if (!nodes.includes(nodeId) && having.length === replicas) found.surplus.push(id)
      // Of those that have it one is enough to tell: the owners in turn, and who is none after them.
      const turn = nodes.includes(nodeId) ? having.indexOf(nodeId) : having.length
      if (turn > this.#inVain) continue
      for (const node of lacking) addTo(found.lacking, node, id)
    }
    return found
  }

  /** What each owner lacks; without an entry: it did not answer. */
  async #askOwners(
    owners: ReadonlyMap<number, readonly string[]>,
    away: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, ReadonlySet<number>>> {
    const asked = new Map<string, number[]>()
    for (const [id, nodes] of owners) {
      for (const node of nodes.filter((one) => one !== this.#options.nodeId)) {
        if (away.has(node)) this.#skipped.add(node)
        else addTo(asked, node, id)
      }
    }
    const answers = new Map<string, ReadonlySet<number>>()
    await Promise.all(
      [...asked].map(async ([node, ids]) => {
        const missing = await this.#ask(node, ids, false)
        if (missing !== null) answers.set(node, missing)
      }),
    )
    return answers
  }

  /** null: no answer. */
  async #ask(node: string, ids: readonly number[], verify: boolean): Promise<ReadonlySet<number> | null> {
    const { volume, peer, log, clock } = this.#options
    try {
      const missing = await withDeadline(
        ASK_DEADLINE_MS,
        (signal) => peer(node).lacks({ volume, ids, verify }, { deadlineMs: ASK_DEADLINE_MS, signal }),
        `asking node ${node} what it lacks`,
        undefined,
        clock,
      )
      return new Set(missing)
    } catch (error) {
      log.debug({ node, err: messageOf(error) }, 'owner not asked')
      return null
    }
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
        answers.set(node, node === nodeId ? null : await this.#ask(node, list, true))
      }),
    )
    return ids.filter((id) => {
      const nodes = owners.get(id) ?? []
      return nodes.length === replicas && nodes.every((node) => answerOf(answers.get(node), id) === 'has')
    })
  }
}

function isAway(state: NodeState): boolean {
  return state === 'down' || state === 'gone'
}

function answerOf(missing: ReadonlySet<number> | null | undefined, id: number): 'has' | 'lacks' | 'unknown' {
  if (missing === null || missing === undefined) return 'unknown'
  return missing.has(id) ? 'lacks' : 'has'
}

function addTo(map: Map<string, number[]>, node: string, id: number): void {
  const list = map.get(node)
  if (list === undefined) map.set(node, [id])
  else list.push(id)
}
