/** MetaStore on one real redis-server. */
import t from 'tap'
import { volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'
import { metaSuite } from './meta-suite.js'

const redis = await startRedis(t)
metaSuite(t, volumesOn(t, redis))
