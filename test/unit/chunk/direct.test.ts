/** Chunks that are read and written past the page cache are the same files; and what cannot be done so is done as ever. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { CHUNK_MAX_BYTES, KIB, LEAF_BYTES, MIB } from '../../../src/base/limits.js'
import { pageAlignedMemory } from '../../../src/base/shared-memory.js'
import { encodePrefix } from '../../../src/chunk/format.js'
import { DirectChoice } from '../../../src/chunk/node/direct-choice.js'
import { canBeDirect, readDirect, writeDirect } from '../../../src/chunk/node/direct-file.js'
import { VOLUME, chunkFile, chunkOf, failureOf, openStore, poolOf, temporaryFolder } from '../../helpers/chunks.js'

const DIRECT = 256 * KIB

function aligned(lengthBytes: number): Buffer {
  const memory = Buffer.from(pageAlignedMemory(CHUNK_MAX_BYTES + LEAF_BYTES))
  return memory.subarray(0, lengthBytes).fill(randomBytes(64 * KIB + 3))
}

t.test('a file written past the page cache holds prefix and data, whatever their lengths', (t) => {
  const folder = temporaryFolder(t)
  for (const lengthBytes of [DIRECT, DIRECT + 1, DIRECT + 4095, MIB + 4096, CHUNK_MAX_BYTES - 1, CHUNK_MAX_BYTES]) {
    const bytes = aligned(lengthBytes)
    const { root, leaves, origin } = chunkOf(7, bytes)
    const prefix = encodePrefix({ volume: VOLUME, id: 7, lengthBytes, root, origin }, leaves)
    const file = join(folder, `f${lengthBytes}`)
    // A filesystem that cannot do it says so.
    if (!writeDirect(file, prefix, [bytes])) continue
    const pieces = [bytes.subarray(0, 4096), bytes.subarray(4096, 200 * KIB), bytes.subarray(200 * KIB)]
    t.ok(writeDirect(`${file}.pieces`, prefix, pieces))
    t.ok(readFileSync(`${file}.pieces`).equals(readFileSync(file)), 'in pieces')
    const found = readFileSync(file)
    t.equal(found.length, prefix.length + lengthBytes)
    t.ok(found.equals(Buffer.concat([prefix, bytes])))
    const into = Buffer.from(pageAlignedMemory(CHUNK_MAX_BYTES + LEAF_BYTES)).subarray(0, lengthBytes)
    t.equal(readDirect(file, prefix.length, into), lengthBytes)
    t.ok(into.equals(bytes))
    truncateSync(file, prefix.length + LEAF_BYTES + 100)
    t.equal(readDirect(file, prefix.length, into), LEAF_BYTES + 100, 'short where the file ends')
  }
  t.end()
})

t.test('what does not lie on a page is not tried, and what the kernel refuses is told', (t) => {
  const folder = temporaryFolder(t)
  const bytes = aligned(MIB)
  t.ok(canBeDirect([bytes]) || process.platform !== 'linux')
  t.notOk(canBeDirect([bytes.subarray(16)]))
  t.notOk(canBeDirect([bytes.subarray(0, 4096)]))
  t.ok(canBeDirect([bytes, bytes.subarray(4096), bytes.subarray(0, 100)]) || process.platform !== 'linux')
  t.notOk(canBeDirect([bytes, bytes.subarray(100)]))
  t.notOk(canBeDirect([bytes.subarray(0, 100), bytes]), 'what follows would not begin with a block of the file')
  t.notOk(canBeDirect([]))
  t.notOk(writeDirect(join(folder, 'a'), Buffer.alloc(100), [bytes]), 'a prefix that is no whole page')
  t.notOk(existsSync(join(folder, 'a')))
  t.equal(readDirect(join(folder, 'a'), 0, Buffer.alloc(4096).subarray(5)), null)
  t.end()
})

t.test('a store with large chunks answers the same bytes first past the page cache and then through it', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  for (const [id, lengthBytes] of [DIRECT + 5, MIB, 3 * MIB + 777, CHUNK_MAX_BYTES].entries()) {
    const chunk = chunkOf(id, aligned(lengthBytes))
    await store.put(chunk, chunk.data)
    t.strictSame(await store.sync([id]), [])
    t.match(await store.verify(id), { state: 'good' })
    for (let round = 0; round < 3; round++) {
      const { data, release } = await store.read(id, 0, lengthBytes)
      t.ok(data.equals(chunk.bytes))
      release()
      const part = await store.read(id, LEAF_BYTES, lengthBytes - LEAF_BYTES)
      t.ok(part.data.equals(chunk.bytes.subarray(LEAF_BYTES)))
      part.release()
    }
    truncateSync(chunkFile(folder, id), 2 * LEAF_BYTES)
    t.equal(await failureOf(store.read(id, 0, lengthBytes)), 'CHUNK_CORRUPT')
    await store.remove([id])
    t.equal(await failureOf(store.read(id, 0, lengthBytes)), 'CHUNK_MISSING')
  }
})

t.test('chunks in memory that does not begin on a page are stored as well', async (t) => {
  const store = await openStore(temporaryFolder(t), poolOf(t))
  const shared = Buffer.from(new SharedArrayBuffer(2 * MIB)).fill(randomBytes(999))
  for (const [id, bytes] of [shared, shared.subarray(8), shared.subarray(4096)].entries()) {
    const chunk = chunkOf(id, bytes)
    await store.put(chunk, chunk.data)
    t.match(await store.verify(id), { state: 'good' })
  }
})

t.test('the quicker way is taken, the other tried now and then, and a refusal is remembered for a while', (t) => {
  const choice = new DirectChoice()
  t.ok(choice.forWrite())
  choice.wrote(true, MIB, 5000)
  choice.wrote(false, MIB, 500)
  const chosen = Array.from({ length: 200 }, () => choice.forWrite())
  t.equal(chosen.filter(Boolean).length, 3, 'the page cache is quicker here')
  t.notOk(choice.forRead(1, 0))
  for (let i = 0; i < 40; i++) choice.wrote(false, 2 * MIB, 40_000)
  t.equal(choice.forWrite(), true)
  t.strictSame([choice.forRead(1, 0), choice.forRead(1, 0), choice.forRead(1, MIB)], [true, false, true])
  choice.refused()
  t.notOk(choice.forWrite())
  t.end()
})

const CHUNKS = 64

/** All ranges once more, each taking `pastUs` of the disk and `keptUs` where the page cache could have it; how many went past that. */
function readAgain(choice: DirectChoice, pastUs: number, keptUs: number): number {
  let past = 0
  for (let id = 0; id < CHUNKS; id++) {
    const direct = choice.forRead(id, 0)
    if (direct) past++
    const readUs = direct ? pastUs : keptUs
    choice.noteRead({ id, offset: 0, direct }, { dataBytes: MIB, readUs, direct })
  }
  return past
}

t.test('what is read again goes through the page cache as long as that is quicker', (t) => {
  const choice = new DirectChoice()
  t.equal(readAgain(choice, 1000, 9999), CHUNKS, 'read for the first time')
  t.equal(readAgain(choice, 1000, 9999), 0, 'not known yet: the page cache is filled')
  t.equal(readAgain(choice, 1000, 100), 0)
  for (let round = 0; round < 5; round++) t.equal(readAgain(choice, 1000, 100), 0, 'no read in vain')
  t.ok(readAgain(choice, 1000, 5000) > CHUNKS / 2, 'it is not kept any more')
  for (let round = 0; round < 5; round++) t.equal(readAgain(choice, 1000, 5000), CHUNKS - CHUNKS / 4, 'but for a few')
  t.notOk(readAgain(choice, 1000, 5000) === CHUNKS)
  for (let round = 0; round < 5; round++) readAgain(choice, 1000, 100)
  t.equal(readAgain(choice, 1000, 100), 0, 'these tell when it is kept again')
  t.end()
})

t.test('what was asked for past the page cache and did not go there is not asked for so for a while', (t) => {
  const choice = new DirectChoice()
  t.ok(choice.forRead(1, 0))
  choice.noteRead({ id: 1, offset: 0, direct: true }, { dataBytes: 100, readUs: 5, direct: false })
  t.ok(choice.forRead(2, 0), 'it was too short')
  choice.noteRead({ id: 2, offset: 0, direct: true }, { dataBytes: MIB, readUs: 5, direct: false })
  t.notOk(choice.forRead(3, 0))
  t.end()
})
