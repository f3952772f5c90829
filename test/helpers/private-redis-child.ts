/** Starts a private Redis in the folder of argv[2], says so, and lives until it is killed: an `up` that crashes. */
import { silentLog } from '../../src/base/log.js'
import { startPrivateRedis } from '../../src/cluster/private-redis.js'

const folder = process.argv[2] ?? ''
const redis = await startPrivateRedis({ folder, log: silentLog })
process.stdout.write(`${redis.pid} ${redis.port}\n`)
setInterval(() => undefined, 60_000)
