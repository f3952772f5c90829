/** The cache of verified leaves over lent memory: what is lent comes back, once, and is never shown afterwards. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { KIB, LEAF_BYTES, MIB } from '../../../src/base/limits.js'
import { giveBack } from '../../../src/base/lent.js'
import type { ChunkRef, LeafRef, LentBytes, LentLeaves } from '../../../src/chunk/contract.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import { ChunkCache } from '../../../src/vfs/chunk-cache.js'
import { TargetPool } from '../../../src/vfs/target-pool.js'
import { MemoryChunks } from '../../helpers/memory-chunks.js'
import { randomFrom } from '../../helpers/random.js'

interface Written {
  readonly ref: ChunkRef
  readonly bytes: Buffer
}

async function write(chunks: MemoryChunks, id: number, lengthBytes: number): Promise<Written> {
  const bytes = randomBytes(lengthBytes)
  const origin = { ino: 2, order: id, extents: [] }
  return { ref: await chunks.write(id, [bytes], origin, { durability: 'quorum', sync: false }), bytes }
}

async function isRight(cache: ChunkCache, { ref, bytes }: Written, from: number, to: number): Promise<boolean> {
  const target = Buffer.alloc(to - from)
  await cache.copy(ref, from, to, target, 0)
  return target.equals(bytes.subarray(from, to))
}

t.test('many readers of a cache that is too small for them all read what was written', async (t) => {
  const chunks = new MemoryChunks()
  const cache = new ChunkCache(chunks, 8 * LEAF_BYTES, 4)
  const written = await Promise.all([1, 2, 3].map((id) => write(chunks, id, id * 700 * KIB + 1234)))
  chunks.before = () => new Promise((resolve) => setImmediate(resolve))
  const reads: Promise<boolean>[] = []
  for (let i = 0; i < 300; i++) {
    const one = written[i % written.length]
    if (one === undefined) continue
    const from = (i * 7_919) % one.bytes.length
    const to = Math.min(one.bytes.length, from + 1 + ((i * 104_729) % (300 * KIB)))
    if (i % 5 === 0) void cache.prefetch([{ ref: one.ref, from, to }])
    reads.push(isRight(cache, one, from, to))
    if (i % 20 === 0) await reads.at(-1)
  }
  const all = await Promise.all(reads)
  t.ok(all.every(Boolean))
  t.ok(cache.usedBytes <= 8 * LEAF_BYTES)
})

t.test('every loan comes back when it is evicted, as a whole', async (t) => {
  const chunks = new MemoryChunks()
  const cache = new ChunkCache(chunks, MIB + 4 * (LEAF_BYTES + KIB), 4)
  const first = await write(chunks, 1, MIB)
  t.ok(await isRight(cache, first, 0, MIB))
  t.equal(chunks.lent, 1)
  for (let id = 2; id < 100; id++) t.ok(await isRight(cache, await write(chunks, id, LEAF_BYTES), 0, LEAF_BYTES))
  t.equal(cache.usedBytes, chunks.lent * (LEAF_BYTES + KIB), 'the long one is gone')
  t.ok(cache.usedBytes <= MIB + 4 * (LEAF_BYTES + KIB) && chunks.lent > 60)
})

/** Lends memory of the sizes that there are. */
class Lender extends MemoryChunks {
  readonly buffers = new SharedBuffers()

  override async lend(ref: ChunkRef, offset: number, lengthBytes: number): Promise<LentBytes> {
    const bytes = await this.read(ref, offset, lengthBytes)
    const lease = this.buffers.take(lengthBytes)
    lease.bytes.set(bytes)
    return lease
  }
}

t.test('what is kept takes no more memory than the limit, however small the chunks', async (t) => {
  const chunks = new Lender()
  const most = 64 * LEAF_BYTES
  const cache = new ChunkCache(chunks, most, 4)
  for (const [from, lengthBytes] of [
    [0, 1500],
    [1000, LEAF_BYTES / 2 + 1],
  ] as const) {
    let lent = 0
    for (let id = from + 1; id <= from + 200; id++) {
      t.ok(await isRight(cache, await write(chunks, id, lengthBytes), 0, lengthBytes))
      lent = Math.max(lent, chunks.buffers.lentBytes, cache.usedBytes)
    }
    t.ok(lent <= most)
    if (from === 0) t.equal(chunks.buffers.lentBytes, 0, 'small ones are copied')
  }
  const one = await write(chunks, 5000, 1500)
  t.ok(await isRight(cache, one, 0, 1500))
  const before = chunks.reads.length
  t.ok(await isRight(cache, one, 0, 1500))
  t.equal(chunks.reads.length, before, 'and kept')
})

/** Leaves of several chunks in one go, but for those that are not there. */
class Gatherer extends Lender {
  readonly together: number[] = []
  isThere = (id: number): boolean => id % 8 !== 1

  nearNode(): string {
    return 'near'
  }

  async lendLeaves(_near: string, wants: readonly LeafRef[]): Promise<LentLeaves> {
    this.together.push(wants.length)
    const lease = this.buffers.take(wants.length * LEAF_BYTES)
    const leaves = wants.map(async ({ ref, leaf }, at) => {
      if (!this.isThere(ref.id)) return null
      const from = leaf * LEAF_BYTES
      const bytes = await this.read(ref, from, Math.min(LEAF_BYTES, ref.lengthBytes - from)).catch(() => null)
      if (bytes === null) return null
      bytes.copy(lease.bytes, at * LEAF_BYTES)
      return lease.bytes.subarray(at * LEAF_BYTES, at * LEAF_BYTES + bytes.length)
    })
    return { leaves: await Promise.all(leaves), release: lease.release }
  }
}

t.test('leaves that stand alone are fetched together, and whoever waits for one gets it', async (t) => {
  const chunks = new Gatherer()
  const most = 200 * (LEAF_BYTES + KIB)
  const cache = new ChunkCache(chunks, most, 4)
  const written = await Promise.all(Array.from({ length: 150 }, (_, id) => write(chunks, id, LEAF_BYTES + 1 + id)))
  const long = await write(chunks, 1000, MIB)
  const parts = written.map(({ ref, bytes }, i) => ({
    ref,
    from: i % 3 === 0 ? LEAF_BYTES : 5,
    to: i % 3 === 0 ? bytes.length : 900,
  }))
  // The same leaf twice, and one that is fetched already.
  const first = isRight(cache, written[0] ?? long, LEAF_BYTES, LEAF_BYTES + 1)
  void cache.prefetch([...parts, ...parts.slice(0, 3), { ref: long.ref, from: 0, to: MIB }])
  const rights = parts.map(({ from, to }, i) => isRight(cache, written[i] ?? long, from, to))
  t.ok((await Promise.all([first, ...rights, isRight(cache, long, 0, MIB)])).every(Boolean))
  t.strictSame(chunks.together, [64, 64, 21])
  t.equal(chunks.reads.length, 150 + 1, 'each leaf once, the long one in one piece')
  t.ok(cache.usedBytes <= most && chunks.buffers.lentBytes <= most + 2 * MIB)
  for (let id = 2000; id < 2300; id++) t.ok(await isRight(cache, await write(chunks, id, LEAF_BYTES), 0, LEAF_BYTES))
  t.ok(chunks.buffers.lentBytes <= most, 'what lay together comes back when all of it was evicted')
})

t.test('one leaf that is used on and on does not keep the memory of all that were fetched with it', async (t) => {
  const chunks = new Gatherer()
  const most = 100 * (LEAF_BYTES + KIB)
  const cache = new ChunkCache(chunks, most, 4)
  const used: Written[] = []
  for (let group = 0; group < 10; group++) {
    const ids = Array.from({ length: 64 }, (_, i) => 8 * (group * 64 + i))
    const written = await Promise.all(ids.map((id) => write(chunks, id, LEAF_BYTES)))
    await cache.prefetch(written.map(({ ref }) => ({ ref, from: 0, to: LEAF_BYTES })))
    used.push(...written.slice(0, 1))
    for (const one of used) t.ok(await isRight(cache, one, 0, LEAF_BYTES))
    t.ok(chunks.buffers.lentBytes <= most + MIB)
  }
})

t.test('leaves that are few, or short, or mostly not there keep no memory that is not counted', async (t) => {
  const chunks = new Gatherer()
  const most = 100 * (LEAF_BYTES + KIB)
  const cache = new ChunkCache(chunks, most, 4)
  const ahead = async (from: number, count: number, lengthBytes: number): Promise<Written[]> => {
    const written = await Promise.all(Array.from({ length: count }, (_, i) => write(chunks, from + i, lengthBytes)))
    await cache.prefetch(written.map(({ ref }) => ({ ref, from: 0, to: lengthBytes })))
    for (const one of written) t.ok(await isRight(cache, one, 0, lengthBytes))
    return written
  }
  await ahead(0, 3, LEAF_BYTES)
  t.strictSame(chunks.together, [])
  chunks.isThere = (id) => id % 16 === 0
  for (let group = 1; group <= 10; group++) await ahead(1000 * group, 64, LEAF_BYTES)
  t.equal(chunks.together.length, 10)
  t.ok(chunks.buffers.lentBytes <= most)
  chunks.isThere = () => true
  const short: Written[] = []
  for (let group = 1; group <= 10; group++) short.push(...(await ahead(100_000 * group, 64, 600)))
  t.ok(chunks.buffers.lentBytes <= most)
  const reads = chunks.reads.length
  for (const one of short) t.ok(await isRight(cache, one, 0, 600))
  t.equal(chunks.reads.length, reads, 'short ones are copied, and many are kept')
  for (let group = 1; group <= 10; group++) await ahead(10_000_000 * group, 33, LEAF_BYTES)
  t.ok(chunks.buffers.lentBytes <= most + MIB, 'as much as they lie in')
})

t.test('a slice stays as it is until it is given back, whatever is evicted, and its memory is counted', async (t) => {
  const chunks = new MemoryChunks()
  const cache = new ChunkCache(chunks, MIB + KIB, 4)
  const one = await write(chunks, 1, 4 * MIB)
  const [from, to] = [MIB / 2 + 5, MIB + 70 * KIB]
  t.ok(await isRight(cache, one, 0, MIB))
  const slices = await cache.slices(one.ref, from, to)
  t.equal(slices.length, 2)
  t.equal(cache.usedBytes, chunks.lent * KIB + MIB + 5 * LEAF_BYTES, 'both are held, whatever the limit is')
  t.ok(await isRight(cache, one, 2 * MIB, 3 * MIB))
  t.equal(chunks.lent, 2, 'what came later is gone first: there is no room beside what is held')
  t.ok(Buffer.concat(slices).equals(one.bytes.subarray(from, to)))
  for (const slice of slices) {
    giveBack(slice)
    giveBack(slice)
  }
  t.equal(chunks.lent, 0)
  t.equal(cache.usedBytes, 0)
  const kept = await cache.slices(one.ref, 0, LEAF_BYTES)
  kept.forEach(giveBack)
  t.equal(chunks.lent, 1, 'given back, and kept for the next')
})

t.test('slices of which one part fails are given back', async (t) => {
  const chunks = new MemoryChunks()
  const cache = new ChunkCache(chunks, MIB + KIB, 4)
  const one = await write(chunks, 1, 2 * MIB)
  const other = await write(chunks, 2, MIB)
  t.ok(await isRight(cache, one, 0, MIB))
  chunks.before = () => Promise.reject(new Error('away'))
  await t.rejects(cache.slices(one.ref, 0, 2 * MIB), { message: 'away' })
  chunks.before = () => undefined
  t.ok(await isRight(cache, other, 0, MIB))
  const before = chunks.reads.length
  t.ok(await isRight(cache, other, 0, MIB))
  t.equal(chunks.reads.length, before, 'there is room for it')
  t.equal(chunks.lent, 1)
})

/** Fails from a seed, and finds out whoever fetches a leaf that is on its way, gives memory back twice, or uses it afterwards. */
class Watched extends Gatherer {
  readonly underWay = new Set<string>()
  readonly #random: () => number
  fetchedTwice = 0
  givenTwice = 0
  loans = 0

  constructor(random: () => number) {
    super()
    this.#random = random
    this.isThere = () => random() < 0.8
    this.before = async () => {
      for (let turns = Math.floor(random() * 4); turns > 0; turns--)
        await new Promise((resolve) => setImmediate(resolve))
      if (random() < 0.1) throw new Error('from the seed')
    }
  }

  override nearNode(): string {
    return this.#random() < 0.5 ? 'near' : 'beside'
  }

  override async lend(ref: ChunkRef, offset: number, lengthBytes: number): Promise<LentBytes> {
    const leaves = Array.from(
      { length: Math.ceil(lengthBytes / LEAF_BYTES) },
      (_, i) => `${ref.id} ${offset / LEAF_BYTES + i}`,
    )
    const lease = await this.#while(leaves, () => super.lend(ref, offset, lengthBytes))
    return { bytes: lease.bytes, release: this.#once([lease.bytes], lease.release) }
  }

  override async lendLeaves(near: string, wants: readonly LeafRef[]): Promise<LentLeaves> {
    const leaves = wants.map(({ ref, leaf }) => `${ref.id} ${leaf}`)
    const lease = await this.#while(leaves, () => super.lendLeaves(near, wants))
    return { leaves: lease.leaves, release: this.#once(lease.leaves, lease.release) }
  }

  async #while<T>(leaves: readonly string[], run: () => Promise<T>): Promise<T> {
    for (const leaf of leaves) {
      if (this.underWay.has(leaf)) this.fetchedTwice++
      this.underWay.add(leaf)
    }
    try {
      return await run()
    } finally {
      for (const leaf of leaves) this.underWay.delete(leaf)
    }
  }

  #once(parts: readonly (Buffer | null)[], release: () => void): () => void {
    let isOpen = true
    this.loans++
    return () => {
      if (!isOpen) this.givenTwice++
      isOpen = false
      this.loans--
      for (const part of parts) part?.fill(0xee)
      release()
    }
  }
}

t.test('whatever is read, held, read ahead, written and evicted at the same time, the bytes are right', async (t) => {
  for (let seed = 1; seed <= 6; seed++) {
    const random = randomFrom(seed)
    const upTo = (most: number): number => Math.floor(random() * most)
    const chunks = new Watched(random)
    const bend = chunks.before
    chunks.before = () => undefined
    const written: Written[] = []
    for (let id = 1; id <= 24; id++)
      written.push(await write(chunks, id, 1 + upTo(id % 3 === 0 ? 2 * MIB : 3 * LEAF_BYTES)))
    chunks.before = bend
    const most = MIB + upTo(2 * MIB)
    const cache = new ChunkCache(chunks, most, 6)
    let wrong = 0
    let right = 0
    let heldMost = 0
    const act = async (): Promise<void> => {
      const one = written[upTo(written.length)]
      if (one === undefined) return
      const { ref, bytes } = one
      const from = upTo(bytes.length)
      const to = from + 1 + upTo(bytes.length - from)
      const what = random()
      if (what < 0.1) {
        cache.put(ref, [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2)])
      } else if (what < 0.3) {
        await cache.prefetch(
          written.slice(upTo(12)).map((each) => ({ ref: each.ref, from: 0, to: Math.min(each.bytes.length, 5) })),
        )
      } else if (what < 0.6) {
        if (await isRight(cache, one, from, to)) right++
        else wrong++
      } else {
        const slices = await cache.slices(ref, from, to)
        for (let turns = upTo(6); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
        if (Buffer.concat(slices).equals(bytes.subarray(from, to))) right++
        else wrong++
        slices.forEach(giveBack)
      }
    }
    for (let round = 0; round < 60; round++) {
      await Promise.allSettled(Array.from({ length: 8 }, act))
      heldMost = Math.max(heldMost, cache.usedBytes)
    }
    t.equal(wrong, 0, `seed ${seed}`)
    t.ok(right > 50)
    t.ok(heldMost <= most, 'when nobody holds any of it, it is below the limit')
    t.equal(chunks.fetchedTwice, 0)
    t.equal(chunks.givenTwice, 0)
    chunks.before = () => undefined
    const last = await write(chunks, 1000, MIB)
    const tiny = new ChunkCache(chunks, 0, 1)
    t.ok(await isRight(tiny, last, 0, MIB))
    t.equal(tiny.usedBytes, 0, 'with no room nothing is kept')
    t.ok(chunks.buffers.lentBytes <= cache.usedBytes, 'what is lent is counted')
  }
})

t.test('a long range is fetched in parts, a leaf that is fetched already is not asked for again', async (t) => {
  const chunks = new MemoryChunks()
  const cache = new ChunkCache(chunks, 64 * MIB, 8)
  const one = await write(chunks, 1, 4 * MIB)
  const reads = [isRight(cache, one, 0, 4 * MIB), isRight(cache, one, 100, 3 * MIB), isRight(cache, one, MIB, MIB + 1)]
  t.strictSame(await Promise.all(reads), [true, true, true])
  t.strictSame(
    chunks.reads.map(({ offset, lengthBytes }) => [offset, lengthBytes]),
    [0, 1, 2, 3].map((part) => [part * MIB, MIB]),
  )
})

t.test('a failed fetch leaves nothing behind, and fails everyone who waits for it', async (t) => {
  const chunks = new MemoryChunks()
  const cache = new ChunkCache(chunks, MIB, 8)
  const one = await write(chunks, 1, 200 * KIB)
  chunks.before = () => Promise.reject(new Error('away'))
  const reads = [isRight(cache, one, 0, 10), isRight(cache, one, 5, 200 * KIB)]
  const results = await Promise.allSettled(reads)
  t.ok(results.every(({ status }) => status === 'rejected'))
  chunks.before = () => undefined
  t.ok(await isRight(cache, one, 0, 200 * KIB))
})

t.test('memory that Node shares between many buffers is never kept, whatever its size', (t) => {
  const before = Buffer.poolSize
  t.teardown(() => (Buffer.poolSize = before))
  // As of Node 26.3.
  Buffer.poolSize = 64 * KIB
  Buffer.allocUnsafe(before)
  const pool = new TargetPool()
  const target = pool.take(1000)
  t.equal(target.buffer.byteLength, 64 * KIB, 'it has neighbours')
  giveBack(pool.lend(target))
  t.equal(pool.freeBytes, 0)
  t.not(pool.take(64 * KIB).buffer, target.buffer)
  t.end()
})

t.test('memory for reads is used again once it was given back, and only then', (t) => {
  const pool = new TargetPool()
  const first = pool.lend(pool.take(MIB).subarray(0, 700 * KIB))
  const second = pool.take(MIB)
  t.not(second.buffer, first.buffer)
  giveBack(first)
  giveBack(first)
  t.equal(pool.freeBytes, MIB)
  t.equal(pool.take(900 * KIB).buffer, first.buffer)
  t.equal(pool.freeBytes, 0)
  giveBack(pool.lend(pool.take(100)))
  giveBack(Buffer.alloc(10))
  t.equal(pool.freeBytes, 0, 'small ones are not kept')
  t.end()
})

t.test('small chunks count what keeping them takes', async (t) => {
  const cache = new ChunkCache(new MemoryChunks(), MIB, 4)
  const refs: ChunkRef[] = Array.from({ length: 5_000 }, (_, i) => ({
    id: i + 1,
    lengthBytes: 600,
    root: Buffer.alloc(32),
  }))
  for (const ref of refs) cache.put(ref, [Buffer.alloc(600)])
  t.ok(cache.usedBytes <= MIB)
  let kept = 0
  for (const ref of refs) {
    const read = cache.copy(ref, 0, 600, Buffer.alloc(600), 0)
    await read.then(
      () => kept++,
      () => undefined,
    )
  }
  t.ok(kept > 100 && kept * 1_500 <= MIB, `${kept} are kept`)
})
