/**
 * What there is of a volume that has no settings: an interrupted restore has left it, whose mark may be lost (its server forgot its last
 * second), or a rebuild, or the volume had settings.
 *
 * Invariants: a restore raises the fence of each partition before it writes anything into that, and closes all before there are settings
 * (backup/claim.ts). So an open fence is no volume's in use, and where there is no field in the counters an interrupted restore wrote nothing.
 */
import type { RedisStore } from '../cluster/contract.js'
import { arrayOf } from '../cluster/reply.js'
import type { VolumeKeys } from './keys.js'

const AT_ONCE = 64

/** The field of a partition's counters that has its fence. */
export const FENCE = 'restore'

export interface Remains {
  /** There is more than fences. */
  readonly isMore: boolean
  /** A restore was writing. */
  readonly isOpen: boolean
  /** Number of a fence. */
  readonly highest: number
  /** So many, from the first, have all of it. */
  readonly partitions: number
}

export async function remainsOf(store: RedisStore, keys: VolumeKeys): Promise<Remains> {
  const found = { isMore: false, isOpen: false, highest: 0, partitions: 0 }
  const look = async (partition: number): Promise<void> => {
    const flat = arrayOf(await store.call('HGETALL', keys.partition(partition).counters), 'HGETALL')
    if (flat.length > 0) found.partitions = Math.max(found.partitions, partition + 1)
    for (let at = 0; at + 1 < flat.length; at += 2) {
      if (String(flat[at]) !== FENCE) {
        found.isMore = true
        continue
      }
      const fence = String(flat[at + 1])
      found.highest = Math.max(found.highest, Number.parseInt(fence))
      if (!fence.endsWith(' closed')) found.isOpen = true
    }
  }
  for (let at = 0; at < keys.partitions; at += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, keys.partitions - at) }, (_, i) => at + i)
    await Promise.all(some.map(look))
  }
  return found
}
