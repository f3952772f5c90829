/** {v}:m:rebuild: while it is there, chunks that no file names may be somebody's data, and nobody frees them (check/rebuild). */
import type { RedisStore } from '../cluster/contract.js'
import { numberOf } from '../cluster/reply.js'
import type { VolumeKeys } from './keys.js'
import { SCRIPTS } from './scripts.js'

/** By the server that has the volume's own keys, in ms since 1970. */
export async function redisMs(store: RedisStore, keys: VolumeKeys): Promise<number> {
  return numberOf(await store.run(SCRIPTS.now, [keys.wide('rebuild')], []), 'now')
}

/** A rebuild is due since now, if none was before. */
export async function noteRebuildDue(store: RedisStore, keys: VolumeKeys): Promise<void> {
  await store.call('HSETNX', keys.wide('rebuild'), 'begun', await redisMs(store, keys))
}
