/** Who makes files of chunks that no file names, or frees such chunks, does it alone: a lease, {v}:m:rebuilder. */
import type { RedisStore } from '../cluster/contract.js'
import type { VolumeKeys } from '../meta/keys.js'
import { withLease } from '../meta/lease.js'

/** As withLease. */
export async function withRebuildLease<T>(
  store: RedisStore,
  keys: VolumeKeys,
  work: (check: () => void) => Promise<T>,
): Promise<T | undefined> {
  return await withLease(store, keys.wide('rebuilder'), work)
}
