/** The clean-up after a session was lost with its server: what the session had open does not stay for ever. */
import t from 'tap'
import type { MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { checkVolume } from '../helpers/meta-check.js'
import { ROOT, bytes, outcome, touch, until, volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const collect = async (meta: MetaStore): Promise<void> => {
  await meta.collectGarbage(() => Promise.resolve(), 0)
}

t.test('a file without a name goes though the clean-up after its session was lost', async (t) => {
  const volume = await volumesOn(t, await startRedis(t))()
  const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
  const ann = await volume.client()
  const opened = async (meta: MetaStore, name: string): Promise<number> => {
    const { ino } = await touch(meta, ROOT, name)
    await meta.open(ino, { truncate: false })
    await meta.unlink(ROOT, bytes(name))
    return ino
  }
  const ino = await opened(ann, 'gone')
  const { inodes, open, counters } = keys.of(ino)
  const before = await Promise.all([inodes, open].map((key) => volume.redis.call('HGET', key, ino)))
  await ann.shutdown()

  const bob = await volume.client({ sessionTtlMs: 200 })
  const cleo = await volume.client()
  const kept = await opened(cleo, 'kept')
  t.equal(await outcome(bob.getattr(ino)), 'ENOENT')
  for (const [at, key] of [inodes, open].entries()) {
    const value = before[at]
    if (Buffer.isBuffer(value)) await volume.redis.call('HSET', key, ino, value)
  }
  await volume.redis.call('HINCRBY', counters, 'inodes', 1)
  t.equal(await outcome(bob.getattr(ino)), 'ok', 'as a replica has it that lacks the clean-up')
  await collect(bob)
  await until('the reaper has cleaned up', async () => (await outcome(bob.getattr(ino))) === 'ENOENT')
  t.equal(await outcome(cleo.getattr(kept)), 'ok', 'what a living session has open stays')
  await volume.close()
  t.strictSame(await checkVolume(volume), [])
  await volume.close()
})
