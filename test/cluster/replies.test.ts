/** The table of replies that makes changes happen once stays as small as what is under way, whatever is refused. */
import t from 'tap'
import { VolumeKeys } from '../../src/meta/keys.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'
import { ROOT, volumesOn } from '../helpers/meta.js'

const FILE = { type: 'file', mode: 0o644, uid: 0, gid: 0 } as const

await t.test('refused changes leave no replies behind in Redis', async (t) => {
  const redis = await startRedis(t)
  const volume = await volumesOn(t, redis)()
  const client = await volume.client()
  for (let i = 0; i < 100; i++) {
    await client.create(ROOT, Buffer.from(`f${i}`), FILE, { exclusive: true, open: false })
    await t.rejects(client.unlink(ROOT, Buffer.from('nobody')), { code: 'ENOENT' })
  }
  const store = await connectPatiently(redis.url('any'))
  t.teardown(() => store.close())
  const partition = new VolumeKeys(volume.settings.name, volume.settings.partitions).of(ROOT)
  const kept = Number(await store.call('HLEN', partition.replies(client.sessionId)))
  t.ok(kept < 10, `${kept} replies are kept`)
})
