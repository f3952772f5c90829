/** Small chunks that must be on disk at once: whatever was acknowledged is there after a crash, and what was removed is not. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LEAF_BYTES, SMALL_CHUNK_BYTES } from '../../../src/base/limits.js'
import { JOURNAL_BYTES, JOURNAL_LOGS, JOURNAL_START, chunksIn, logFile } from '../../../src/chunk/node/journal-file.js'
import type { ChunkStore } from '../../../src/chunk/node/store.js'
import type { WorkerPool } from '../../../src/chunk/pool.js'
import {
  chunkFile,
  failureOf,
  openStore,
  poolOf,
  randomChunk,
  temporaryFolder,
  type TestChunk,
} from '../../helpers/chunks.js'

t.setTimeout(120_000)

/** A store whose journal is in use: the first small chunk only has it made. */
async function openWithJournal(folder: string, pool: WorkerPool): Promise<ChunkStore> {
  const store = await openStore(folder, pool)
  const first = randomChunk(999_999, 10)
  await store.put(first, first.data, true)
  while (!existsSync(logFile(folder, JOURNAL_LOGS - 1))) await new Promise((resolve) => setTimeout(resolve, 5))
  // Made by a worker: a job behind it sees it done.
  await store.verify(999_999)
  await store.remove([999_999])
  return store
}

async function putAll(store: ChunkStore, chunks: readonly TestChunk[]): Promise<void> {
  await Promise.all(chunks.map((chunk) => store.put(chunk, chunk.data, true)))
}

/** The folder as a crash of the machine would leave it: what is in files, and nothing of the process. */
function crashed(t: Parameters<typeof temporaryFolder>[0], folder: string): string {
  const copy = temporaryFolder(t)
  cpSync(folder, copy, { recursive: true })
  return copy
}

async function isRight(store: ChunkStore, { id, bytes, root, origin }: TestChunk): Promise<boolean> {
  const read = await store.read(id, 0, bytes.length, true)
  const verdict = await store.verify(id)
  const part = store.readNow(id, bytes.length - 1, 1)
  const lastLeaf = Math.floor((bytes.length - 1) / LEAF_BYTES)
  const partly =
    part === null || (part.firstLeaf === lastLeaf && part.data.equals(bytes.subarray(lastLeaf * LEAF_BYTES)))
  part?.release()
  const same = partly && read.data.equals(bytes) && verdict.state === 'good' && Buffer.compare(verdict.root, root) === 0
  read.release()
  return same && JSON.stringify(read.origin) === JSON.stringify(origin)
}

async function holds(store: ChunkStore, id: number): Promise<boolean> {
  return (await failureOf(store.read(id, 0, 1))) === ''
}

function chunks(
  first: number,
  count: number,
  lengthBytes = (i: number) => 1 + ((i * 7919) % SMALL_CHUNK_BYTES),
): TestChunk[] {
  return Array.from({ length: count }, (_, i) => randomChunk(first + i, lengthBytes(first + i)))
}

t.test(
  'a small chunk that was put with sync has no file yet, is read and verified, and is there after a crash',
  async (t) => {
    const folder = temporaryFolder(t)
    const pool = poolOf(t)
    const store = await openWithJournal(folder, pool)
    const written = chunks(1, 30)
    await putAll(store, written)
    t.equal(store.chunks, 30)
    t.notOk(existsSync(chunkFile(folder, 1)), 'it is in the journal')
    for (const chunk of written) t.ok(await isRight(store, chunk))
    t.strictSame(await store.sync([1, 2, 77]), [77])

    const after = await openStore(crashed(t, folder), pool)
    for (const chunk of written) t.ok(await isRight(after, chunk))
    t.equal(after.chunks, 30)

    await store.settle()
    t.equal(store.chunks, 30)
    for (const chunk of written) t.ok(existsSync(chunkFile(folder, chunk.id)) && (await isRight(store, chunk)))
    const copy = crashed(t, folder)
    for (let log = 0; log < JOURNAL_LOGS; log++) writeFileSync(logFile(copy, log), '')
    const without = await openStore(copy, pool)
    for (const chunk of written) t.ok(await isRight(without, chunk), 'settled: the journal is not needed')
  },
)

t.test('a chunk that was removed does not come back, before it has a file or afterwards', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  const written = chunks(1, 20)
  await putAll(store, written)
  await store.remove([1, 2, 3])
  t.equal(store.chunks, 17)
  t.notOk(await holds(store, 2))
  const early = await openStore(crashed(t, folder), pool)
  t.strictSame([await holds(early, 1), await holds(early, 2), await holds(early, 4)], [false, false, true])

  const settling = store.settle()
  await Promise.all([store.remove([4]), store.remove([5, 6]), settling])
  await store.remove([7])
  const late = await openStore(crashed(t, folder), pool)
  const left = await Promise.all(written.map(({ id }) => holds(late, id)))
  t.strictSame(
    left,
    written.map(({ id }) => id > 7),
  )
  t.equal(store.chunks, 13)
})

t.test('an id has one content, in the journal as in a file', async (t) => {
  const pool = poolOf(t)
  const store = await openWithJournal(temporaryFolder(t), pool)
  const [one, other] = [randomChunk(5, 500), randomChunk(5, 500)]
  await store.put(one, one.data, true)
  await store.put(one, one.data, true)
  await store.put(one, one.data)
  t.equal(store.chunks, 1)
  t.equal(await failureOf(store.put(other, other.data, true)), 'CHUNK_CONFLICT')
  t.equal(await failureOf(store.put(other, other.data)), 'CHUNK_CONFLICT')
  await store.settle()
  await store.put(one, one.data, true)
  t.equal(await failureOf(store.put(other, other.data, true)), 'CHUNK_CONFLICT')
  t.ok(await isRight(store, one))
  const wrong = { ...randomChunk(6, 900), data: [randomBytes(900)] }
  t.equal(await failureOf(store.put(wrong, wrong.data, true)), 'CHUNK_CORRUPT')
  t.notOk(await holds(store, 6))
  t.equal(store.chunks, 1)
})

t.test('more than both logs hold goes on, and nothing of it is lost when it all crashes in between', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t, 2)
  const store = await openWithJournal(folder, pool)
  const written: TestChunk[] = []
  const big = (): number => 60_000
  for (let round = 0; round < 12; round++) {
    const some = chunks(1 + round * 40, 40, big)
    await putAll(store, some)
    written.push(...some)
    if (round % 3 === 2) await store.remove([1 + round * 40])
  }
  const gone = new Set([2, 5, 8, 11].map((round) => 1 + round * 40))
  const check = async (one: ChunkStore): Promise<void> => {
    for (const chunk of written) {
      if (gone.has(chunk.id)) t.notOk(await holds(one, chunk.id))
      else t.ok(await isRight(one, chunk))
    }
    t.equal(one.chunks, written.length - gone.size)
  }
  t.ok(written.length * 60_000 > JOURNAL_LOGS * JOURNAL_BYTES)
  await check(await openStore(crashed(t, folder), pool))
  await check(store)
  await store.settle()
  await check(store)
})

t.test('a damaged log gives what lies before the damage, whole, and nothing else', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  const written = chunks(1, 25, () => 3000)
  for (const chunk of written) await store.put(chunk, chunk.data, true)
  const log = Array.from({ length: JOURNAL_LOGS }, (_, index) => readFileSync(logFile(folder, index))).find(
    (bytes) => chunksIn(bytes, generationOf(bytes)).size > 0,
  )
  t.ok(log !== undefined)
  if (log === undefined) return
  const end = JOURNAL_START + written.length * 3300
  for (let i = 0; i < 60; i++) {
    const damaged = Buffer.from(log)
    const at = JOURNAL_START + ((i * 104_729) % (end - JOURNAL_START))
    if (i % 2 === 0) damaged[at] = (damaged[at] ?? 0) ^ 0x41
    else damaged.fill(0, at, at + 512)
    const found = chunksIn(damaged, generationOf(damaged))
    const ids = [...found.keys()]
    t.strictSame(
      ids,
      written.slice(0, ids.length).map(({ id }) => id),
    )
    t.ok(ids.length >= Math.floor((at - JOURNAL_START) / 3300) - 1)
    t.ok(
      ids.every((id) =>
        found
          .get(id)
          ?.subarray(-3000)
          .equals(written[id - 1]?.bytes ?? Buffer.alloc(0)),
      ),
    )
  }
  t.equal(chunksIn(log, generationOf(log) + 1).size, 0, 'records of another generation are none')
})

function generationOf(log: Buffer): number {
  return Number(log.readBigUInt64LE(16))
}

t.test('a folder without a journal, or with one that was cut off while it was made, opens', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  const [chunk] = chunks(1, 1)
  if (chunk === undefined) return
  await store.put(chunk, chunk.data, true)
  await store.settle()
  const copy = crashed(t, folder)
  writeFileSync(logFile(copy, 0), readFileSync(logFile(copy, 0)).subarray(0, 30))
  t.ok(await isRight(await openStore(copy, pool), chunk))
  t.strictSame(readdirSync(join(folder, 'journal')), ['0', '1'])
})
