/** Bytes of small files on a real Redis: damage is found, and the budget holds. */
import t from 'tap'
import { silentLog } from '../../src/base/log.js'
import { BODY_PIECE_BYTES } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume } from '../../src/meta/format.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { within } from '../helpers/deadline.js'
import { ROOT, outcome, touch } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

const MTIME = { sec: 1_700_000_000, nsec: 7 }
const BUDGET = 10_000

t.test('small files in Redis', async (t) => {
  const redis = await within(180_000, startRedis(t), 'redis-server')
  const store = await connectPatiently(redis.url('any'))
  t.teardown(() => store.close())
  const settings = await formatVolume(store, 'bodies', { partitions: 4, inlineBudgetBytes: BUDGET })
  const meta = await openMeta(store, settings, { log: silentLog })
  t.teardown(() => meta.shutdown())
  const put = async (name: string, length: number): Promise<{ ino: number; isKept: boolean }> => {
    const { ino } = await touch(meta, ROOT, name)
    const pieces = [{ fileOffset: 0, bytes: Buffer.alloc(length, name) }]
    const request = { pieces, mode: 'at', allocatedDeltaBytes: length, mtime: MTIME } as const
    return { ino, isKept: (await meta.commitInline(ino, request)) !== null }
  }

  await t.test('a byte that is another than was written is never read: EIO', async (t) => {
    const { ino } = await put('damaged', 100)
    const { inodes } = new VolumeKeys(settings.name, settings.partitions).of(ino)
    const body = await store.call('HGET', inodes, `b${ino}`)
    if (!Buffer.isBuffer(body)) throw new Error('it has a body')
    const damaged = Buffer.from(body)
    damaged.writeUInt8(damaged.readUInt8(50) ^ 1, 50)
    await store.call('HSET', inodes, `b${ino}`, damaged)
    t.equal(await outcome(meta.extents(ino, 0)), 'EIO')
    t.equal(await outcome(meta.open(ino, { truncate: false })), 'EIO')
    const other = await put('other', 100)
    const foreign = await store.call('HGET', inodes, `b${other.ino}`)
    await store.call('HSET', inodes, `b${ino}`, Buffer.isBuffer(foreign) ? foreign : '')
    t.equal(await outcome(meta.extents(ino, 0)), 'EIO', "nor are another file's")
    await store.call('HSET', inodes, `b${ino}`, body)
    t.equal((await meta.extents(ino, 0)).body?.[0]?.lengthBytes, 100)
  })

  await t.test('a transaction that holds the inode, and cannot be finished, holds up no bytes', async (t) => {
    const { ino } = await touch(meta, ROOT, 'held')
    const { locks } = new VolumeKeys(settings.name, settings.partitions).of(ino)
    const { mode } = await meta.getattr(ino)
    await store.call('HSET', locks, `i${ino}`, 'of a partition that is away')
    const pieces = [{ fileOffset: 0, bytes: Buffer.from('data') }]
    const request = { pieces, mode: 'at', allocatedDeltaBytes: 4, mtime: MTIME } as const
    const reply = await meta.commitInline(ino, { ...request, attributes: { mode: mode ^ 1 } })
    t.match(reply, { attributesLeft: true, attr: { mode, sizeBytes: 4, mtime: MTIME } })
    await store.call('HDEL', locks, `i${ino}`)
    const merged = await meta.commitInline(ino, { ...request, attributes: { mode: mode ^ 1 } })
    t.match(merged, { attributesLeft: undefined, attr: { mode: mode ^ 1 } })
  })

  await t.test('longer files written as a whole have room where moving ends, and none where it begins', async (t) => {
    const fill = async (name: string, share: number): Promise<void> => {
      const length = Math.round(BUDGET * share) - (await meta.oldBodies.count()) - BODY_PIECE_BYTES
      t.equal((await put(name, length)).isKept, true)
    }
    await fill('half', 0.5)
    t.ok(meta.wholeInlineBytes > meta.inlineBytes)
    await fill('crowded', 0.75)
    t.equal(meta.wholeInlineBytes, 0)
    for (const name of ['half', 'crowded']) await meta.unlink(ROOT, Buffer.from(name))
    await meta.oldBodies.count()
  })

  await t.test('what goes beyond the budget is for chunks, and room that comes back is used', async (t) => {
    t.equal((await put('most', BUDGET - 1_000)).isKept, true)
    t.equal((await put('beyond', 2_000)).isKept, false)
    t.equal((await put('little', 100)).isKept, true)
    const left = BUDGET - (await meta.oldBodies.count())
    t.equal(meta.inlineBytes, left - BODY_PIECE_BYTES, 'no longer ones are tried')
    t.equal((await put('longest', meta.inlineBytes)).isKept, true)
    t.equal(meta.inlineBytes, 0)
    t.equal((await put('none', 1)).isKept, false)
    await meta.unlink(ROOT, Buffer.from('most'))
    t.equal((await put('again', 2_000)).isKept, true)
  })
})
