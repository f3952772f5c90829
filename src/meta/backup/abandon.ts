/**
 * `ringfs restore --abandon`: the name of a volume whose restore was interrupted is free again.
 *
 *   claim, as that restore's next one --fences raised--> keys of all partitions gone --fences closed--> wide keys gone --> mark gone
 *
 * Invariants:
 * - Only what has no settings, and a mark or, if that is lost, an open fence (remains.ts), is cleared: nobody has used it. What is interrupted is given up, or restored, by the next one.
 * - Fences stay: who claimed before writes nothing any more, not into what is made of that name afterwards either. They are no number
 *   that was given out (scripts/begin-history.lua).
 * - The mark goes when replicas lack everything, too (lasting.ts): a name that is free has nothing that a failover could bring back. Only those
 *   that are there are waited for: that some are away is why a restore is given up.
 * - It needs no memory that Redis does not have: for want of that a restore may have been interrupted.
 */
import { RingfsError } from '../../base/errors.js'
import { PARTITIONS_MAX } from '../../base/limits.js'
import type { RedisStore } from '../../cluster/contract.js'
import { UncountedError } from '../../cluster/redis-errors.js'
import { replicasThere } from '../format.js'
import { VolumeKeys } from '../keys.js'
import { remainsOf } from '../remains.js'
import { Claim, readMark, refuseVolume, withRestoreLease, type Mark, type Waiting } from './claim.js'
import { Lasting } from './lasting.js'

const AT_ONCE = 16
/** In place of the checksum of a backup: which one it was is not known. */
const OF_NOTHING = '0'.repeat(64)
/** All that a restore, or a version to come, has written. */
const WIDE_NAMES = ['n', 's', 'h', 'dead', 'lease', 'j', 'w', 'orphans', 'blocks', 'rebuild'] as const

/** Errors: VOLUME_EXISTS, VOLUME_MISSING when there is nothing to give up, ALREADY_RUNNING, NO_QUORUM, METADATA_NOT_SYNCED. */
export async function abandonRestore(
  store: RedisStore,
  volume: string,
  onProgress: (done: number, partitions: number) => void,
  waiting: Waiting = {},
): Promise<void> {
  await withRestoreLease(store, volume, () => abandon(store, volume, onProgress), waiting)
}

async function abandon(
  store: RedisStore,
  volume: string,
  onProgress: (done: number, partitions: number) => void,
): Promise<void> {
  await refuseVolume(store, volume)
  const known = await readMark(store, volume)
  const mark = known ?? (await lostMark(store, volume))
  // Versions before did not say how many there are.
  const { checksum, partitions = PARTITIONS_MAX } = mark
  const wanted = Math.max(1, mark.metaReplicas ?? 0)
  const keys = new VolumeKeys(volume, partitions)
  const lasting = await Lasting.begin(store, keys, {
    name: volume,
    metaReplicas: await counted(store, volume, partitions, wanted),
  })
  // The next one, if this is interrupted, may find more of them.
  const told = { claimed: () => lasting.claimed(), metaReplicas: mark.metaReplicas ?? 0 }
  const claim = await Claim.take(store, keys, volume, checksum, told, known === null)
  let next = 0
  let done = 0
  const lane = async (): Promise<void> => {
    while (next < partitions) {
      await claim.clear(next++)
      onProgress(++done, partitions)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  await claim.close()
  for (const name of WIDE_NAMES) await claim.clearWide(name)
  await lasting.written()
  await lasting.ended(() => claim.drop())
}

/** Errors: VOLUME_MISSING, VOLUME_EXISTS when what is there may have been a volume. */
async function lostMark(store: RedisStore, volume: string): Promise<Mark> {
  const { isMore, isOpen, partitions } = await remainsOf(store, new VolumeKeys(volume, PARTITIONS_MAX))
  if (isOpen) return { checksum: OF_NOTHING, partitions, metaReplicas: undefined }
  if (!isMore) {
    throw new RingfsError('VOLUME_MISSING', `no restore of ${volume} was interrupted on this Redis: its name is free`)
  }
  throw new RingfsError(
    'VOLUME_EXISTS',
    `what is left of ${volume} on this Redis is no interrupted restore, but of a volume that was in use: nothing is taken away`,
  )
}

/** Errors: NO_QUORUM. */
async function counted(store: RedisStore, volume: string, partitions: number, most: number): Promise<number> {
  try {
    return await replicasThere(store, volume, { most, partitions })
  } catch (error) {
    if (!(error instanceof UncountedError)) throw error
    const message = 'a Redis master stood still, and nobody knows how many replicas it has: do the same again'
    throw new RingfsError('NO_QUORUM', message, { cause: error })
  }
}
