/** What the janitor does in one script is bounded: Redis serves nobody else meanwhile. */
import t, { type Test } from 'tap'
import type { RedisStore } from '../../src/cluster/contract.js'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import { EXTENT_BYTES, type MetaStore } from '../../src/meta/contract.js'
import { bound } from '../helpers/bound-redis.js'
import { checkVolume } from '../helpers/meta-check.js'
import { ROOT, bytes, extentOf, touch, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const BLOCK_BYTES = 8_192
const WINDOWS = 6
const OWN_KEYS = 6
/** A window of 4 KiB blocks has half as many: one that is more than enough, and what came before it. */
const EXTENTS_MAX = 2 * 16_384

type Run = RedisStore['run']

/** A file of 6 windows with very many extents, and its chunks. `wrap` goes around what the client sends. */
async function bigFile(t: Test, wrap: (store: RedisStore) => Run): Promise<BigFile> {
  const volume = await volumesOn(t, await startRedis(t), (store) => ({ ...bound(store), run: wrap(store) }))()
  const meta = await volume.client()
  const { ino } = await touch(meta, ROOT, 'file')
  const chunks: number[] = []
  for (let window = 0; window < WINDOWS; window++) {
    const chunk = await meta.chunkId()
    chunks.push(chunk)
    const extents = Array.from({ length: WINDOW_BYTES / BLOCK_BYTES }, (_, i) =>
      extentOf(chunk, window * WINDOW_BYTES + i * BLOCK_BYTES, BLOCK_BYTES, 0),
    )
    const mtime = { sec: 1_700_000_000, nsec: 0 }
    await meta.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: WINDOW_BYTES, mtime })
  }
  return { volume, meta, ino, chunks }
}

interface BigFile {
  readonly volume: MetaVolume
  readonly meta: MetaStore
  readonly ino: number
  readonly chunks: readonly number[]
}

async function stored(store: RedisStore, keys: readonly string[]): Promise<number> {
  const lengths = await Promise.all(keys.map((key) => store.call('STRLEN', key)))
  return lengths.reduce<number>((sum, length) => sum + Number(length), 0)
}

async function collect(meta: MetaStore): Promise<number[]> {
  const removed = new Set<number>()
  await meta.collectGarbage((ids) => {
    for (const id of ids) removed.add(id)
    return Promise.resolve()
  }, 0)
  return [...removed].sort()
}

t.test('of a deleted file with very many extents a script frees a few windows', { timeout: 300_000 }, async (t) => {
  const freed: number[] = []
  const wrap = (store: RedisStore): Run => {
    return async (script, keys, args, options) => {
      if (script.name !== 'zombie-free') return await store.run(script, keys, args, options)
      const named = keys.slice(OWN_KEYS)
      const before = await stored(store, named)
      const reply = await store.run(script, keys, args, options)
      freed.push(before - (await stored(store, named)))
      return reply
    }
  }
  const { volume, meta, chunks } = await bigFile(t, wrap)
  await meta.unlink(ROOT, bytes('file'))
  t.strictSame(await collect(meta), chunks.toSorted(), 'all of it goes')
  t.ok(Math.max(...freed) <= EXTENTS_MAX * EXTENT_BYTES, `bytes of extents in a script: ${freed.join(' ')}`)
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})

t.test(
  'whether windows with very many extents name chunks still is asked of a few at once',
  { timeout: 300_000 },
  async (t) => {
    const read: number[] = []
    const wrap = (store: RedisStore): Run => {
      return async (script, keys, args, options) => {
        const reply = await store.run(script, keys, args, options)
        if (script.name === 'named' && Array.isArray(reply)) {
          read.push(await stored(store, keys.slice(1, 1 + reply.length / 2)))
        }
        return reply
      }
    }
    const { volume, meta, ino, chunks } = await bigFile(t, wrap)
    const dropped: number[] = []
    for (let window = 0; window < WINDOWS; window++) {
      const old = await meta.extents(ino, window)
      const gone = await meta.chunkId()
      // One that the window names still, too.
      const both = [gone, chunks[window] ?? 0].map((id) => extentOf(id, window * WINDOW_BYTES, BLOCK_BYTES))
      t.ok((await meta.compact(ino, old, old.extents, both, 0)) !== null)
      dropped.push(gone)
    }
    t.strictSame(await collect(meta), dropped, 'what is named stays')
    t.ok(Math.max(...read) <= EXTENTS_MAX * EXTENT_BYTES, `bytes of extents in a script: ${read.join(' ')}`)
    await volume.close()
    t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
  },
)
