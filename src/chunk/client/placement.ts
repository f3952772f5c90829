/** Which nodes to ask, in which order. Pure, given the membership of the moment and what this process has seen itself. */
import type { ClusterView, NodeState, RingContract } from '../../cluster/contract.js'
import type { NodeHealth } from '../node-health.js'

/** One version of the ring with the members it was made of. */
export interface Placement {
  readonly ring: RingContract
  readonly view: ClusterView
  /** The ring with those that are leaving, or were given up for the time being, in their old places. Default: as `ring`. */
  readonly former?: RingContract
}

/** Follows membership; src/cluster has the real one. */
export interface PlacementSource {
  current(): Placement
  /** Resolves when what is known is not older than the call. Absent where it cannot change. */
  refresh?(): Promise<unknown>
}

/** 0: works; 1: did not answer lately, to us or to others, or is coming or leaving; 2: is down, as membership knows. */
export type Rank = 0 | 1 | 2

export interface Candidate {
  readonly id: string
  readonly rank: Rank
  readonly owner: boolean
  /** An owner before the ring was as it is. */
  readonly former: boolean
}

export interface PlacementOptions {
  readonly replicas: number
  /** The chunk store in this process, if there is one: it costs no network. */
  readonly localNode?: string | undefined
  readonly health: NodeHealth
}

function rankOf(id: string, state: NodeState | undefined, health: NodeHealth): Rank {
  if (state === 'down') return 2
  return state === 'up' && !health.isTroubled(id) ? 0 : 1
}

/** All nodes, owners first, in ring order; members that have left for good are not among them. */
export function candidatesOf(chunkId: number, placement: Placement, options: PlacementOptions): readonly Candidate[] {
  const states = new Map(placement.view.members.map((member) => [member.id, member.state]))
  const owners = new Set(placement.ring.owners(chunkId, options.replicas))
  const former = new Set(placement.former?.owners(chunkId, options.replicas) ?? owners)
  const others = placement.view.members.map((member) => member.id)
  // Members outside the ring come last: a node that is leaving, or has just come, may still hold what the ring gave it before.
  const all = new Set([...owners, ...former, ...placement.ring.preference(chunkId), ...others])
  return [...all]
    .filter((id) => states.get(id) !== 'gone')
    .map((id) => ({
      id,
      rank: rankOf(id, states.get(id), options.health),
      owner: owners.has(id),
      former: former.has(id),
    }))
}

/** Less than what puts owners ahead, more than any rank. */
const FORMER_AHEAD = 5

/** Down last; owners before others; who works before who may; the local node before its equals. */
function place({ id, rank, owner }: Candidate, localNode: string | undefined): number {
  return (rank === 2 ? 100 : 0) + (owner ? 0 : 10) + rank * 2 + (id === localNode ? 0 : 1)
}

/**
 * To write: owners that work, owners that may, stand-ins that work, stand-ins that may, then those that are said to be down (the
 * view may be old). The local node goes before its equals.
 */
export function writeOrder(candidates: readonly Candidate[], localNode: string | undefined): readonly Candidate[] {
  return [...candidates].sort((a, b) => place(a, localNode) - place(b, localNode))
}

/** To read: the local owner, owners that work by what they would take, owners that may, former owners, then everyone else. */
export function readOrder(
  candidates: readonly Candidate[],
  localNode: string | undefined,
  health: NodeHealth,
): readonly Candidate[] {
  const placeOf = (one: Candidate): number => place(one, localNode) - (one.former && !one.owner ? FORMER_AHEAD : 0)
  return [...candidates].sort((a, b) => placeOf(a) - placeOf(b) || latencyOrder(a, b, health))
}

function latencyOrder(a: Candidate, b: Candidate, health: NodeHealth): number {
  return a.owner && b.owner ? health.expectedMs(a.id) - health.expectedMs(b.id) : 0
}
