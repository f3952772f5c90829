/** The clean-up after a session was lost with its server: what the session had open does not stay for ever. */
import t from 'tap'
import { RingfsError } from '../../src/base/errors.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { bound } from '../helpers/bound-redis.js'
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

t.test('a file goes with its last name though its closing could not be told', async (t) => {
  let failing = 1
  const volume = await volumesOn(t, await startRedis(t), (store) => {
    const run: RedisStore['run'] = (script, keys, args, options) => {
      if (script.name === 'close' && failing-- > 0) {
        return Promise.reject(new RingfsError('REDIS_UNREACHABLE', 'away for longer than a call waits'))
      }
      return store.run(script, keys, args, options)
    }
    return { ...bound(store), run }
  })()
  const ann = await volume.client()
  const { ino } = await touch(ann, ROOT, 'file')
  await ann.open(ino, { truncate: false })
  ann.close(ino)
  await until('it was not told', () => failing === 0)
  const bob = await volume.client()
  await bob.unlink(ROOT, bytes('file'))
  t.equal(await outcome(bob.getattr(ino)), 'ok', 'open, as far as is known')
  await touch(ann, ROOT, 'other')
  await until('it is told', async () => (await outcome(bob.getattr(ino))) === 'ENOENT')
  await volume.close()
  t.strictSame(await checkVolume(volume), [])
  await volume.close()
})
