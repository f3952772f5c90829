/** What `ringfs redis-cluster up` refuses and warns of, before any server starts. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { noFailover, runRedisCluster, type ClusterUpOptions } from '../../../src/main/redis-cluster.js'
import { temporaryFolder } from '../../helpers/chunks.js'

const never = new Promise<void>(() => undefined)

function options(folder: string, nodeTimeoutMs?: number): ClusterUpOptions {
  return { folder, nodeTimeoutMs, restarts: false, volume: 'v', log: silentLog, say: () => undefined }
}

t.test('a node timeout below 2 s is refused with its reason, also one of an earlier version', async (t) => {
  const folder = temporaryFolder(t)
  const refused = { code: 'USAGE', message: /--node-timeout 1\.999: .*stood still/ }
  await t.rejects(
    runRedisCluster(options(folder, 1_999), never, () => t.fail('ready')),
    refused,
  )
  t.notOk(existsSync(join(folder, 'redis-cluster.json')), 'and nothing is fixed by that')
  const servers = [{ port: 7, busPort: 8 }]
  const plan = { format: 1, masters: 1, replicas: 0, nodeTimeoutMs: 1_999, servers, isFormed: true }
  writeFileSync(join(folder, 'redis-cluster.json'), JSON.stringify(plan))
  await t.rejects(
    runRedisCluster(options(folder), never, () => t.fail('ready')),
    refused,
  )
})

t.test('too few masters for a failover are told, where there are replicas', async (t) => {
  t.match(noFailover({ masters: 1, replicas: 1 }), /with one master no replica can take the place .* --masters 3/)
  t.match(noFailover({ masters: 2, replicas: 2 }), /with 2 masters no replica/)
  t.equal(noFailover({ masters: 2, replicas: 0 }), undefined)
  t.equal(noFailover({ masters: 3, replicas: 1 }), undefined)
})
