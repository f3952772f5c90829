/** Overwritten data: its extents and its chunks go, what is seen stays; on a real redis-server and a real chunk store. */
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import { ROOT_INO } from '../../src/base/limits.js'
import type { Extent, MetaStore } from '../../src/meta/contract.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { EXTENT_BYTES } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume } from '../../src/meta/format.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { startCluster } from '../helpers/chunks.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const FILE = { type: 'file', mode: 0o644, uid: 0, gid: 0 } as const
const NOW = { sec: 1, nsec: 0 }
const O_RDWR_CREAT = 0o102
const BLOCK = 4096
const PARTITIONS = 4

async function open(t: Test): Promise<MetaStore> {
  return (await openBeside(t)).meta
}

async function openBeside(t: Test): Promise<{ readonly meta: MetaStore; readonly store: RedisStore }> {
  const redis = await startRedis(t)
  const store = await connectPatiently(redis.url('v'))
  const settings = await formatVolume(store, 'v', { partitions: PARTITIONS })
  const meta = await openMeta(store, settings, { log: silentLog })
  t.teardown(async () => {
    await meta.shutdown()
    await store.close()
  })
  return { meta, store }
}

async function extentAt(meta: MetaStore, fileOffset: number): Promise<Extent> {
  const chunk = { id: await meta.chunkId(), lengthBytes: BLOCK, root: randomBytes(32) }
  return { fileOffset, lengthBytes: BLOCK, chunk, chunkOffset: 0 }
}

t.test(
  'a file written over again and again keeps a short map and the chunks that are seen, and reads right',
  async (t) => {
    const meta = await open(t)
    const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
    const vfs = createVfs({ meta, chunks: cluster.client, log: silentLog })
    const { attr, handle } = await vfs.create(CALLER, ROOT_INO, Buffer.from('f'), 0o644, O_RDWR_CREAT)
    const model = randomBytes(64 * BLOCK)
    await vfs.write(handle, 0, model)
    for (let round = 0; round < 60; round++) {
      const at = (round * 7) % 60
      const data = randomBytes(3 * BLOCK)
      data.copy(model, at * BLOCK)
      await vfs.write(handle, at * BLOCK, data)
      await vfs.flush(handle)
    }
    await vfs.release(handle)
    await vfs.shutdown()
    const { extents } = await meta.extents(attr.ino, 0)
    t.ok(extents.length < 60, `${extents.length} extents after 61 writes`)
    const removed = new Set<number>()
    const remove = async (ids: readonly number[]): Promise<void> => {
      for (const id of ids) removed.add(id)
      await cluster.client.remove(ids)
    }
    t.ok((await meta.collectGarbage(remove, 0)) > 0, 'chunks that nobody sees are removed')
    for (const { chunk } of (await meta.extents(attr.ino, 0)).extents) {
      if (chunk !== null && removed.has(chunk.id)) t.fail('a chunk that is seen was removed')
    }
    const again = createVfs({ meta, chunks: cluster.client, log: silentLog })
    const reader = await again.open(CALLER, attr.ino, 0)
    t.ok((await again.read(reader.handle, 0, model.length)).equals(model), 'every byte is the last one written')
    await again.release(reader.handle)
    await again.shutdown()
  },
)

t.test('what is committed while a window is compacted stays', async (t) => {
  const meta = await open(t)
  const { attr } = await meta.create(ROOT_INO, Buffer.from('f'), FILE, { exclusive: true, open: true })
  const commit = async (extent: Extent): Promise<void> => {
    const request = { extents: [extent], mode: 'at', allocatedDeltaBytes: 0, mtime: NOW } as const
    await meta.commit(attr.ino, request)
  }
  for (let i = 0; i < 5; i++) await commit(await extentAt(meta, 0))
  const old = await meta.extents(attr.ino, 0)
  const last = old.extents.at(-1)
  if (last === undefined) throw new Error('an extent')
  const late = await extentAt(meta, 0)
  await commit(late)
  t.type(await meta.compact(attr.ino, old, [last], old.extents.slice(0, -1), 0), 'number')
  t.same((await meta.extents(attr.ino, 0)).extents, [last, late])
  t.equal(await meta.compact(attr.ino, old, [last], [], 0), null, 'a second compaction of the same window does nothing')
})

t.test('a window that was freed and written anew is not taken for the one that was read', async (t) => {
  const meta = await open(t)
  const { attr } = await meta.create(ROOT_INO, Buffer.from('f'), FILE, { exclusive: true, open: true })
  const write = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) {
      const extents = [await extentAt(meta, i * BLOCK)]
      await meta.commit(attr.ino, { extents, mode: 'at', allocatedDeltaBytes: 0, mtime: NOW })
    }
  }
  await write()
  const old = await meta.extents(attr.ino, 0)
  await meta.setattr(attr.ino, { sizeBytes: 0 })
  await write()
  const fresh = await meta.extents(attr.ino, 0)
  t.equal(await meta.compact(attr.ino, old, [], old.extents, 0), null)
  t.same(await meta.extents(attr.ino, 0), fresh)
  t.same(await meta.extents(attr.ino, 0, old), fresh, 'nor is it put together from the old and the new')
})

t.test('extents that came in the place of lost ones are not taken for those that were read', async (t) => {
  const { meta, store } = await openBeside(t)
  const { attr } = await meta.create(ROOT_INO, Buffer.from('f'), FILE, { exclusive: true, open: true })
  const write = async (): Promise<void> => {
    const extents = [await extentAt(meta, 0)]
    await meta.commit(attr.ino, { extents, mode: 'at', allocatedDeltaBytes: 0, mtime: NOW })
  }
  for (let i = 0; i < 5; i++) await write()
  const key = new VolumeKeys('v', PARTITIONS).of(attr.ino).extents(attr.ino, 0)
  const old = await meta.extents(attr.ino, 0)
  // As after a failover to a replica that lacks the last commit, and another commit.
  const blob = await store.call('GET', key)
  if (!Buffer.isBuffer(blob)) throw new Error('a window')
  await store.call('SET', key, blob.subarray(0, blob.length - EXTENT_BYTES))
  await write()
  const now = await meta.extents(attr.ino, 0)
  t.equal(now.generation, old.generation)
  t.equal(now.extents.length, old.extents.length)
  const last = old.extents.slice(-1)
  t.equal(await meta.compact(attr.ino, old, last, old.extents.slice(0, -1), 0), null)
  t.same(await meta.extents(attr.ino, 0), now)
  t.type(await meta.compact(attr.ino, now, now.extents.slice(-1), now.extents.slice(0, -1), 0), 'number')
})
