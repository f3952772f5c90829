import fc from 'fast-check'
import t from 'tap'
import { WINDOW_BYTES } from '../../../src/base/limits.js'
import { EXTENT_BYTES, type Extent } from '../../../src/meta/contract.js'
import { nameHash } from '../../../src/meta/name-hash.js'
import {
  INODE_HEAD_BYTES,
  decodeDirent,
  decodeExtents,
  decodeInode,
  encodeExtents,
  readU56,
  writeU56,
} from '../../../src/meta/records.js'

const extentIn = (window: number): fc.Arbitrary<Extent> =>
  fc
    .tuple(
      fc.integer({ min: 0, max: WINDOW_BYTES - 1 }),
      fc.integer({ min: 1, max: 4 * 1024 * 1024 }),
      fc.option(fc.maxSafeNat(), { nil: null }),
      fc.nat(2 ** 22 - 1),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
    )
    .map(([offset, length, id, chunkOffset, root]) => ({
      fileOffset: window * WINDOW_BYTES + offset,
      lengthBytes: Math.min(length, WINDOW_BYTES - offset, id === null || id === 0 ? length : 2 ** 22 - chunkOffset),
      chunkOffset: id === null || id === 0 ? 0 : chunkOffset,
      chunk: id === null || id === 0 ? null : { id, lengthBytes: 2 ** 22, root: Buffer.from(root) },
    }))

t.test('extents come back as they were written, up to the last window of the largest file', (t) => {
  const windows = fc.integer({ min: 0, max: Math.floor(Number.MAX_SAFE_INTEGER / WINDOW_BYTES) - 1 })
  fc.assert(
    fc.property(
      windows.chain((window) => fc.tuple(fc.constant(window), fc.array(extentIn(window), { maxLength: 5 }))),
      ([window, extents]) => {
        const blob = encodeExtents(extents, window)
        return blob.length === extents.length * EXTENT_BYTES && t.matchOnly(decodeExtents(blob, window), extents)
      },
    ),
    { numRuns: 50 },
  )
  t.end()
})

t.test('56-bit numbers are exact up to 2^53 - 1', (t) => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const buffer = Buffer.alloc(7)
      writeU56(buffer, value, 0)
      return readU56(buffer, 0) === value
    }),
  )
  t.end()
})

t.test('a record that is too short or of another version is EIO, never garbage', (t) => {
  const record = Buffer.alloc(INODE_HEAD_BYTES)
  t.throws(() => decodeInode(5, record), { code: 'EIO' })
  record[0] = 1
  t.equal(decodeInode(5, record).attr.ino, 5)
  t.throws(() => decodeInode(5, record.subarray(1)), { code: 'EIO' })
  record[1] = 0x0f
  t.throws(() => decodeInode(5, record), { code: 'EIO' })
  t.throws(() => decodeExtents(Buffer.alloc(EXTENT_BYTES + 1), 0), { code: 'EIO' })
  t.end()
})

t.test('extents that nobody can have written are EIO, and never read or freed as something else', (t) => {
  const chunk = { id: 7, lengthBytes: 1_000, root: Buffer.alloc(32) }
  const good = encodeExtents([{ fileOffset: 0, lengthBytes: 600, chunkOffset: 400, chunk }], 0)
  t.equal(decodeExtents(good, 0).length, 1)
  const bad: readonly (readonly [string, (blob: Buffer) => void])[] = [
    ['empty', (blob) => blob.writeUInt32LE(0, 4)],
    ['beyond its chunk', (blob) => blob.writeUInt32LE(601, 4)],
    ['begins beyond its chunk', (blob) => blob.writeUIntLE(1_000, 15, 3)],
    ['beyond its window', (blob) => blob.writeUInt32LE(WINDOW_BYTES - 599, 0)],
    ['of a chunk longer than any', (blob) => blob.writeUIntLE(2 ** 22 + 1, 18, 3)],
    ['of a chunk with a number above 2^53', (blob) => blob.fill(0xff, 8, 15)],
  ]
  for (const [what, spoil] of bad) {
    const blob = Buffer.from(good)
    spoil(blob)
    t.throws(() => decodeExtents(blob, 0), { code: 'EIO' }, what)
  }
  t.end()
})

t.test('a directory entry keeps a name of any bytes', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 255 }), fc.integer({ min: 1, max: 1e14 }), (bytes, ino) => {
      const tail = Buffer.alloc(9)
      writeU56(tail, ino, 1)
      tail[8] = 2
      const entry = decodeDirent(Buffer.concat([bytes, tail]))
      return entry.ino === ino && entry.type === 'symlink' && Buffer.compare(entry.name, bytes) === 0
    }),
  )
  t.end()
})

t.test('name hashes are below 2^52, depend on the bytes only, and spread', (t) => {
  const seen = new Set<number>()
  for (let i = 0; i < 100_000; i++) {
    const hash = nameHash(Buffer.from(`file${i}`))
    if (!Number.isSafeInteger(hash) || hash < 0 || hash >= 2 ** 52) t.fail(`hash of file${i} is ${hash}`)
    seen.add(hash)
  }
  t.ok(seen.size >= 99_999, 'about no collisions among similar names')
  // Fixed for ever: the hash is part of the format.
  t.equal(nameHash(Buffer.from('hello')), 4021110840605052)
  t.end()
})
