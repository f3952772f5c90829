/** What headers of chunks tell of a file: against a buffer that was written in the same order. */
import t from 'tap'
import fc from 'fast-check'
import { MIB, WINDOW_BYTES } from '../../../src/base/limits.js'
import { layoutOf, type FileLayout, type FoundChunk } from '../../../src/check/rebuild/layout.js'
import { BandedSpans, Spans, type Span } from '../../../src/check/rebuild/spans.js'
import type { Extent } from '../../../src/meta/contract.js'

interface Piece {
  readonly at: number
  readonly length: number
}

const chunk = (id: number, order: number, pieces: readonly Piece[], change: Partial<FoundChunk> = {}): FoundChunk => {
  let chunkOffset = 0
  const extents = pieces.map(({ at, length }) => {
    const extent = { fileOffset: at, chunkOffset, lengthBytes: length }
    chunkOffset += length
    return extent
  })
  const header = { lengthBytes: chunkOffset, root: Buffer.alloc(32, id), origin: { ino: 9, order, extents } }
  return { id, header, named: null, ...change }
}

const appended = (id: number, order: number, at: number, length: number): FoundChunk => {
  const one = chunk(id, order, [{ at, length }])
  return { ...one, header: { ...one.header, origin: { ...one.header.origin, appended: true } } }
}

/** Which chunk's which byte a reader sees at each offset. */
function painted(extents: readonly Extent[], length: number): string[] {
  const bytes = Array.from({ length }, () => '.')
  for (const { fileOffset, lengthBytes, chunkOffset, chunk: ref } of extents) {
    for (let at = 0; at < lengthBytes; at++) bytes[fileOffset + at] = `${ref?.id}:${chunkOffset + at}`
  }
  return bytes
}

const all = ({ windows }: FileLayout): Extent[] => windows.flatMap(({ hidden, seen }) => [...hidden, ...seen])
const seen = ({ windows }: FileLayout): Extent[] => windows.flatMap((window) => window.seen)

t.test('spans answer what is new, whatever came before', async (t) => {
  const range = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 30 }))
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), (ranges) => {
      const spans = new Spans()
      const model = new Set<number>()
      for (const [start, length] of ranges) {
        const fresh = new Set<number>()
        for (const span of spans.add(start, start + length))
          for (let at = span.start; at < span.end; at++) fresh.add(at)
        const expected = Array.from({ length }, (_, at) => start + at).filter((at) => !model.has(at))
        if ([...fresh].join() !== expected.join()) return false
        for (const at of expected) model.add(at)
      }
      const gaps = spans.gaps().flatMap(({ start, end }) => Array.from({ length: end - start }, (_, at) => start + at))
      const end = Math.max(0, ...[...model].map((at) => at + 1))
      return gaps.join() === [...Array(end).keys()].filter((at) => !model.has(at)).join()
    }),
  )
  t.pass('every run')
})

t.test('spans in bands are the same as without', async (t) => {
  const range = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 30 }))
  const bytesOf = (spans: readonly Span[]): string =>
    spans.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, at) => start + at)).join()
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), fc.integer({ min: 1, max: 40 }), (ranges, bandBytes) => {
      const bands = new BandedSpans(bandBytes)
      const spans = new Spans()
      const isSame = ranges.every(
        ([start, length]) => bytesOf(bands.add(start, start + length)) === bytesOf(spans.add(start, start + length)),
      )
      return isSame && JSON.stringify(bands.joined().all) === JSON.stringify(spans.all)
    }),
  )
  t.pass('every run')
})

t.test('what was written later wins, whatever order the chunks come in', async (t) => {
  const pieces = fc.array(fc.record({ at: fc.nat(80), length: fc.integer({ min: 1, max: 25 }) }), {
    minLength: 1,
    maxLength: 3,
  })
  fc.assert(
    fc.property(fc.array(pieces, { minLength: 1, maxLength: 12 }), fc.nat(), (writes, salt) => {
      // Of one chunk no two pieces overlap.
      const chunks = writes.map((list, at) => chunk(at + 1, at + 1, disjoint(list)))
      const shuffled = [...chunks].sort((a, b) => ((a.id * 7919 + salt) % 31) - ((b.id * 7919 + salt) % 31))
      const expected = painted(chunks.flatMap(extentsOf), 200)
      const layout = layoutOf(shuffled)
      const shown = painted(all(layout), 200)
      const size = expected.findLastIndex((one) => one !== '.') + 1
      return (
        shown.join() === expected.join() &&
        painted(seen(layout), 200).join() === expected.join() &&
        layout.sizeBytes === size &&
        layout.seenBytes === expected.filter((one) => one !== '.').length
      )
    }),
    { numRuns: 300 },
  )
  t.pass('every run')
})

function disjoint(list: readonly Piece[]): Piece[] {
  let end = 0
  return [...list]
    .sort((a, b) => a.at - b.at)
    .map(({ at, length }) => {
      const piece = { at: Math.max(at, end), length }
      end = piece.at + length
      return piece
    })
}

function extentsOf({ id, header }: FoundChunk): Extent[] {
  const { lengthBytes, root, origin } = header
  return origin.extents.map((extent) => ({ ...extent, chunk: { id, lengthBytes, root } }))
}

t.test('of chunks that a file names only what lies over them is restored', async (t) => {
  const named = (id: number, order: number, at: number, length: number): FoundChunk => {
    const one = chunk(id, order, [{ at, length }])
    return { ...one, named: one.header.origin.extents }
  }
  const layout = layoutOf([
    named(1, 1, 0, 100),
    chunk(2, 2, [{ at: 50, length: 100 }]),
    named(3, 3, 60, 10),
    chunk(4, 0, [{ at: 10, length: 5 }]),
  ])
  t.strictSame(
    seen(layout).map(({ fileOffset, lengthBytes, chunkOffset }) => [fileOffset, lengthBytes, chunkOffset]),
    [
      [50, 10, 0],
      [70, 80, 20],
    ],
  )
  t.equal(layout.seenBytes, 90)
  t.equal(layout.sizeBytes, 150)
})

t.test(
  'appended data stay where their writer took the end to be, and never lie over other appended data',
  async (t) => {
    const right = layoutOf([appended(1, 1, 0, 10), appended(2, 2, 10, 10), appended(3, 3, 20, 10)])
    t.strictSame(
      seen(right).map(({ fileOffset }) => fileOffset),
      [0, 10, 20],
    )
    t.equal(right.moved, 0)
    const crowd = layoutOf([appended(1, 1, 0, 10), appended(2, 3, 0, 10), appended(3, 2, 0, 10)])
    t.strictSame(
      seen(crowd).map(({ fileOffset, chunk: ref }) => [fileOffset, ref?.id]),
      [
        [0, 1],
        [10, 3],
        [20, 2],
      ],
    )
    t.equal(crowd.moved, 2)
  },
)

t.test('a chunk is laid into one window only, and what cannot have been written is left out', async (t) => {
  const border = layoutOf([appended(1, 1, WINDOW_BYTES - 10, 20)])
  t.strictSame(
    seen(border).map(({ fileOffset, lengthBytes }) => [fileOffset, lengthBytes]),
    [[WINDOW_BYTES, 20]],
  )
  const nonsense = layoutOf([chunk(1, 1, [{ at: WINDOW_BYTES - 10, length: 20 }]), chunk(2, 2, [])])
  t.strictSame(nonsense.senseless, [1, 2])
  t.strictSame(nonsense.windows, [])
})

t.test('a long file is laid out in reasonable time, with its gaps', async (t) => {
  const chunks = Array.from({ length: 20_000 }, (_, at) =>
    chunk(at + 1, at + 1, [{ at: at * 4 * MIB, length: 4 * MIB }]),
  )
  const layout = layoutOf(chunks.filter(({ id }) => id % 1000 !== 5))
  t.equal(layout.gaps.length, 20)
  t.equal(layout.sizeBytes, 20_000 * 4 * MIB)
})
