/** MetaStore: sizes, extents, commits of many writers, truncation. */
import type { Test } from 'tap'
import { FILE_MAX_BYTES, WINDOW_BYTES } from '../../src/base/limits.js'
import type { Extent, MetaStore } from '../../src/meta/contract.js'
import { ROOT, claim, extentOf, makeDir, outcome, touch, writeAt, type OpenVolume } from '../helpers/meta.js'

const MTIME = { sec: 1_700_000_000, nsec: 7 }

/** What the extents of a window say of `at`: the chunk and the offset in it; null for a hole. */
async function seen(meta: MetaStore, ino: number, at: number): Promise<readonly [number, number] | null> {
  const { extents } = await meta.extents(ino, Math.floor(at / WINDOW_BYTES))
  const found = extents.filter((one) => one.fileOffset <= at && at < one.fileOffset + one.lengthBytes).at(-1)
  if (found?.chunk == null) return null
  return [found.chunk.id, found.chunkOffset + at - found.fileOffset]
}

async function append(meta: MetaStore, ino: number, lengthBytes: number): Promise<{ chunk: number; base: number }> {
  const chunk = await meta.chunkId()
  const extents = [extentOf(chunk, 0, lengthBytes)]
  const reply = await meta.commit(ino, { extents, mode: 'append', allocatedDeltaBytes: lengthBytes, mtime: MTIME })
  return { chunk, base: reply.baseOffset }
}

export function dataClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'a commit says what was written, its size, its time and a new data version', async (t, volume) => {
    const meta = await volume.client()
    const before = await touch(meta, ROOT, 'file')
    const extent = extentOf(await meta.chunkId(), 100, 50, 7)
    const request = { extents: [extent], mode: 'at', allocatedDeltaBytes: 50, mtime: MTIME } as const
    const { attr } = await meta.commit(before.ino, request)
    t.match(attr, { sizeBytes: 150, allocatedBytes: 50, mtime: MTIME })
    t.ok(attr.dataVersion > before.dataVersion)
    t.same((await meta.extents(before.ino, 0)).extents, [extent])
    const grown = await meta.commit(before.ino, { ...request, extents: [], allocatedDeltaBytes: 0, minSizeBytes: 4096 })
    t.match(grown.attr, { sizeBytes: 4096, allocatedBytes: 50 })
    const hole: Extent = { fileOffset: 100, lengthBytes: 50, chunk: null, chunkOffset: 0 }
    const punched = await meta.commit(before.ino, { ...request, extents: [hole], allocatedDeltaBytes: -90 })
    t.equal(punched.attr.allocatedBytes, 0, 'never below nothing')
    t.equal(await seen(meta, before.ino, 120), null)
  })

  claim(
    t,
    open,
    'later extents hide earlier ones, inline, in a window of its own, and in far windows',
    async (t, volume) => {
      const meta = await volume.client()
      const { ino } = await touch(meta, ROOT, 'file')
      for (const start of [0, WINDOW_BYTES, 70_000 * WINDOW_BYTES]) {
        const written: Extent[] = []
        for (let i = 0; i < 6; i++) written.push(await writeAt(meta, ino, start + i * 5, 10))
        t.same((await meta.extents(ino, start / WINDOW_BYTES)).extents, written)
        t.same(await seen(meta, ino, start + 12), [written[2]?.chunk?.id, 2])
        t.same(await seen(meta, ino, start + 34), [written[5]?.chunk?.id, 9])
      }
      t.equal((await meta.getattr(ino)).sizeBytes, 70_000 * WINDOW_BYTES + 35)
      t.same((await meta.extents(ino, 3)).extents, [], 'nothing between them')
    },
  )

  claim(t, open, 'who has a window gets the whole of it again, however little is new', async (t, volume) => {
    const [meta, other] = [await volume.client(), await volume.client()]
    const { ino } = await touch(meta, ROOT, 'file')
    let have = await other.extents(ino, 0)
    for (let i = 0; i < 8; i++) {
      await writeAt(meta, ino, i * 10, 10)
      have = await other.extents(ino, 0, have)
      t.equal(have.extents.length, i + 1)
      t.same(have, await meta.extents(ino, 0))
    }
    await meta.setattr(ino, { sizeBytes: 0 })
    t.same((await other.extents(ino, 0, have)).extents, [])
    await writeAt(meta, ino, 0, 10)
    t.equal((await other.extents(ino, 0, have)).extents.length, 1)
  })

  claim(t, open, 'appends of many clients lie one after the other, none lost', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3, 4].map(() => volume.client()))
    const { ino } = await touch(await volume.client(), ROOT, 'file')
    const appended = await Promise.all(
      clients.map(async (meta, who) => {
        const done: { chunk: number; base: number; length: number }[] = []
        for (let i = 0; i < 12; i++) {
          const length = 10 + who
          done.push({ ...(await append(meta, ino, length)), length })
        }
        return done
      }),
    )
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    let end = 0
    for (const { base, length, chunk } of appended.flat().sort((a, b) => a.base - b.base)) {
      t.equal(base, end)
      t.same(await seen(meta, ino, base + 3), [chunk, 3])
      end = base + length
    }
    t.match(await meta.getattr(ino), { sizeBytes: end, allocatedBytes: end })
  })

  claim(t, open, 'commits of many clients at their own places are all there', async (t, volume) => {
    const clients = await Promise.all([1, 2, 3, 4].map(() => volume.client()))
    const { ino } = await touch(await volume.client(), ROOT, 'file')
    const work = clients.map(async (meta, who) => {
      const done: (readonly [number, number])[] = []
      for (let i = 0; i < 10; i++) {
        const at = (i % 2) * WINDOW_BYTES + (i * 4 + who) * 10
        done.push([at, (await writeAt(meta, ino, at, 10)).chunk?.id ?? 0])
      }
      return done
    })
    const [meta] = clients
    if (meta === undefined) throw new Error('there are clients')
    for (const [at, chunk] of (await Promise.all(work)).flat()) t.same(await seen(meta, ino, at), [chunk, 0])
    t.equal((await meta.getattr(ino)).allocatedBytes, 4 * 10 * 10)
  })

  windowBorders(t, open)
  truncation(t, open)
}

function windowBorders(t: Test, open: OpenVolume): void {
  claim(t, open, 'an append across the border of two windows is to be cut there', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    await meta.setattr(ino, { sizeBytes: WINDOW_BYTES - 30 })
    const extents = [extentOf(await meta.chunkId(), 0, 100)]
    const request = { extents, mode: 'append', allocatedDeltaBytes: 100, mtime: MTIME } as const
    t.match(await meta.commit(ino, request), { cutAfterBytes: 30, attr: { sizeBytes: WINDOW_BYTES - 30 } })
    t.same((await meta.extents(ino, 0)).extents, [], 'nothing was committed')
    t.match(await append(meta, ino, 30), { base: WINDOW_BYTES - 30 })
    t.match(await append(meta, ino, 70), { base: WINDOW_BYTES })
    t.equal((await meta.extents(ino, 1)).extents.length, 1)
    t.match(await meta.getattr(ino), { sizeBytes: WINDOW_BYTES + 70, allocatedBytes: 100 })
    await meta.setattr(ino, { sizeBytes: 5 })
    t.match(await append(meta, ino, 10), { base: 5 }, 'back in an earlier window')
  })
}

function truncation(t: Test, open: OpenVolume): void {
  claim(t, open, 'truncate cuts what is behind the new end, and growing again shows zeros', async (t, volume) => {
    const meta = await volume.client()
    const borders = [0, 1, 15, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 15, 3 * WINDOW_BYTES]
    const many = [2, 8]
    for (const writes of many) {
      for (const size of borders) {
        const { ino } = await touch(meta, ROOT, `file-${writes}-${size}`)
        const places: number[] = []
        for (const start of [0, WINDOW_BYTES, 2 * WINDOW_BYTES]) {
          for (let i = 0; i < writes; i++) places.push(start + i * 10)
        }
        for (const at of places) await writeAt(meta, ino, at, 10)
        const full = await meta.getattr(ino)
        const attr = await meta.setattr(ino, { sizeBytes: size })
        t.equal(attr.sizeBytes, size)
        t.ok(attr.allocatedBytes <= Math.min(size, full.allocatedBytes))
        await meta.setattr(ino, { sizeBytes: 4 * WINDOW_BYTES })
        for (const at of places.flatMap((place) => [place, place + 9])) {
          t.equal((await seen(meta, ino, at)) !== null, at < size, `${writes} writes, cut at ${size}: ${at}`)
        }
      }
    }
  })

  claim(t, open, 'a file of many windows shrinks whole', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    for (let window = 0; window < 150; window += 2) await writeAt(meta, ino, window * WINDOW_BYTES, 10)
    const attr = await meta.setattr(ino, { sizeBytes: 3 })
    t.match(attr, { sizeBytes: 3, allocatedBytes: 3 })
    for (const window of [2, 64, 148]) t.same((await meta.extents(ino, window)).extents, [])
    t.not(await seen(meta, ino, 2), null)
  })

  claim(t, open, 'what a truncation frees of a sparse file is allocated no more', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    await meta.setattr(ino, { sizeBytes: 200 * WINDOW_BYTES })
    const hole: Extent = { fileOffset: 198 * WINDOW_BYTES + 2, lengthBytes: 3, chunk: null, chunkOffset: 0 }
    for (let window = 0; window < 200; window += 2) await writeAt(meta, ino, window * WINDOW_BYTES, 10)
    await meta.commit(ino, { extents: [hole], mode: 'at', allocatedDeltaBytes: -3, mtime: MTIME })
    t.match(await meta.getattr(ino), { allocatedBytes: 997 })
    // Written over: counted once.
    await meta.commit(ino, {
      extents: [extentOf(await meta.chunkId(), 4, 10)],
      mode: 'at',
      allocatedDeltaBytes: 4,
      mtime: MTIME,
    })
    t.match(await meta.setattr(ino, { sizeBytes: 198 * WINDOW_BYTES + 4 }), { allocatedBytes: 996 })
    t.match(await meta.setattr(ino, { sizeBytes: 100 * WINDOW_BYTES }), { allocatedBytes: 504 })
    t.match(await meta.setattr(ino, { sizeBytes: 300 * WINDOW_BYTES }), { allocatedBytes: 504 })
    t.match(await meta.setattr(ino, { sizeBytes: 98 * WINDOW_BYTES + 6 }), { allocatedBytes: 500 })
    t.match(await meta.setattr(ino, { sizeBytes: 12 }), { allocatedBytes: 12 })
    t.equal((await meta.usage()).usedBytes, 12)
  })

  claim(
    t,
    open,
    'a file has never more allocated than its windows can store, whatever writers told',
    async (t, volume) => {
      const meta = await volume.client()
      const { ino } = await touch(meta, ROOT, 'file')
      await meta.setattr(ino, { sizeBytes: 5 * WINDOW_BYTES })
      const extents = [extentOf(await meta.chunkId(), 0, 10)]
      const told = { extents, mode: 'at', allocatedDeltaBytes: 9 * WINDOW_BYTES, mtime: MTIME } as const
      t.match((await meta.commit(ino, told)).attr, { allocatedBytes: 5 * WINDOW_BYTES })
      t.match(await meta.setattr(ino, { sizeBytes: 4 * WINDOW_BYTES }), { allocatedBytes: WINDOW_BYTES })
      t.match(await meta.setattr(ino, { sizeBytes: 0 }), { allocatedBytes: 0 })
      t.equal((await meta.usage()).usedBytes, 0)
    },
  )

  claim(t, open, 'sizes out of range and types that have none are refused', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'file')
    const dir = await makeDir(meta, ROOT, 'dir')
    t.equal(await outcome(meta.setattr(ino, { sizeBytes: -1 })), 'EINVAL')
    t.equal(await outcome(meta.setattr(ino, { sizeBytes: FILE_MAX_BYTES + 1 })), 'EINVAL')
    t.equal(await outcome(meta.setattr(ino, { sizeBytes: FILE_MAX_BYTES })), 'ok')
    t.equal(await outcome(append(meta, ino, 10)), 'EFBIG', 'no byte behind the last')
    t.equal(await outcome(meta.setattr(dir.ino, { sizeBytes: 0 })), 'EISDIR')
    t.equal(await outcome(writeAt(meta, dir.ino, 0, 10)), 'EINVAL')
    t.equal(await outcome(writeAt(meta, ino + 8000, 0, 10)), 'ENOENT')
  })
}
