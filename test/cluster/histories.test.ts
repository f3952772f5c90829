/** A failover that happened before anybody looked for orphans is seen by who looks first. */
import t from 'tap'
import { join } from 'node:path'
import { RingfsError } from '../../src/base/errors.js'
import { ROOT_INO } from '../../src/base/limits.js'
import { silentLog } from '../../src/base/log.js'
import { noteNewHistories } from '../../src/check/histories.js'
import { isRebuildDue } from '../../src/check/orphans.js'
import { startNode } from '../../src/main/node.js'
import { openVolume } from '../../src/main/volume.js'
import { formatVolume } from '../../src/meta/format.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { RpcServer } from '../../src/rpc/server.js'
import { bound } from '../helpers/bound-redis.js'
import { temporaryFolder } from '../helpers/chunks.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

t.test('the first start of a node notes whose history is whole, before there is a chunk', async (t) => {
  const redis = await startRedis(t)
  const url = redis.url('home')
  const store = await connectPatiently(url)
  t.teardown(() => store.close())
  const { name, partitions } = await formatVolume(store, 'home', { replicas: 1, partitions: 4 })
  const keys = new VolumeKeys(name, partitions)
  const volume = await openVolume(url, { log: silentLog })
  const folder = temporaryFolder(t)
  const node = await startNode(volume, {
    ...{ folders: [join(folder, 'disk')], zone: '', weight: 1, server: new RpcServer({ log: silentLog }) },
    listen: (server) => server.listen(`unix:${join(folder, 'sock')}`),
  })
  await node.stop()
  await volume.close()
  await noteNewHistories(store, keys)
  t.notOk(await isRebuildDue(store, keys))
  // A server that was started again has a new history, as one that took another's place.
  await redis.kill(0)
  await redis.restart(0)
  await noteNewHistories(store, keys)
  t.ok(await isRebuildDue(store, keys), 'the history of before is known, though nobody had looked for orphans then')
})

t.test('a volume is made where nobody says what replicas have', async (t) => {
  const redis = await startRedis(t)
  const store = await connectPatiently(redis.url('home'))
  t.teardown(() => store.close())
  const silent = {
    ...bound(store),
    waitReplicas: () => Promise.reject(new RingfsError('REDIS_UNREACHABLE', 'stood still while it was asked')),
  }
  const settings = await formatVolume(silent, 'home', { partitions: 4, metaReplicas: 1 })
  const root = await store.call('HEXISTS', new VolumeKeys('home', settings.partitions).of(ROOT_INO).inodes, ROOT_INO)
  t.equal(root, 1, 'whole, with its root')
})
