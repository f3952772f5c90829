/**
 * The moment of the last backup, in each partition: field B of {v.p}:x, microseconds of its Redis.
 *
 * A change frees chunks that a backup names, for the file is another since. Housekeeping frees some of a file that nobody has changed
 * (vfs/packer.ts): only those that are younger than any backup, since a `restore` must find the others.
 *
 * Invariants:
 * - No backup was made behind the moment that is noted. A backup's freeze notes it (freeze.lua), before anything is looked at, and it only rises.
 * - Where none is noted there may have been one until now: of a program that notes none, or the volume was restored from one, or made anew of
 *   its chunks. Then nothing may be freed so until the janitor has noted now (garbage-peek.lua). Only `format` knows that there was none.
 */
import type { RedisStore } from '../cluster/contract.js'
import type { VolumeKeys } from './keys.js'

const FIELD = 'B'
const AT_ONCE = 64
const REPLICAS_MS = 1_000

/** What the clocks of writers, and of the servers of several partitions, may differ. */
export const BACKUP_MARGIN_US = 600_000_000

/** In microseconds; Infinity: there may be one of now. */
export async function lastBackupUs(store: RedisStore, keys: VolumeKeys, partition: number): Promise<number> {
  const moment = await store.call('HGET', keys.partition(partition).locks, FIELD)
  return moment === null ? Infinity : Number(String(moment))
}

/** Of a volume that was made just now. */
export async function noteNoBackup(store: RedisStore, keys: VolumeKeys): Promise<void> {
  const all = Array.from({ length: keys.partitions }, (_, p) => keys.partition(p).locks)
  for (let at = 0; at < all.length; at += AT_ONCE) {
    await Promise.all(all.slice(at, at + AT_ONCE).map((key) => store.call('HSETNX', key, FIELD, 0)))
  }
}

/** So far as they are there, the replicas, or the disk, have the moments that were noted: who takes a server's place knows them. */
export async function keepMoments(store: RedisStore, keys: VolumeKeys, metaReplicas: number): Promise<void> {
  const replicated = metaReplicas === 0 ? undefined : store.waitReplicas(keys.everywhere, metaReplicas, REPLICAS_MS)
  // A backup is worth more where something of them fails.
  await Promise.allSettled([store.syncLocal(), replicated])
}
