/** MetaStore: which windows there are, holes, and clones with the chunks that they keep alive. */
import type { Test } from 'tap'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { Extent, MetaStore, PunchRequest } from '../../src/meta/contract.js'
import { HOLDERS_MAX } from '../../src/meta/clone.js'
import { ROOT, bytes, claim, extentOf, newFile, outcome, touch, writeAt, type OpenVolume } from '../helpers/meta.js'
import { readBack } from '../helpers/meta-file-model.js'
import { cloneRange, collected, namedChunks } from '../helpers/meta-clones.js'

const MTIME = { sec: 1_700_000_000, nsec: 9 }

export function rangeClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'the windows of a file are those with extents, in order and in pages', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    t.same((await meta.windows(ino, 0, 10)).windows, [])
    await writeAt(meta, ino, 0, 10)
    t.same((await meta.windows(ino, 0, 10)).windows, [0], 'inline')
    t.same((await meta.windows(ino, 1, 10)).windows, [])
    const far = [3, 70, 2 ** 20, 2 ** 26]
    for (const window of far) await writeAt(meta, ino, window * WINDOW_BYTES, 10)
    t.same((await meta.windows(ino, 0, 10)).windows, [0, ...far])
    t.same((await meta.windows(ino, 0, 2)).windows, [0, 3])
    t.same((await meta.windows(ino, 4, 2)).windows, [70, 2 ** 20])
    const { attr } = await meta.windows(ino, 2 ** 26 + 1, 2)
    t.same(attr, await meta.getattr(ino))
    t.equal(await outcome(meta.windows(ROOT, 0, 1)), 'EINVAL')
    t.equal(await outcome(meta.windows(ino + 8000, 0, 1)), 'ENOENT')
  })
  holes(t, open)
  steps(t, open)
  appends(t, open)
  clones(t, open)
  lives(t, open)
}

function punch(ino: number, meta: MetaStore, change: Partial<PunchRequest>): ReturnType<MetaStore['punch']> {
  const base = { offset: 0, lengthBytes: 1, windows: new Map<number, number>(), mtime: MTIME, clearSuid: false }
  return meta.punch(ino, { ...base, minSizeBytes: 0, ...change })
}

function holes(t: Test, open: OpenVolume): void {
  claim(
    t,
    open,
    'a punched range reads as zeros, inline and in windows, and whole windows are freed',
    async (t, volume) => {
      const meta = await volume.client()
      for (const writes of [1, 4]) {
        const { ino } = await touch(meta, ROOT, `f${writes}`)
        const starts = [0, WINDOW_BYTES, 2 * WINDOW_BYTES, 3 * WINDOW_BYTES]
        for (const start of starts) for (let i = 0; i < writes; i++) await writeAt(meta, ino, start + i * 10, 10)
        const before = await meta.getattr(ino)
        const windows = [0, 1, 2, 3].map((window): [number, number] => [window, -5])
        const request = { offset: 5, lengthBytes: 3 * WINDOW_BYTES, windows: new Map(windows) }
        const attr = await punch(ino, meta, request)
        t.match(attr, { sizeBytes: before.sizeBytes, allocatedBytes: before.allocatedBytes - 20, mtime: MTIME })
        t.ok((attr?.dataVersion ?? 0) > before.dataVersion)
        t.same((await meta.windows(ino, 0, 9)).windows, [0, 3], 'the two between are gone')
        for (const start of starts) {
          const read = await readBack(meta, ino, start, 40)
          const zeros = start === 0 ? [5, 40] : start === 3 * WINDOW_BYTES ? [0, 5] : [0, 40]
          for (const [at, value] of read.entries()) {
            t.equal(value === 0, at >= (zeros[0] ?? 0) && at < (zeros[1] ?? 0), `${writes} writes: ${start} + ${at}`)
          }
        }
      }
    },
  )

  claim(
    t,
    open,
    'a punch may grow the file, clears set-uid when asked, and leaves windows that are not named',
    async (t, volume) => {
      const meta = await volume.client()
      const { ino } = await touch(meta, ROOT, 'f', newFile({ mode: 0o6755 }))
      t.match(await punch(ino, meta, { lengthBytes: 100, minSizeBytes: 100 }), { sizeBytes: 100, mode: 0o6755 })
      await writeAt(meta, ino, WINDOW_BYTES, 10)
      const attr = await punch(ino, meta, { lengthBytes: 9 * WINDOW_BYTES, clearSuid: true })
      t.match(attr, { sizeBytes: WINDOW_BYTES + 10, mode: 0o755 })
      t.same((await meta.windows(ino, 0, 9)).windows, [1])
      t.equal(await outcome(punch(ino, meta, { lengthBytes: 0 })), 'EINVAL')
      t.equal(await outcome(punch(ROOT, meta, { lengthBytes: 10 })), 'EINVAL')
    },
  )
}

function steps(t: Test, open: OpenVolume): void {
  claim(t, open, 'a punch frees no more than 16,384 extents with one change', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    const BLOCK_BYTES = 8_192
    for (let window = 0; window < 4; window++) {
      const chunk = await meta.chunkId()
      const extents = Array.from({ length: WINDOW_BYTES / BLOCK_BYTES }, (_, i) =>
        extentOf(chunk, window * WINDOW_BYTES + i * BLOCK_BYTES, BLOCK_BYTES),
      )
      await meta.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: WINDOW_BYTES, mtime: MTIME })
    }
    const before = await meta.getattr(ino)
    const windows = [0, 1, 2, 3].map((window): [number, number] => [window, window === 3 ? -5 : -WINDOW_BYTES])
    const attr = await punch(ino, meta, { lengthBytes: 3 * WINDOW_BYTES + 5, windows: new Map(windows) })
    t.match(attr, { sizeBytes: 4 * WINDOW_BYTES, allocatedBytes: WINDOW_BYTES - 5 })
    t.equal(attr?.dataVersion, before.dataVersion + 2, 'two windows, then the rest')
    t.same((await meta.windows(ino, 0, 9)).windows, [3])
    t.same((await readBack(meta, ino, 3 * WINDOW_BYTES, 6)).map(Boolean), [false, false, false, false, false, true])
  })
}

function appends(t: Test, open: OpenVolume): void {
  claim(t, open, 'an append in two chunks goes across the border of two windows as one change', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    await meta.setattr(ino, { sizeBytes: WINDOW_BYTES - 30 })
    const [one, two] = [await meta.chunkId(), await meta.chunkId()]
    const both = (cut: number): readonly Extent[] => [extentOf(one, 0, cut), extentOf(two, cut, 100 - cut)]
    const request = { mode: 'append', allocatedDeltaBytes: 100, mtime: MTIME } as const
    t.match(await meta.commit(ino, { ...request, extents: both(31) }), { cutAfterBytes: 30 })
    t.match(await meta.commit(ino, { ...request, extents: both(29) }), { cutAfterBytes: 30 })
    const before = await meta.getattr(ino)
    const { attr, baseOffset, cutAfterBytes } = await meta.commit(ino, { ...request, extents: both(30) })
    t.same([baseOffset, cutAfterBytes], [WINDOW_BYTES - 30, undefined])
    t.match(attr, { sizeBytes: WINDOW_BYTES + 70, allocatedBytes: 100, dataVersion: before.dataVersion + 1 })
    t.same((await meta.extents(ino, 0)).extents, [extentOf(one, WINDOW_BYTES - 30, 30)])
    t.same((await meta.extents(ino, 1)).extents, [extentOf(two, WINDOW_BYTES, 70)])
  })
}

function clones(t: Test, open: OpenVolume): void {
  claim(t, open, 'a clone reads as its source, and is refused when either file has changed', async (t, volume) => {
    const [meta, other] = [await volume.client(), await volume.client()]
    const [a, b] = [await touch(meta, ROOT, 'a'), await touch(meta, ROOT, 'b', newFile({ mode: 0o4755 }))]
    for (const start of [0, 30, WINDOW_BYTES - 10, WINDOW_BYTES, WINDOW_BYTES + 20])
      await writeAt(meta, a.ino, start, 10)
    await writeAt(meta, b.ino, 5, 20)
    const done = await cloneRange(meta, a.ino, 0, b.ino, 7, WINDOW_BYTES + 30)
    t.match(done, { sizeBytes: WINDOW_BYTES + 37, mode: 0o755 })
    for (const from of [0, WINDOW_BYTES - 40]) {
      const source = await readBack(meta, a.ino, from, 70)
      t.strictSame(await readBack(other, b.ino, from + 7, 70), source)
    }
    const stale = await cloneRange(meta, a.ino, 0, b.ino, 7, 40, {
      before: () => writeAt(other, b.ino, 9, 1),
    })
    t.equal(stale, null, 'the target was changed')
    const moved = await cloneRange(meta, a.ino, 0, b.ino, 7, 40, {
      before: () => writeAt(other, a.ino, 9, 1),
    })
    t.equal(moved, null, 'the source was changed')
  })

  claim(t, open, 'a clone inside a file, and inside a window', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    for (let i = 0; i < 5; i++) await writeAt(meta, ino, i * 10, 10)
    const first = await readBack(meta, ino, 0, 50)
    for (const to of [1000, WINDOW_BYTES - 20, 5 * WINDOW_BYTES]) {
      t.ok(await cloneRange(meta, ino, 0, ino, to, 50))
      t.strictSame(await readBack(meta, ino, to, 50), first)
    }
  })

  claim(t, open, 'a chunk has a bounded number of holders', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    await writeAt(meta, ino, 0, 10)
    let done = 0
    for (let at = 1; at <= HOLDERS_MAX; at++) if (await cloneRange(meta, ino, 0, ino, at * WINDOW_BYTES, 10)) done++
    t.equal(done, HOLDERS_MAX - 1)
    await meta.unlink(ROOT, bytes('f'))
    t.equal((await collected(meta)).length, 1)
  })
}

function lives(t: Test, open: OpenVolume): void {
  claim(t, open, 'a chunk lives as long as any clone of it, and no longer', async (t, volume) => {
    const [meta, janitor] = [await volume.client(), await volume.client()]
    const files = await Promise.all(['a', 'b', 'c'].map((name) => touch(meta, ROOT, name)))
    const [a, b, c] = files.map(({ ino }) => ino)
    if (a === undefined || b === undefined || c === undefined) throw new Error('three files')
    for (const start of [0, WINDOW_BYTES, WINDOW_BYTES + 50]) await writeAt(meta, a, start, 10)
    const chunks = await namedChunks(meta, a)
    t.ok(await cloneRange(meta, a, 0, b, 0, WINDOW_BYTES + 60))
    t.ok(await cloneRange(meta, b, 0, c, 3, WINDOW_BYTES + 60), 'a clone of a clone')
    t.same(await collected(janitor), [], 'all have holders')
    await meta.unlink(ROOT, bytes('a'))
    t.same(await collected(janitor), [])
    await meta.setattr(c, { sizeBytes: 0 })
    t.same(await collected(janitor), [])
    const windows = [0, 1].map((window): [number, number] => [window, 0])
    await punch(b, meta, { lengthBytes: WINDOW_BYTES, windows: new Map(windows) })
    t.same(await collected(janitor), chunks.slice(0, 1))
    t.ok(await cloneRange(meta, b, WINDOW_BYTES, c, 0, 60), 'again')
    await meta.unlink(ROOT, bytes('b'))
    t.same(await collected(janitor), [])
    await meta.unlink(ROOT, bytes('c'))
    t.same((await collected(janitor)).sort(), chunks.slice(1))
  })

  claim(t, open, 'what one place of a file names a compaction of another does not free', async (t, volume) => {
    const [meta, janitor] = [await volume.client(), await volume.client()]
    const { ino } = await touch(meta, ROOT, 'f')
    const first = await writeAt(meta, ino, 0, 10)
    for (let i = 0; i < 4; i++) await writeAt(meta, ino, 0, 10)
    const old = await meta.extents(ino, 0)
    // Cloned into the window that is being compacted, from before it was hidden.
    const version = (await meta.getattr(ino)).dataVersion
    const extent = { ...first, fileOffset: 100 }
    const request = { source: ino, sourceVersion: version, version, extents: [{ extent, sourceWindow: 0 }] }
    t.ok(
      await meta.clone(ino, { ...request, allocatedDeltaBytes: 10, mtime: MTIME, clearSuid: false, minSizeBytes: 110 }),
    )
    const kept = old.extents.slice(-1)
    const compacted = await meta.compact(ino, old, kept, old.extents.slice(0, -1), 0)
    t.equal(compacted, (await meta.getattr(ino)).dataVersion)
    t.equal(await meta.compact(ino, old, kept, old.extents.slice(0, -1), 0), null, 'that was another window')
    const gone = old.extents.slice(1, -1).map(({ chunk }) => chunk?.id)
    t.same(await collected(janitor), gone)
    t.same((await meta.extents(ino, 0)).extents, [...kept, extent])
  })

  claim(
    t,
    open,
    'a packing takes the place of what was read, once, and what came meanwhile lies over it',
    async (t, volume) => {
      const [meta, janitor] = [await volume.client(), await volume.client()]
      const { ino } = await touch(meta, ROOT, 'f')
      for (let i = 0; i < 5; i++) await writeAt(meta, ino, i * 10, 10)
      const old = await meta.extents(ino, 0)
      const before = await meta.getattr(ino)
      const later = await writeAt(meta, ino, 20, 10)
      const written = await meta.getattr(ino)
      const packed = extentOf(await meta.chunkId(), 0, 50)
      const pack = (): Promise<number | null> => meta.compact(ino, old, [packed], old.extents, 0, Date.now() * 1000)
      const version = before.dataVersion + 2
      t.equal(await pack(), version)
      t.equal(await pack(), null)
      t.same((await meta.extents(ino, 0)).extents, [packed, later])
      const have = { window: 0, generation: version, dataVersion: version, extents: [packed] }
      t.same(await meta.extents(ino, 0, have), await meta.extents(ino, 0), 'the version is the generation')
      t.equal((await meta.extents(ino, 0)).generation, version)
      t.same(
        await collected(janitor),
        old.extents.map(({ chunk }) => chunk?.id),
      )
      const changed = await meta.getattr(ino)
      t.same({ ...changed, dataVersion: 0 }, { ...written, dataVersion: 0 }, 'nothing else of the file')
    },
  )

  claim(t, open, 'a client that dies between the steps of a clone leaves nothing behind', async (t, volume) => {
    const meta = await volume.client()
    const janitor = await volume.client()
    for (const [at, last] of ['clone-intended', 'clone-held', 'clone-verified'].entries()) {
      const [a, b] = [await touch(meta, ROOT, `a${at}`), await touch(meta, ROOT, `b${at}`)]
      await writeAt(meta, a.ino, 0, 10)
      const chunks = await namedChunks(meta, a.ino)
      const dying = await volume.client({
        onStep: (step) => (step === last ? Promise.reject(new Error('power is gone')) : Promise.resolve()),
      })
      await t.rejects(cloneRange(dying, a.ino, 0, b.ino, 0, 10), /power is gone/)
      volume.cut(dying)
      t.same(await collected(janitor), [])
      await meta.unlink(ROOT, bytes(`a${at}`))
      t.same(await collected(janitor), chunks, `stopped at ${last}`)
    }
  })
}
