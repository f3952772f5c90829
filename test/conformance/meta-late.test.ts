/** MetaStore with every request coming again some milliseconds after its answer. */
import t from 'tap'
import { LossyRedis } from '../helpers/lossy-redis.js'
import { volumesOn, type MetaVolume } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'
import { metaSuite } from './meta-suite.js'

const NAMES = 1_000

const { seed } = propertyRun(t, 1)
const redis = await startRedis(t)
const options = { mode: 'late', delayMaxMs: 20 } as const
let clients = 0
const open = volumesOn(t, redis, (store) => new LossyRedis(store, { ...options, seed: seed + ++clients }))

/** A late copy of a refused preparation may succeed: such locks of nobody are to be aborted soon. */
async function impatient(partitions?: number): Promise<MetaVolume> {
  const volume = await open(partitions)
  return { ...volume, client: (more) => volume.client({ intentTimeoutMs: 300, ...more }) }
}

metaSuite(t, impatient, NAMES)
