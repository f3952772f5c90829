/**
 * Leaves of many chunks in one go, where the chunks lie in files of this machine: a file that was written over block by block has another
 * chunk every few KiB, and a promise, a timer and a wait for the disk for each of them cost a hundred times what its bytes do.
 *
 * Invariant: as in reader.ts. What is not found so, or is not right, is left to the caller, who reads it one by one: there other owners are
 * asked, and bad copies reported.
 */
import type { ChunkNodeApi, FoundLeaf, LeafRef, LeavesReply, LentLeaves } from '../contract.js'
import { lentWithDeadline } from '../deadline.js'
import { leafCount } from '../format.js'
import { leafTable, type ReadParts } from './reader.js'

/** A disk that takes longer is not waited for: one by one others are asked beside. */
const DEADLINE_MS = 1_000

interface Group {
  readonly node: ChunkNodeApi
  /** Places among the wants. */
  readonly places: number[]
}

export async function gatherLeaves(parts: ReadParts, wants: readonly LeafRef[]): Promise<LentLeaves> {
  const leaves: (Buffer | null)[] = wants.map(() => null)
  const replies = await Promise.all(
    groupsOf(parts, wants).map(async ({ node, places }) => {
      const asked = places.map((place) => wants[place]).filter((want) => want !== undefined)
      const reply = await answerOf(parts, node, asked)
      for (const [at, want] of asked.entries()) {
        leaves[places[at] ?? 0] = verified(parts, want, reply?.found[at] ?? null)
      }
      return reply
    }),
  )
  return {
    leaves,
    release: () => {
      for (const reply of replies) reply?.release()
    },
  }
}

/** By the first owner that can: always the same, so that its copy alone takes room in the page cache. */
function groupsOf({ placement, replicas, node }: ReadParts, wants: readonly LeafRef[]): readonly Group[] {
  const groups = new Map<string, Group>()
  const { ring } = placement.current()
  for (const [place, { ref }] of wants.entries()) {
    for (const owner of ring.owners(ref.id, replicas)) {
      const group = groups.get(owner) ?? groupOf(node, owner)
      if (group === null) continue
      groups.set(owner, group)
      group.places.push(place)
      break
    }
  }
  return [...groups.values()]
}

function groupOf(nodeOf: ReadParts['node'], owner: string): Group | null {
  try {
    const node = nodeOf(owner)
    return node.getLeaves === undefined ? null : { node, places: [] }
  } catch {
    // Its address is not known.
    return null
  }
}

async function answerOf(
  { volume, clock, log }: ReadParts,
  node: ChunkNodeApi,
  asked: readonly LeafRef[],
): Promise<LeavesReply | null> {
  const places = asked.map(({ ref, leaf }) => ({ id: ref.id, leaf }))
  const work = async (): Promise<LeavesReply> => {
    return (await node.getLeaves?.(volume, places)) ?? { found: [], release: () => undefined }
  }
  try {
    return await lentWithDeadline(DEADLINE_MS, work, 'leaves of several chunks', undefined, clock)
  } catch (error) {
    log.debug({ err: error }, 'leaves are read one by one')
    return null
  }
}

/** null: other bytes than they should be. */
function verified({ leafCache }: ReadParts, { ref, leaf }: LeafRef, found: FoundLeaf | null): Buffer | null {
  if (found?.chunkLengthBytes !== ref.lengthBytes || leaf >= leafCount(ref.lengthBytes)) return null
  const table = leafTable(leafCache, ref, found.leaves)
  // The bytes match the table that came with them.
  return table?.equals(found.leaves) === true ? found.data : null
}
