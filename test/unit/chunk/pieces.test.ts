import fc from 'fast-check'
import t from 'tap'
import { piecesIn, type ChunkOrigin, type ChunkOriginExtent } from '../../../src/chunk/contract.js'
import { propertyRun } from '../../helpers/property.js'

const ORDER = 1000

function packed(lengths: readonly number[], orders: readonly number[], appends?: readonly number[]): ChunkOrigin {
  let at = 0
  const extents = lengths.map((lengthBytes, index) => {
    const extent = { fileOffset: 10_000 * index, chunkOffset: at, lengthBytes }
    at += lengthBytes
    return extent
  })
  return { ino: 5, order: ORDER, extents, orders, ...(appends && { appends }) }
}

t.test('a chunk that was written at once is one piece', async (t) => {
  const extents = [{ fileOffset: 0, chunkOffset: 0, lengthBytes: 10 }]
  const piece = { chunkOffset: 3, lengthBytes: 5, order: ORDER, appended: false }
  t.strictSame(piecesIn({ ino: 5, order: ORDER, extents }, 3, 5), [piece])
  t.strictSame(piecesIn({ ino: 5, order: ORDER, extents, appended: true }, 3, 5), [{ ...piece, appended: true }])
  t.strictSame(piecesIn({ ino: 5, order: ORDER, extents: [] }, 3, 5), [piece])
})

t.test('a range of a packed chunk is cut where another write begins', async (t) => {
  const origin = packed([10, 10, 10, 10], [7, 9, 9, 8], [0, 2])
  t.strictSame(piecesIn(origin, 5, 30), [
    { chunkOffset: 5, lengthBytes: 5, order: 7, appended: true },
    { chunkOffset: 10, lengthBytes: 10, order: 9, appended: false },
    { chunkOffset: 20, lengthBytes: 10, order: 9, appended: true },
    { chunkOffset: 30, lengthBytes: 5, order: 8, appended: false },
  ])
  t.strictSame(piecesIn(packed([10, 10], [7, 7]), 0, 20), [
    { chunkOffset: 0, lengthBytes: 20, order: 7, appended: false },
  ])
})

t.test('the pieces are the range, each byte with the order of its extent', async (t) => {
  const extent = fc.record({ lengthBytes: fc.integer({ min: 1, max: 6 }), order: fc.integer({ min: 1, max: 3 }) })
  fc.assert(
    fc.property(
      fc.array(extent, { minLength: 1, maxLength: 8 }),
      fc.subarray([0, 1, 2, 3, 4, 5, 6, 7]),
      fc.nat(60),
      fc.nat(60),
      (list, some, start, length) => {
        const appends = some.filter((index) => index < list.length)
        const lengths = list.map(({ lengthBytes }) => lengthBytes)
        const orders = list.map(({ order }) => order)
        const bytes = list.flatMap(({ lengthBytes, order }, index) =>
          Array.from({ length: lengthBytes }, () => `${order} ${appends.includes(index)}`),
        )
        const from = start % bytes.length
        const count = Math.min(length + 1, bytes.length - from)
        const pieces = piecesIn(packed(lengths, orders, appends), from, count)
        const told = pieces.flatMap((piece) =>
          Array.from({ length: piece.lengthBytes }, () => `${piece.order} ${piece.appended}`),
        )
        const isJoined = pieces.every(({ chunkOffset, lengthBytes }, index) => {
          const next = pieces[index + 1]?.chunkOffset ?? from + count
          return chunkOffset + lengthBytes === next
        })
        return isJoined && pieces[0]?.chunkOffset === from && told.join() === bytes.slice(from, from + count).join()
      },
    ),
    propertyRun(t, 200),
  )
})

t.test('a header is read once, however many pieces are asked for', async (t) => {
  const count = 2048
  const origin = packed(
    Array.from({ length: count }, () => 10),
    Array.from({ length: count }, (_, index) => index),
  )
  let reads = 0
  const extents = new Proxy<readonly ChunkOriginExtent[]>(origin.extents, {
    get: (target, name, receiver) => {
      reads++
      return Reflect.get(target, name, receiver) as unknown
    },
  })
  const counted = { ...origin, extents }
  piecesIn(counted, 0, 10)
  const first = reads
  t.ok(first > 0)
  for (let index = 0; index < count; index++) {
    const piece = { chunkOffset: 10 * index, lengthBytes: 10, order: index, appended: false }
    if (JSON.stringify(piecesIn(counted, 10 * index, 10)) !== JSON.stringify([piece])) t.fail(`piece ${index}`)
  }
  t.equal(reads, first)
})

t.test('extents in any order, with holes between them and one over another', async (t) => {
  const extent = (chunkOffset: number, lengthBytes: number): ChunkOriginExtent => ({
    ...{ fileOffset: 0, chunkOffset, lengthBytes },
  })
  const origin: ChunkOrigin = {
    ...{ ino: 5, order: ORDER, orders: [1, 2, 3, 4] },
    extents: [extent(30, 10), extent(0, 20), extent(5, 5), extent(15, 10)],
  }
  const piece = (chunkOffset: number, lengthBytes: number, order: number): object => ({
    ...{ chunkOffset, lengthBytes, order, appended: false },
  })
  const all = [piece(0, 20, 2), piece(20, 5, 4), piece(25, 5, ORDER), piece(30, 10, 1), piece(40, 10, ORDER)]
  t.strictSame(piecesIn(origin, 0, 50), all)
  t.strictSame(piecesIn(origin, 7, 1), [piece(7, 1, 2)])
  t.strictSame(piecesIn(origin, 18, 4), [piece(18, 2, 2), piece(20, 2, 4)])
  t.strictSame(piecesIn(origin, 26, 2), [piece(26, 2, ORDER)])
  t.strictSame(piecesIn(origin, 45, 5), [piece(45, 5, ORDER)])
})
