import fc from 'fast-check'
import t from 'tap'
import { hash, randomBytes } from 'node:crypto'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { CHUNK_MAX_BYTES, HASH_BYTES, LEAF_BYTES } from '../../../src/base/limits.js'
import { ORIGIN_EXTENTS_MAX, ORIGIN_ORDERS_MAX, type ChunkOrigin } from '../../../src/chunk/contract.js'
import {
  PREFIX_MAX_BYTES,
  dataOffsetOf,
  decodePrefix,
  encodePrefix,
  leafCount,
  CHUNK_FORMAT_PACKED,
  CHUNK_FORMAT_VERSION,
  prefixBytesOf,
  type ChunkHeader,
} from '../../../src/chunk/format.js'
import { firstBadLeaf, leafHashes, rootOf } from '../../../src/chunk/hash.js'
import { VOLUME } from '../../helpers/chunks.js'

const u53 = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })

/** A header that holds together, with a leaf table that belongs to it. */
const headers = fc
  .record({
    id: u53,
    lengthBytes: fc.oneof(fc.integer({ min: 1, max: CHUNK_MAX_BYTES }), fc.constantFrom(1, LEAF_BYTES, LEAF_BYTES + 1)),
    ino: u53,
    order: u53,
    kind: fc.constantFrom('plain', 'appended', 'packed'),
    orders: fc.array(u53, { minLength: 50, maxLength: 50 }),
    appends: fc.subarray(Array.from({ length: 50 }, (_, index) => index)),
    extents: fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(2 ** 40)), { maxLength: 50 }),
  })
  .map(({ id, lengthBytes, ino, order, kind, orders, appends, extents }) => {
    const leaves = Buffer.alloc(leafCount(lengthBytes) * HASH_BYTES, id % 251)
    const header: ChunkHeader = {
      volume: VOLUME,
      id,
      lengthBytes,
      root: rootOf(leaves),
      origin: {
        ino,
        order,
        extents: extents.map(([share, fileOffset]) => {
          const chunkOffset = Math.min(lengthBytes - 1, Math.floor(share * lengthBytes))
          return { fileOffset, chunkOffset, lengthBytes: lengthBytes - chunkOffset }
        }),
        ...(kind === 'appended' ? { appended: true } : {}),
        ...(kind === 'packed' ? ordersOf(extents.length, orders, appends) : {}),
      },
    }
    return { header, leaves }
  })

function ordersOf(count: number, orders: readonly number[], appends: readonly number[]): Partial<ChunkOrigin> {
  if (count === 0) return {}
  const some = appends.filter((index) => index < count)
  return { orders: orders.slice(0, count), ...(some.length > 0 ? { appends: some } : {}) }
}

function codeOf(work: () => unknown): string {
  try {
    work()
    return 'no error'
  } catch (error) {
    return error instanceof RingfsError || error instanceof PosixError ? error.code : `unexpected: ${String(error)}`
  }
}

t.test('what is encoded is decoded, whatever the fields', async (t) => {
  fc.assert(
    fc.property(headers, ({ header, leaves }) => {
      const bytes = encodePrefix(header, leaves)
      const prefix = decodePrefix(Buffer.concat([bytes, Buffer.from('the data begins here')]))
      t.strictSame(prefix.header, header)
      t.ok(prefix.leaves.equals(leaves))
      t.equal(prefix.dataOffset, bytes.length)
      t.equal(prefixBytesOf(bytes), bytes.length)
      t.equal(bytes.buffer.byteLength, bytes.length, 'it has its ArrayBuffer for itself')
    }),
    { numRuns: 60 },
  )
})

t.test('a chunk of one leaf is packed, a longer one has its data on a page boundary', async (t) => {
  t.ok(dataOffsetOf(1, 4096) < 256)
  for (const extents of [0, 1, 200, ORIGIN_EXTENTS_MAX]) {
    t.equal(dataOffsetOf(extents, LEAF_BYTES + 1) % 4096, 0)
    t.ok(dataOffsetOf(extents, CHUNK_MAX_BYTES) <= PREFIX_MAX_BYTES)
  }
  t.ok(dataOffsetOf(ORIGIN_ORDERS_MAX, CHUNK_MAX_BYTES, true) <= PREFIX_MAX_BYTES)
})

t.test('a flipped bit anywhere before the padding is refused', async (t) => {
  const leaves = leafHashes([randomBytes(LEAF_BYTES * 2)])
  const plain = { ino: 7, order: 9, extents: [{ fileOffset: 5, chunkOffset: 0, lengthBytes: 10 }] }
  for (const origin of [plain, { ...plain, orders: [8], appends: [0] }]) {
    const header = { volume: VOLUME, id: 1, lengthBytes: LEAF_BYTES * 2, root: rootOf(leaves), origin }
    const good = encodePrefix(header, leaves)
    const meaningful = good.readUInt32LE(12) + leaves.length
    for (let bit = 0; bit < meaningful * 8; bit += 3) {
      const bad = Buffer.from(good)
      bad.writeUInt8(bad.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      const code = codeOf(() => decodePrefix(bad))
      // A version above ours is said to be newer, not broken.
      if (code !== 'CHUNK_CORRUPT' && code !== 'VOLUME_NEWER') t.fail(`bit ${bit}: ${code}`)
    }
  }
})

t.test('any bytes at all, and any cut of a good prefix, are refused and never crash', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 600 }),
      (bytes) => codeOf(() => decodePrefix(Buffer.from(bytes))) === 'CHUNK_CORRUPT',
    ),
  )
  fc.assert(
    fc.property(headers, fc.nat(), ({ header, leaves }, cut) => {
      const good = encodePrefix(header, leaves)
      return codeOf(() => decodePrefix(good.subarray(0, cut % good.length))) === 'CHUNK_CORRUPT'
    }),
    { numRuns: 60 },
  )
  t.pass()
})

t.test('headers with fields out of bounds and a right checksum are refused', async (t) => {
  const { createHash } = await import('node:crypto')
  fc.assert(
    fc.property(headers, fc.nat(95), fc.nat(255), ({ header, leaves }, at, value) => {
      const bytes = encodePrefix(header, leaves)
      const checked = bytes.readUInt32LE(12) - HASH_BYTES
      bytes.writeUInt8(value, at)
      createHash('sha256').update(bytes.subarray(0, checked)).digest().copy(bytes, checked)
      const code = codeOf(() => decodePrefix(bytes))
      return ['no error', 'CHUNK_CORRUPT', 'VOLUME_NEWER'].includes(code)
    }),
    { numRuns: 300 },
  )
  t.pass()
})

t.test('another format than ours is named so, and is no bad copy; any bit that flips makes one', async (t) => {
  const leaves = leafHashes([Buffer.from('x')])
  const header = {
    volume: VOLUME,
    id: 1,
    lengthBytes: 1,
    root: rootOf(leaves),
    origin: { ino: 1, order: 1, extents: [] },
  }
  const good = encodePrefix(header, leaves)
  const headerBytes = good.readUInt32LE(12)
  for (const version of [CHUNK_FORMAT_VERSION - 1, CHUNK_FORMAT_PACKED + 1]) {
    const bytes = Buffer.from(good)
    bytes.writeUInt32LE(version, 8)
    hash('sha256', bytes.subarray(0, headerBytes - 32), 'buffer').copy(bytes, headerBytes - 32)
    t.equal(
      codeOf(() => decodePrefix(bytes)),
      'VOLUME_NEWER',
    )
  }
  const told = new Set<string>()
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bytes = Buffer.from(good)
    bytes[bit >> 3]! ^= 1 << (bit & 7)
    told.add(codeOf(() => decodePrefix(bytes)))
  }
  t.strictSame([...told], ['CHUNK_CORRUPT'])
})

t.test('a header that does not hold together is not written', async (t) => {
  const leaves = leafHashes([Buffer.from('four')])
  const good: ChunkHeader = {
    volume: VOLUME,
    id: 1,
    lengthBytes: 4,
    root: rootOf(leaves),
    origin: { ino: 1, order: 1, extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes: 4 }] },
  }
  const extent = (change: object) => ({
    ...good,
    origin: { ...good.origin, extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes: 4, ...change }] },
  })
  const byte = { fileOffset: 0, chunkOffset: 0, lengthBytes: 1 }
  const packed = (change: Partial<ChunkOrigin>) => ({
    ...good,
    origin: { ...good.origin, extents: [byte, byte], ...change },
  })
  const many = (count: number) => ({
    extents: Array.from({ length: count }, () => byte),
    orders: Array.from({ length: count }, (_, index) => index),
  })
  const bad: ChunkHeader[] = [
    { ...good, volume: 'no uuid' },
    { ...good, id: -1 },
    { ...good, id: 1.5 },
    { ...good, id: Number.NaN },
    { ...good, lengthBytes: 0 },
    { ...good, lengthBytes: CHUNK_MAX_BYTES + 1 },
    { ...good, root: Buffer.alloc(31) },
    { ...good, origin: { ...good.origin, ino: -1 } },
    { ...good, origin: { ...good.origin, order: 2 ** 53 } },
    {
      ...good,
      origin: {
        ...good.origin,
        extents: Array.from({ length: ORIGIN_EXTENTS_MAX + 1 }, () => ({
          fileOffset: 0,
          chunkOffset: 0,
          lengthBytes: 1,
        })),
      },
    },
    extent({ lengthBytes: 0 }),
    extent({ lengthBytes: 5 }),
    extent({ chunkOffset: 1 }),
    extent({ chunkOffset: -1 }),
    extent({ fileOffset: -1 }),
    extent({ fileOffset: Number.MAX_SAFE_INTEGER }),
    packed({ orders: [] }),
    packed({ orders: [1] }),
    packed({ orders: [1, 2, 3] }),
    packed({ orders: [1, 2 ** 53] }),
    packed({ orders: [1, 2], appended: true }),
    packed({ appends: [0] }),
    packed({ orders: [1, 2], appends: [2] }),
    packed({ orders: [1, 2], appends: [1, 0] }),
    packed({ orders: [1, 2], appends: [1, 1] }),
    packed({ orders: [1, 2], appends: [-1] }),
    packed(many(ORIGIN_ORDERS_MAX + 1)),
    { ...good, origin: { ...good.origin, extents: [], orders: [] } },
  ]
  t.ok(encodePrefix(packed({ orders: [2, 1], appends: [0, 1] }), leaves))
  t.ok(encodePrefix(packed(many(ORIGIN_ORDERS_MAX)), leaves))
  for (const header of bad)
    t.equal(
      codeOf(() => encodePrefix(header, leaves)),
      'EINVAL',
    )
  t.equal(
    codeOf(() => encodePrefix(good, leaves.subarray(1))),
    'EINVAL',
  )
})

t.test('leaf hashes do not depend on how the data is cut into pieces', async (t) => {
  const data = randomBytes(LEAF_BYTES * 3 + 17)
  const whole = leafHashes([data])
  t.equal(whole.length, 4 * HASH_BYTES)
  fc.assert(
    fc.property(fc.array(fc.nat(data.length), { maxLength: 10 }), (cuts) => {
      const sorted = [0, ...cuts.sort((a, b) => a - b), data.length]
      const pieces = sorted.slice(1).map((end, index) => data.subarray(sorted[index], end))
      return leafHashes(pieces).equals(whole)
    }),
  )
  t.equal(firstBadLeaf([data.subarray(LEAF_BYTES)], whole, 1), -1)
  t.equal(firstBadLeaf([data.subarray(LEAF_BYTES)], whole, 0), 0)
  t.equal(firstBadLeaf([data, Buffer.alloc(LEAF_BYTES)], whole, 0), 3, 'data beyond the table does not match')
})
