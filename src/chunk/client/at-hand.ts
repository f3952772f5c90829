/** Owners that need not be waited for, as far as is known. */
import type { ChunkNodeApi } from '../contract.js'
import type { ClientParts } from './options.js'

/** null: not all of them work, as far as is known, or there are fewer than are needed. */
export function ownersAtHand(
  { placement, replicas, writeQuorum, health, node }: ClientParts,
  chunkId: number,
): ReadonlyMap<string, ChunkNodeApi> | null {
  const { ring, view } = placement.current()
  const owners = ring.owners(chunkId, replicas)
  if (owners.length < writeQuorum) return null
  const found = new Map<string, ChunkNodeApi>()
  for (const id of owners) {
    const member = view.members.find((one) => one.id === id)
    if (member?.state !== 'up' || health.isTroubled(id)) return null
    try {
      found.set(id, node(id))
    } catch {
      // One without an address: ChunkWrite tells.
      return null
    }
  }
  return found
}
