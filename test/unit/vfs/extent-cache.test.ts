/** How long the maps of a file's extents, and the bytes of small files, are kept. */
import t from 'tap'
import type { Attr } from '../../../src/meta/contract.js'
import { ExtentCache } from '../../../src/vfs/extent-cache.js'
import { Freshness } from '../../../src/vfs/freshness.js'
import { MemoryVolume } from '../../helpers/memory-meta.js'

const PIECES_MAX = 100
const KIB = 1024
const ZERO = { sec: 0, nsec: 0 }

function attrOf(ino: number, dataVersion: number, sizeBytes = 0): Attr {
  const times = { atime: ZERO, mtime: ZERO, ctime: ZERO, btime: ZERO }
  const what = { type: 'file', mode: 0o644, uid: 0, gid: 0, nlink: 1, allocatedBytes: 0, rdev: 0, parent: 0 } as const
  return { ino, dataVersion, sizeBytes, ...what, ...times, hasXattrs: false, hasExtents: false, hasBody: true }
}

function cacheOf(maxPieces = PIECES_MAX) {
  const fresh = new Freshness(
    { hears: () => true, partitionOf: () => 0 },
    { begin: () => undefined, end: () => undefined },
  )
  const cache = new ExtentCache(new MemoryVolume().open(), fresh, 100_000, maxPieces, () => undefined)
  /** The file is new, and its first bytes are committed. */
  const make = (ino: number, bytes: Buffer): void => {
    cache.atVersion(attrOf(ino, 1), fresh.mark())
    cache.committedInline(attrOf(ino, 2, bytes.length), [{ fileOffset: 0, lengthBytes: bytes.length, bytes }], true)
  }
  const write = (ino: number, version: number, fileOffset: number, bytes: Buffer): void => {
    const piece = { fileOffset, lengthBytes: bytes.length, bytes }
    cache.committedInline(attrOf(ino, version, fileOffset + bytes.length), [piece], true)
  }
  return { cache, fresh, make, write }
}

t.test('a small file that is written over again and again costs the others nothing', async (t) => {
  const { cache, make, write } = cacheOf(1_000_000)
  make(1, Buffer.from('kept'))
  make(2, Buffer.alloc(KIB))
  for (let version = 3; version < 40_000; version++) write(2, version, 0, Buffer.alloc(KIB, version))
  t.ok(cache.peek(1, 0))
  t.equal(cache.peek(2, 0)?.slice(0, 1)[0]?.bytes?.[0], 39_999 % 256)
})

t.test('nor do files that are gone, or pieces that were written over', async (t) => {
  const { cache, make, write } = cacheOf()
  make(1, Buffer.from('kept'))
  for (let ino = 2; ino < 1_000; ino++) {
    make(ino, Buffer.alloc(10))
    cache.drop(ino)
  }
  make(2, Buffer.alloc(10))
  for (let version = 3; version < 1_000; version++) write(2, version, 0, Buffer.alloc(10, version))
  t.ok(cache.peek(1, 0))
})

t.test('what is really kept is bounded, in pieces and in bytes: what was used longest ago goes', async (t) => {
  const kept = (cache: ExtentCache, most: number): number[] => {
    const inos = Array.from({ length: most }, (_, i) => i + 1)
    return inos.filter((ino) => cache.peek(ino, 0) !== undefined)
  }
  const { cache, make } = cacheOf()
  for (let ino = 1; ino <= PIECES_MAX; ino++) make(ino, Buffer.from('x'))
  t.equal(kept(cache, PIECES_MAX).length, PIECES_MAX)
  cache.peek(3, 0)
  make(PIECES_MAX + 1, Buffer.from('x'))
  const left = kept(cache, PIECES_MAX + 1)
  t.equal(left.length, 75, 'too many pieces')
  t.same(left.slice(0, 2), [3, 28])
  for (let ino = PIECES_MAX + 2; ino < 10 * PIECES_MAX; ino++) {
    make(ino, Buffer.from('x'))
    if (cache.peek(ino - 20, 0) === undefined) t.fail(`${ino - 20} is gone, which was just made`)
  }
  const { cache: large, make: makeLarge } = cacheOf(1_000_000)
  for (let ino = 1; ino <= 33; ino++) makeLarge(ino, Buffer.alloc(KIB * KIB))
  // Each takes some KiB more: the 32nd was one too many.
  const newest = Array.from({ length: 24 }, (_, i) => i + 10)
  t.same(kept(large, 33), newest, 'too many bytes')
  makeLarge(34, Buffer.alloc(40 * KIB * KIB))
  t.same(kept(large, 34), [], 'one that is too large for all of it')
})

t.test('a buffer of which two ends are left counts once', async (t) => {
  const { cache, make, write } = cacheOf()
  make(1, Buffer.alloc(10 * KIB))
  write(1, 3, KIB, Buffer.from('x'))
  const map = cache.peek(1, 0)
  map?.recountBody()
  t.equal(map?.bodyBytes, 3 * KIB + 10 * KIB + 1)
})

t.test('what was packed lies over a map, where nothing else came to the file meanwhile', async (t) => {
  const from = 7
  const chunk = (id: number) => ({ id, lengthBytes: 100, root: Buffer.alloc(32, id) })
  const known = [0, 1, 2].map((n) => ({ fileOffset: n * 10, lengthBytes: 10, chunk: chunk(n + 1), chunkOffset: 0 }))
  const packed = [{ fileOffset: 0, lengthBytes: 20, chunk: chunk(9), chunkOffset: 0 }]
  const idsAfter = (version: number, current: boolean, knownAs = from): (number | undefined)[] | undefined => {
    const { cache, fresh } = cacheOf()
    cache.atVersion(attrOf(1, knownAs, 30), fresh.mark())
    cache.put(attrOf(1, knownAs, 30), { window: 0, generation: 1, dataVersion: knownAs, extents: known }, fresh.mark())
    cache.packed(1, packed, from, version, current)
    t.equal(cache.versionOf(1, 0), cache.peek(1, 0) && from + 1)
    return cache
      .peek(1, 0)
      ?.slice(0, 30)
      .map(({ chunk }) => chunk?.id)
  }
  t.strictSame(idsAfter(from + 1, true), [9, 3])
  t.equal(idsAfter(from + 1, false), undefined, 'an event came')
  t.equal(idsAfter(from + 2, true), undefined, 'another change came between')
  t.equal(idsAfter(from + 1, true, from - 1), undefined, 'the map is older')
  t.equal(idsAfter(from + 1, true, from + 1), undefined, 'or younger')
})
