/** MetaStore with every reply lost once: each request runs two times and must take effect once. */
import t from 'tap'
import { LossyRedis } from '../helpers/lossy-redis.js'
import { volumesOn } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { startRedis } from '../helpers/redis.js'
import { metaSuite } from './meta-suite.js'

const NAMES = 1_000

const { seed } = propertyRun(t, 1)
const redis = await startRedis(t)
const options = { mode: 'twice', delayMaxMs: 20 } as const
let clients = 0
metaSuite(
  t,
  volumesOn(t, redis, (store) => new LossyRedis(store, { ...options, seed: seed + ++clients })),
  NAMES,
)
