/** What is freed of a deleted file in one script is bounded: Redis serves nobody else meanwhile. */
import t from 'tap'
import type { RedisStore } from '../../src/cluster/contract.js'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import { bound } from '../helpers/bound-redis.js'
import { checkVolume } from '../helpers/meta-check.js'
import { ROOT, bytes, extentOf, touch, volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const BLOCK_BYTES = 8_192
const WINDOWS = 6
const OWN_KEYS = 5
/** A window of 4 KiB blocks has half as many: one that is more than enough, and what came before it. */
const EXTENTS_MAX = 2 * 16_384
const EXTENT_BYTES = 53

t.test('of a deleted file with very many extents a script frees a few windows', { timeout: 300_000 }, async (t) => {
  const freed: number[] = []
  const wrap = (store: RedisStore): RedisStore => {
    const stored = async (keys: readonly string[]): Promise<number> => {
      const lengths = await Promise.all(keys.slice(OWN_KEYS).map((key) => store.call('STRLEN', key)))
      return lengths.reduce<number>((sum, length) => sum + Number(length), 0)
    }
    const run: RedisStore['run'] = async (script, keys, args, options) => {
      if (script.name !== 'zombie-free') return await store.run(script, keys, args, options)
      const before = await stored(keys)
      const reply = await store.run(script, keys, args, options)
      freed.push(before - (await stored(keys)))
      return reply
    }
    return { ...bound(store), run }
  }
  const volume = await volumesOn(t, await startRedis(t), wrap)()
  const meta = await volume.client()
  const { ino } = await touch(meta, ROOT, 'file')
  const chunks: number[] = []
  for (let window = 0; window < WINDOWS; window++) {
    const chunk = await meta.chunkId()
    chunks.push(chunk)
    const extents = Array.from({ length: WINDOW_BYTES / BLOCK_BYTES }, (_, i) =>
      extentOf(chunk, window * WINDOW_BYTES + i * BLOCK_BYTES, BLOCK_BYTES, 0),
    )
    await meta.commit(ino, {
      extents,
      mode: 'at',
      allocatedDeltaBytes: WINDOW_BYTES,
      mtime: { sec: 1_700_000_000, nsec: 0 },
    })
  }
  await meta.unlink(ROOT, bytes('file'))
  const removed = new Set<number>()
  await meta.collectGarbage((ids) => {
    for (const id of ids) removed.add(id)
    return Promise.resolve()
  }, 0)
  t.strictSame([...removed].sort(), chunks.sort(), 'all of it goes')
  t.ok(Math.max(...freed) <= EXTENTS_MAX * EXTENT_BYTES, `bytes of extents in a script: ${freed.join(' ')}`)
  await volume.close()
  t.strictSame(await checkVolume(volume), [], 'the volume is whole afterwards')
})
