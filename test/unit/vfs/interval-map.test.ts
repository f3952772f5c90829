import t from 'tap'
import fc from 'fast-check'
import { propertyRun } from '../../helpers/property.js'
import { IntervalMap } from '../../../src/vfs/interval-map.js'
import { ExtentMap, allocatedDelta } from '../../../src/vfs/extent-map.js'
import type { Extent } from '../../../src/meta/contract.js'

const SPACE = 64

interface Edit {
  readonly start: number
  readonly length: number
  /** 0 deletes. */
  readonly value: number
  readonly at: number
}

const edit = fc.record({
  start: fc.nat(SPACE - 1),
  length: fc.nat(20),
  value: fc.nat(3),
  at: fc.nat(40),
})

t.test('an interval map answers as an array of units does', async (st) => {
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 30 }), fc.nat(SPACE), fc.nat(SPACE), (edits: Edit[], from, to) => {
      const map = new IntervalMap<number>()
      const model = new Array<{ value: number; at: number } | undefined>(SPACE + 20).fill(undefined)
      for (const { start, length, value, at } of edits) {
        if (value === 0) map.delete(start, start + length)
        else map.set(start, start + length, value, at)
        for (let i = 0; i < length; i++) model[start + i] = value === 0 ? undefined : { value, at: at + i }
      }
      const seen = new Array<{ value: number; at: number } | undefined>(SPACE + 20).fill(undefined)
      let last = -1
      for (const { start, end, value, at } of map) {
        if (start < last || end <= start) throw new Error('not sorted, or empty')
        last = end
        for (let i = start; i < end; i++) seen[i] = { value, at: at + i - start }
      }
      st.strictSame(seen, model)
      const [a, b] = [Math.min(from, to), Math.max(from, to)]
      const inside = model.slice(a, b)
      const covered = inside.filter((unit) => unit !== undefined).length
      if (map.covered(a, b) !== covered) throw new Error('covered')
      const gaps = map.gaps(a, b).reduce((sum, gap) => sum + gap.end - gap.start, 0)
      if (gaps !== inside.length - covered) throw new Error('gaps')
      if (map.totalLength !== model.filter((unit) => unit !== undefined).length) throw new Error('length')
    }),
    propertyRun(st, 300),
  )
})

t.test('neighbours that continue each other become one interval', async (st) => {
  const map = new IntervalMap<string>()
  map.set(0, 10, 'a', 0)
  map.set(10, 20, 'a', 10)
  map.set(30, 40, 'a', 30)
  st.equal(map.size, 2)
  map.set(20, 30, 'b', 0)
  st.equal(map.size, 3)
})

const extents = fc.array(
  fc.record({
    fileOffset: fc.nat(SPACE - 1),
    lengthBytes: fc.integer({ min: 1, max: 20 }),
    chunk: fc.option(fc.integer({ min: 1, max: 5 }), { freq: 4, nil: null }),
    chunkOffset: fc.nat(30),
  }),
  { maxLength: 25 },
)

function toExtents(
  list: readonly { fileOffset: number; lengthBytes: number; chunk: number | null; chunkOffset: number }[],
): Extent[] {
  return list.map((extent) => ({
    ...extent,
    chunk: extent.chunk === null ? null : { id: extent.chunk, lengthBytes: 100, root: Buffer.alloc(32) },
  }))
}

/** Unit by unit: chunk and offset, or null. */
function paint(model: (string | null)[], list: readonly Extent[]): void {
  for (const { fileOffset, lengthBytes, chunk, chunkOffset } of list) {
    for (let i = 0; i < lengthBytes; i++)
      model[fileOffset + i] = chunk === null ? null : `${chunk.id}@${chunkOffset + i}`
  }
}

t.test('a flattened window shows the later extent, and holes hide what is below', async (st) => {
  fc.assert(
    fc.property(extents, extents, (before, added) => {
      const model = new Array<string | null>(SPACE + 20).fill(null)
      const map = new ExtentMap(toExtents(before))
      paint(model, toExtents(before))
      const stored = model.filter((unit) => unit !== null).length
      const delta = allocatedDelta(map, toExtents(added))
      map.add(toExtents(added))
      paint(model, toExtents(added))
      if (delta !== model.filter((unit) => unit !== null).length - stored) throw new Error('allocated delta')
      const seen: (string | null)[] = []
      for (const { start, end, chunk, chunkOffset } of map.slice(0, SPACE + 20)) {
        if (start !== seen.length) throw new Error('a gap in the slice')
        for (let i = 0; i < end - start; i++) seen.push(chunk === null ? null : `${chunk.id}@${chunkOffset + i}`)
      }
      st.strictSame(seen, model)
    }),
    propertyRun(st, 300),
  )
})
