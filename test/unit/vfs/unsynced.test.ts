/** Chunks that an fsync still owes the disk, while others of the file are gone. */
import t, { type Test } from 'tap'
import { WINDOW_BYTES } from '../../../src/base/limits.js'
import { silentLog } from '../../../src/base/log.js'
import { DEFAULT_LIMITS } from '../../../src/vfs/limits.js'
import { UnsyncedChunks } from '../../../src/vfs/unsynced.js'
import type { ChunkRef } from '../../../src/chunk/contract.js'
import type { MemoryChunks } from '../../helpers/memory-chunks.js'
import type { MemoryMeta } from '../../helpers/memory-meta.js'
import { codeOf, fixture, make } from '../../helpers/vfs-fixture.js'

const WRITE = { durability: 'quorum', sync: false } as const
const [OVERWRITTEN, COMING] = [1, 2]

interface Setting {
  readonly chunks: MemoryChunks
  readonly meta: MemoryMeta
  readonly unsynced: UnsyncedChunks
  readonly ino: number
  /** Of the chunk whose commit is to come. */
  readonly coming: ChunkRef
}

async function setUp(t: Test): Promise<Setting> {
  const { vfs, meta, chunks } = fixture(t)
  const { ino } = await make(vfs, 'f')
  const unsynced = new UnsyncedChunks({ meta, chunks, limits: DEFAULT_LIMITS, log: silentLog })
  const upload = async (id: number): Promise<ChunkRef> => {
    const ref = await chunks.write(id, [Buffer.from([id])], { ino, order: id, extents: [] }, WRITE)
    unsynced.addUploaded(ino, id)
    return ref
  }
  await upload(OVERWRITTEN)
  const coming = await upload(COMING)
  unsynced.commitEnded([OVERWRITTEN])
  await chunks.remove([OVERWRITTEN])
  return { chunks, meta, unsynced, ino, coming }
}

t.test(
  'what was uploaded and is not named yet is on disk, too, after a sync that missed what is named no more',
  async (t) => {
    const { chunks, unsynced, ino } = await setUp(t)
    await unsynced.sync(ino)
    t.equal(chunks.stored.get(COMING)?.synced, true)
    t.equal(unsynced.count, 0)
  },
)

t.test('what is missing before it is named is not forgotten: the sync after its commit tells', async (t) => {
  const { chunks, meta, unsynced, ino, coming } = await setUp(t)
  await chunks.remove([COMING])
  await unsynced.sync(ino)
  t.equal(unsynced.count, 1, 'owed still')
  const extents = [{ fileOffset: 0, lengthBytes: 1, chunk: coming, chunkOffset: 0 }]
  await meta.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: 1, mtime: { sec: 1, nsec: 0 } })
  unsynced.commitEnded([COMING])
  t.equal(await codeOf(unsynced.sync(ino)), 'CHUNK_MISSING')
})

t.test('what was given up is owed no more', async (t) => {
  const { chunks, unsynced, ino } = await setUp(t)
  unsynced.forget([COMING])
  await chunks.remove([COMING])
  await unsynced.sync(ino)
  t.equal(unsynced.count, 0)
})

for (const [where, windows] of [
  ['many windows', Array.from({ length: 100 }, (_, index) => 2 * index)],
  ['a few windows of a very long one', [0, 7, 5_000, 1_000_000]],
] as const) {
  t.test(`what a file with ${where} does not name is owed no more, and what its last one names is`, async (t) => {
    const { chunks, meta, unsynced, ino, coming } = await setUp(t)
    const other = await chunks.write(3, [Buffer.from([3])], { ino, order: 3, extents: [] }, { ...WRITE, sync: true })
    const commit = async (window: number, chunk: ChunkRef): Promise<void> => {
      const extents = [{ fileOffset: window * WINDOW_BYTES, lengthBytes: 1, chunk, chunkOffset: 0 }]
      await meta.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: 1, mtime: { sec: 1, nsec: 0 } })
    }
    for (const window of windows) await commit(window, other)
    await unsynced.sync(ino)
    t.equal(unsynced.count, 0)
    await commit(windows.at(-1) ?? 0, coming)
    unsynced.commitEnded([COMING])
    unsynced.add(ino, COMING)
    await chunks.remove([COMING])
    t.equal(await codeOf(unsynced.sync(ino)), 'CHUNK_MISSING')
    t.equal(unsynced.count, 1)
  })
}
