/** MetaStore on a cluster of three masters: the partitions of a volume lie on all of them. */
import t from 'tap'
import { volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'
import { metaSuite } from './meta-suite.js'

const redis = await startRedis(t, { masters: 3 })
metaSuite(t, volumesOn(t, redis))
