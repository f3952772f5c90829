/**
 * Leaves of many chunks in one go, where the chunks lie in files of this machine: a file that was written over block by block has another
 * chunk every few KiB, and a promise, a timer and a wait for the disk for each of them cost a hundred times what its bytes do.
 *
 * Invariants:
 * - As in reader.ts: what is answered matches a hash in a table that matched the chunk's root. What is not found so, or is not right, is
 *   left to the caller, who reads it one by one: there other owners are asked, and bad copies reported.
 * - Of a node that does not answer in time there are at most JOBS_MAX jobs, and their memory, under way; nobody waits for it again while
 *   it counts as troubled.
 */
import { hasCode } from '../../base/errors.js'
import type { ChunkNodeApi, FoundLeaf, LeafRef, LeavesReply, LentLeaves } from '../contract.js'
import { lentWithDeadline } from '../deadline.js'
import { leafCount } from '../format.js'
import { leafTable, type ReadParts } from './reader.js'

/** Of one node. Who asks for leaves has fewer under way, but for those that are late. */
const JOBS_MAX = 8

export class Gathering {
  readonly #parts: ReadParts
  readonly #jobs = new Map<string, number>()

  constructor(parts: ReadParts) {
    this.#parts = parts
  }

  /** The first owner that can be asked: mostly the same one, so that its copy alone takes room in the page cache. */
  nearNode(id: number): string | undefined {
    const { placement, replicas, health } = this.#parts
    for (const owner of placement.current().ring.owners(id, replicas)) {
      const isFree = (this.#jobs.get(owner) ?? 0) < JOBS_MAX && !health.isTroubled(owner)
      if (isFree && this.#api(owner)?.getLeaves !== undefined) return owner
    }
    return undefined
  }

  async lend(owner: string, wants: readonly LeafRef[]): Promise<LentLeaves> {
    const reply = await this.#answer(owner, wants)
    if (reply === null) return { leaves: wants.map(() => null), release: () => undefined }
    const leaves = wants.map((want, at) => verified(this.#parts, want, reply.found[at] ?? null))
    return { leaves, release: reply.release }
  }

  async #answer(owner: string, wants: readonly LeafRef[]): Promise<LeavesReply | null> {
    const { attemptMs, clock, health, log } = this.#parts
    const node = this.#api(owner)
    if (node?.getLeaves === undefined || (this.#jobs.get(owner) ?? 0) >= JOBS_MAX) return null
    try {
      return await lentWithDeadline(attemptMs, () => this.#job(owner, node, wants), 'leaves together', undefined, clock)
    } catch (error) {
      if (hasCode(error, 'DEADLINE')) health.failed(owner)
      log.debug({ node: owner, err: error }, 'leaves are read one by one')
      return null
    }
  }

  /** Counted until it ends, however late. */
  async #job(owner: string, node: ChunkNodeApi, wants: readonly LeafRef[]): Promise<LeavesReply> {
    this.#jobs.set(owner, (this.#jobs.get(owner) ?? 0) + 1)
    try {
      const places = wants.map(({ ref, leaf }) => ({ id: ref.id, leaf }))
      return (await node.getLeaves?.(this.#parts.volume, places)) ?? { found: [], release: () => undefined }
    } finally {
      this.#jobs.set(owner, (this.#jobs.get(owner) ?? 1) - 1)
    }
  }

  #api(owner: string): ChunkNodeApi | null {
    try {
      return this.#parts.node(owner)
    } catch {
      // Its address is not known.
      return null
    }
  }
}

/** null: other bytes than they should be. */
function verified({ leafCache }: ReadParts, { ref, leaf }: LeafRef, found: FoundLeaf | null): Buffer | null {
  if (found?.chunkLengthBytes !== ref.lengthBytes || leaf >= leafCount(ref.lengthBytes)) return null
  const table = leafTable(leafCache, ref, found.leaves)
  // The bytes match the table that came with them.
  return table?.equals(found.leaves) === true ? found.data : null
}
