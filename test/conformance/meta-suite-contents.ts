/** MetaStore: what the extents of a file say after writes, appends, truncations and compactions, byte for byte. */
import fc from 'fast-check'
import type { Test } from 'tap'
import { compareTime } from '../../src/base/clock.js'
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { Extent, MetaStore } from '../../src/meta/contract.js'
import { bytes, claim, extentOf, newFile, ROOT, touch, writeAt, type OpenVolume } from '../helpers/meta.js'
import { FileModel, readBack } from '../helpers/meta-file-model.js'
import { propertyRun } from '../helpers/property.js'

const TIME = { sec: 1_700_000_000, nsec: 5 }

export function contentClaims(t: Test, open: OpenVolume): void {
  claim(
    t,
    open,
    'what a caller has of a window from before a truncation is not given back to it',
    async (t, volume) => {
      const [a, b] = [await volume.client(), await volume.client()]
      const { ino } = await touch(a, ROOT, 'f')
      for (const sizeBytes of [0, WINDOW_BYTES, 7]) {
        for (const base of [0, WINDOW_BYTES]) {
          for (let at = 0; at < 5; at++) await writeAt(a, ino, base + at * 10, 10)
        }
        const have = [await b.extents(ino, 0), await b.extents(ino, 1)]
        await a.setattr(ino, { sizeBytes })
        for (const base of [0, WINDOW_BYTES]) {
          for (let at = 0; at < 6; at++) await writeAt(a, ino, base + at * 10, 10)
        }
        for (const window of [0, 1]) {
          const fresh = await b.extents(ino, window)
          t.strictSame(await b.extents(ino, window, have[window]), fresh, `window ${window}, cut to ${sizeBytes}`)
        }
      }
    },
  )

  claim(t, open, 'windows are apart: data at their borders', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    const places = [0, WINDOW_BYTES - 10, WINDOW_BYTES, 2 * WINDOW_BYTES - 10, 5 * WINDOW_BYTES, 2 ** 40 - 10]
    const made: Extent[] = []
    for (const offset of places) made.push(await writeAt(meta, ino, offset, 10))
    t.equal((await meta.getattr(ino)).sizeBytes, 2 ** 40)
    const read: Extent[] = []
    for (const window of [0, 1, 5, 2 ** 40 / WINDOW_BYTES - 1]) read.push(...(await meta.extents(ino, window)).extents)
    t.strictSame(read, made)
    t.strictSame((await meta.extents(ino, 3)).extents, [])
    await meta.setattr(ino, { sizeBytes: WINDOW_BYTES })
    t.strictSame((await meta.extents(ino, 0)).extents, made.slice(0, 2))
    await meta.setattr(ino, { sizeBytes: 2 ** 40 })
    for (const window of [1, 5, 2 ** 40 / WINDOW_BYTES - 1]) {
      t.strictSame((await meta.extents(ino, window)).extents, [], `window ${window} was cut off`)
    }
  })

  claim(t, open, 'appends of several clients at once stay whole and apart', async (t, volume) => {
    const clients = await Promise.all([0, 1, 2, 3].map(() => volume.client()))
    const [first] = clients
    if (first === undefined) throw new Error('there are clients')
    const { ino } = await touch(first, ROOT, 'log')
    await first.setattr(ino, { sizeBytes: 7 })
    const placed: { base: number; length: number; id: number }[] = []
    await Promise.all(
      clients.flatMap((meta, who) =>
        [0, 1, 2].map(async (lane) => {
          for (let at = 0; at < 15; at++) {
            const length = 100 + who * 10 + lane
            const id = await meta.chunkId()
            const reply = await append(meta, ino, id, length)
            placed.push({ base: reply.baseOffset, length, id })
          }
        }),
      ),
    )
    placed.sort((a, b) => a.base - b.base)
    let end = 7
    for (const { base, length } of placed) {
      t.equal(base, end)
      end = base + length
    }
    t.match(await first.getattr(ino), { sizeBytes: end, allocatedBytes: end - 7 })
    const { extents } = await first.extents(ino, 0)
    t.strictSame(
      extents.map(({ fileOffset, lengthBytes, chunk }) => ({ base: fileOffset, length: lengthBytes, id: chunk?.id })),
      placed,
    )
  })

  claim(t, open, 'a commit sets mtime, clears set-uid when asked, and grows to the least size', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f', newFile({ mode: 0o6755 }))
    const request = { extents: [], mode: 'at', allocatedDeltaBytes: 0, mtime: TIME } as const
    t.match((await meta.commit(ino, { ...request, minSizeBytes: 500 })).attr, {
      sizeBytes: 500,
      mode: 0o6755,
      mtime: TIME,
    })
    t.match((await meta.commit(ino, { ...request, minSizeBytes: 5 })).attr, { sizeBytes: 500 })
    t.match((await meta.commit(ino, { ...request, clearSuid: true })).attr, { mode: 0o755 })
  })

  claim(
    t,
    open,
    'bytes that waited, and come behind others that are younger, count as written now',
    async (t, volume) => {
      const [a, b] = [await volume.client(), await volume.client()]
      const { ino, mtime: before } = await touch(a, ROOT, 'f')
      const empty = { extents: [], mode: 'at', allocatedDeltaBytes: 0 } as const
      const pieces = [{ fileOffset: 0, bytes: bytes('x') }]
      const ways = [
        () => a.commitInline(ino, { ...empty, pieces, mtime: before, neverBack: true }),
        () => a.commit(ino, { ...empty, mtime: before, neverBack: true }),
      ]
      for (const commit of ways) {
        const last = (await b.getattr(ino)).mtime
        const { attr: others } = await b.commit(ino, { ...empty, mtime: { ...last, nsec: last.nsec + 1 } })
        const attr = (await commit())?.attr
        t.ok(attr && compareTime(attr.mtime, others.mtime) > 0, 'the time did not go back')
        t.same(attr?.ctime, attr?.mtime)
        t.same(attr, await b.getattr(ino))
      }
      const ahead = { sec: before.sec + 1_000_000, nsec: 0 }
      for (const commit of ways.slice(1)) {
        await b.setattr(ino, { mtime: ahead })
        t.same((await commit())?.attr.mtime, before, 'a time that was set ahead is not that of a write')
      }
      t.same((await a.commit(ino, { ...empty, mtime: TIME })).attr.mtime, TIME, 'else it is as told')
    },
  )

  claim(t, open, 'a hole hides what is below it', async (t, volume) => {
    const meta = await volume.client()
    const { ino } = await touch(meta, ROOT, 'f')
    const { chunk } = await writeAt(meta, ino, 0, 100)
    const hole: Extent = { fileOffset: 20, lengthBytes: 30, chunk: null, chunkOffset: 0 }
    await meta.commit(ino, { extents: [hole], mode: 'at', allocatedDeltaBytes: -30, mtime: TIME })
    t.match(await meta.getattr(ino), { sizeBytes: 100, allocatedBytes: 70 })
    const read = await readBack(meta, ino, 0, 100)
    t.strictSame(
      read,
      Array.from({ length: 100 }, (_, at) => (at >= 20 && at < 50 ? 0 : (chunk?.id ?? 0) * 1024 + at)),
    )
  })

  claim(
    t,
    open,
    'random writes, holes, appends, truncations and compactions read back as a byte array says',
    async (t, volume) => {
      const [a, b] = [await volume.client(), await volume.client()]
      let files = 0
      // Offsets around the border of two windows and around 0.
      const offset = fc.oneof(
        fc.integer({ min: 0, max: 60 }),
        fc.integer({ min: WINDOW_BYTES - 30, max: WINDOW_BYTES + 60 }),
      )
      const op = fc.record({
        kind: fc.constantFrom('write', 'write', 'write', 'hole', 'append', 'truncate', 'truncate', 'punch', 'compact'),
        offset,
        length: fc.integer({ min: 1, max: 40 }),
        who: fc.constantFrom(0, 1),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(op, { maxLength: 14 }), async (ops) => {
          const { ino } = await touch(a, ROOT, `f${files++}`)
          const model = new FileModel(ino)
          for (const { kind, offset, length, who } of ops) {
            const meta = who === 0 ? a : b
            if (kind === 'write') await model.write(meta, offset, length)
            else if (kind === 'hole') await model.hole(meta, offset, length)
            else if (kind === 'append') await model.append(meta, length)
            else if (kind === 'truncate') await model.truncate(meta, offset)
            else if (kind === 'punch') await model.punch(meta, offset, length)
            else await model.compact(meta, offset < 100 ? 0 : 1)
            await model.check(who === 0 ? b : a)
          }
          const [{ usedBytes }, { allocatedBytes }] = [await a.usage(), await a.getattr(ino)]
          if (usedBytes !== allocatedBytes) throw new Error(`the volume has ${usedBytes}, its file ${allocatedBytes}`)
          await a.unlink(ROOT, bytes(`f${files - 1}`))
        }),
        propertyRun(t, 30),
      )
      t.equal((await a.usage()).usedBytes, 0)
    },
  )

  claim(t, open, 'every chunk that no file uses any more is given to the janitor, and no other', async (t, volume) => {
    const meta = await volume.client()
    const made: number[] = []
    const write = async (ino: number, offset: number): Promise<void> => {
      made.push((await writeAt(meta, ino, offset, 10)).chunk?.id ?? 0)
    }
    for (const count of [1, 2, 3, 8]) {
      const { ino } = await touch(meta, ROOT, `f${count}`)
      for (const base of [0, WINDOW_BYTES, 3 * WINDOW_BYTES]) {
        for (let at = 0; at < count; at++) await write(ino, base + at * 10)
      }
      await meta.setattr(ino, { sizeBytes: count === 2 ? 0 : WINDOW_BYTES })
      await write(ino, 2 * WINDOW_BYTES)
      if (count !== 8) await meta.unlink(ROOT, bytes(`f${count}`))
    }
    const kept = await meta.lookup(ROOT, bytes('f8'))
    const live = [0, 1, 2, 3].map((window) => meta.extents(kept.ino, window))
    const used = (await Promise.all(live)).flatMap((window) => window.extents.map((extent) => extent.chunk?.id ?? 0))
    const removed: number[] = []
    for (let round = 0; round < 3; round++) {
      await meta.collectGarbage((ids) => {
        removed.push(...ids)
        return Promise.resolve()
      }, 0)
    }
    t.strictSame([...removed, ...used].sort(byNumber), made.sort(byNumber))
  })
}

const byNumber = (a: number, b: number): number => a - b

function append(meta: MetaStore, ino: number, id: number, length: number): ReturnType<MetaStore['commit']> {
  return meta.commit(ino, {
    extents: [extentOf(id, 0, length)],
    mode: 'append',
    allocatedDeltaBytes: length,
    mtime: TIME,
  })
}
