/** sync and remove: many chunks, few requests. */
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import { addTo } from '../../base/groups.js'
import { planOf } from '../../cluster/plan.js'
import { mayHaveSurplus } from '../../cluster/progress.js'
import { withDeadline } from '../deadline.js'
import { ChunksMissing } from '../contract.js'
import { isNoAnswer } from '../node-health.js'
import { retryMs, type ClientParts } from './options.js'
import { candidatesOf } from './placement.js'

const BATCH_MAX = 1000
const REMOVE_DEADLINE_MS = 10_000

function batches<T>(items: readonly T[]): T[][] {
  const out: T[][] = []
  for (let at = 0; at < items.length; at += BATCH_MAX) out.push(items.slice(at, at + BATCH_MAX))
  return out
}

/**
 * fdatasync of chunks that were written without. Invariant: it succeeds only when as many nodes as the write quorum have said
 * of each chunk that it is on their disks.
 */
export class ChunkSync {
  readonly #parts: ClientParts
  readonly #confirmed: Map<number, Set<string>>
  readonly #lacking: Map<number, Set<string>>
  readonly #gone: number[] = []
  readonly #endMs: number

  constructor(parts: ClientParts, ids: readonly number[]) {
    this.#parts = parts
    this.#confirmed = new Map(ids.map((id) => [id, new Set()]))
    this.#lacking = new Map(ids.map((id) => [id, new Set()]))
    this.#endMs = parts.clock.monotonicMs() + parts.deadlineMs
  }

  /** Errors: ChunksMissing, when the others are on disk; RingfsError NO_QUORUM. */
  async run(): Promise<void> {
    await this.#syncThem()
    if (this.#gone.length > 0) throw new ChunksMissing(this.#gone)
  }

  async #syncThem(): Promise<void> {
    for (let round = 0; ; round++) {
      await this.#round(round)
      if (round > 0) this.#dropGone()
      const open = this.#open()
      if (open.length === 0) return
      const leftMs = this.#endMs - this.#parts.clock.monotonicMs()
      if (leftMs <= 0) {
        throw new RingfsError(
          'NO_QUORUM',
          `${open.length} chunks are on the disks of too few nodes before the deadline`,
        )
      }
      await this.#repair(open, leftMs)
      await this.#parts.clock.sleep(retryMs(round, leftMs))
    }
  }

  #open(): number[] {
    return [...this.#confirmed].filter(([, nodes]) => nodes.size < this.#parts.writeQuorum).map(([id]) => id)
  }

  /** First the owners, then whoever else may have a copy as a stand-in; who said that he has it, too: it may be freed meanwhile. */
  async #round(round: number): Promise<void> {
    const placement = this.#parts.placement.current()
    const asked = new Map<string, number[]>()
    for (const id of this.#open()) {
      for (const { id: node, owner, rank } of candidatesOf(id, placement, this.#parts)) {
        if (round > 0 || (owner && rank < 2)) addTo(asked, node, id)
      }
    }
    await Promise.all([...asked].map(([node, ids]) => this.#askNode(node, ids, round)))
  }

  async #askNode(node: string, ids: readonly number[], round: number): Promise<void> {
    for (const batch of batches(ids)) await this.#askBatch(node, batch, this.#parts.attemptMs * 2 ** round)
  }

  async #askBatch(node: string, ids: readonly number[], attemptMs: number): Promise<void> {
    const { volume, health, log } = this.#parts
    const deadlineMs = Math.max(1, Math.min(attemptMs, this.#endMs - this.#parts.clock.monotonicMs()))
    try {
      const { missing } = await withDeadline(
        deadlineMs,
        (signal) => this.#parts.node(node).sync(volume, ids, { deadlineMs, signal }),
        `sync on node ${node}`,
        undefined,
        this.#parts.clock,
      )
      const absent = new Set(missing)
      for (const id of ids) {
        const [is, was] = absent.has(id) ? [this.#lacking, this.#confirmed] : [this.#confirmed, this.#lacking]
        was.get(id)?.delete(node)
        is.get(id)?.add(node)
      }
    } catch (error) {
      if (isNoAnswer(codeOf(error))) health.failed(node)
      log.debug({ node, err: messageOf(error) }, 'chunks not synced here')
    }
  }

  /** Nobody has them: they are not waited for. */
  #dropGone(): void {
    const placement = this.#parts.placement.current()
    for (const id of this.#open()) {
      const nodes = candidatesOf(id, placement, this.#parts)
      if (nodes.length === 0 || !nodes.every(({ id: node }) => this.#lacking.get(id)?.has(node) === true)) continue
      this.#confirmed.delete(id)
      this.#gone.push(id)
    }
  }

  /** An owner without its copy (written async, or not repaired yet) is told to fetch it now instead of in its queue's turn. */
  async #repair(open: readonly number[], leftMs: number): Promise<void> {
    const { volume, placement, log } = this.#parts
    const deadlineMs = Math.min(leftMs, this.#parts.attemptMs)
    const orders: Promise<void>[] = []
    for (const id of open) {
      const owners = candidatesOf(id, placement.current(), this.#parts).filter(({ owner, rank }) => owner && rank < 2)
      for (const { id: node } of owners) {
        if (this.#lacking.get(id)?.delete(node) !== true) continue
        const work = withDeadline(
          deadlineMs,
          (signal) => this.#parts.node(node).reportBad(volume, id, { deadlineMs, signal }),
          `repair of chunk ${id} on node ${node}`,
          undefined,
          this.#parts.clock,
        )
        orders.push(
          work.catch((error: unknown) => log.debug({ chunk: id, node, err: messageOf(error) }, 'not repaired')),
        )
      }
    }
    await Promise.all(orders)
  }
}

/**
 * Deletes on the owners, on those before them, on the first stand-ins (in a small cluster: everywhere), and on all that may have more than what is
 * theirs: when many nodes have come at once, a chunk is still where it was before, and who has it alone offers it to its owners. Who cannot be told
 * now is told by its replication queue. Errors: what the queue says, when it cannot be reached either: call again, it is idempotent.
 */
export async function removeChunks(parts: ClientParts, ids: readonly number[]): Promise<void> {
  const placement = parts.placement.current()
  const plan = planOf(placement.view)
  const unsettled = new Set(placement.view.members.filter((one) => mayHaveSurplus(one, plan)).map(({ id }) => id))
  const asked = new Map<string, number[]>()
  const down = new Set<string>()
  for (const id of new Set(ids)) {
    for (const [index, { id: node, rank, former }] of candidatesOf(id, placement, parts).entries()) {
      // Not the queue of one that is down for months, with all that is deleted.
      const isFar = index >= 2 * parts.replicas && !former
      if (isFar && (rank === 2 || !unsettled.has(node))) continue
      addTo(asked, node, id)
      if (rank === 2) down.add(node)
    }
  }
  await Promise.all([...asked].map(([node, list]) => removeFrom(parts, node, list, down.has(node))))
}

async function removeFrom(parts: ClientParts, node: string, ids: readonly number[], isDown: boolean): Promise<void> {
  for (const batch of batches(ids)) {
    if (!isDown && (await removeNow(parts, node, batch))) continue
    await parts.enqueue(
      node,
      batch.map((chunk) => ({ kind: 'remove', chunk })),
    )
  }
}

async function removeNow(parts: ClientParts, node: string, ids: readonly number[]): Promise<boolean> {
  try {
    await withDeadline(
      REMOVE_DEADLINE_MS,
      (signal) => parts.node(node).remove(parts.volume, ids, { deadlineMs: REMOVE_DEADLINE_MS, signal }),
      `remove on node ${node}`,
      undefined,
      parts.clock,
    )
    return true
  } catch (error) {
    if (isNoAnswer(codeOf(error))) parts.health.failed(node)
    parts.log.debug({ node, err: messageOf(error) }, 'chunks not removed here yet')
    return false
  }
}
