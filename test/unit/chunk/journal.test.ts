/** Small chunks that must be on disk at once: whatever was acknowledged is there after a crash, and what was removed is not. */
import t from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { LEAF_BYTES, SMALL_CHUNK_BYTES } from '../../../src/base/limits.js'
import { encodePrefix } from '../../../src/chunk/format.js'
import { JOURNAL_LOGS, logFile } from '../../../src/chunk/node/journal-file.js'
import {
  JOURNAL_BYTES,
  JOURNAL_START,
  contentOf,
  decodeLogHead,
  type LogUse,
} from '../../../src/chunk/node/journal-format.js'
import type { ChunkStore } from '../../../src/chunk/node/store.js'
import type { WorkerPool } from '../../../src/chunk/pool.js'
import { CapturedLog } from '../../helpers/captured-log.js'
import {
  LATER_NEVER,
  VOLUME,
  chunkFile,
  failureOf,
  openStore,
  poolOf,
  randomChunk,
  temporaryFolder,
  type TestChunk,
} from '../../helpers/chunks.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { newFolders, openDisks } from '../../helpers/disks.js'
import { until } from '../../helpers/meta.js'

t.setTimeout(300_000)

/** A store whose journal is in use: the first small chunk only has it made. */
async function openWithJournal(folder: string, pool: WorkerPool): Promise<ChunkStore> {
  const store = await openStore(folder, pool)
  const first = randomChunk(999_999, 10)
  await store.put(first, first.data, true)
  await until('it is made', () => existsSync(logFile(folder, JOURNAL_LOGS - 1)))
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

t.test('a disk that fails while files are made of a log has all of it when it is back', async (t) => {
  const pool = poolOf(t)
  const written = chunks(1, 200, () => 1_000)
  const isFirstThere = (folder: string): boolean => written.some(({ id }) => existsSync(chunkFile(folder, id)))
  const moments = [
    ['before the first', () => true],
    ['between two batches', isFirstThere],
  ] as const
  for (const [name, isReached] of moments) {
    const folder = temporaryFolder(t)
    const store = await openWithJournal(folder, pool)
    await putAll(store, written)
    const settling = store.settle()
    while (!isReached(folder)) await turn()
    store.abandon()
    await settling
    const after = await openStore(folder, pool)
    t.equal(after.chunks, 200, name)
    for (const chunk of written) if (!(await holds(after, chunk.id))) t.fail(`${name}: chunk ${chunk.id} is lost`)
  }
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

interface WrittenLog {
  readonly file: string
  readonly bytes: Buffer
  readonly use: LogUse
}

function logsOf(folder: string): WrittenLog[] {
  return Array.from({ length: JOURNAL_LOGS }, (_, index) => logFile(folder, index)).map((file) => {
    const bytes = readFileSync(file)
    return { file, bytes, use: decodeLogHead(bytes) ?? { generation: 0, salt: 0n } }
  })
}

/** The log with the most chunks. */
function fullest(folder: string): WrittenLog {
  const [first] = logsOf(folder).sort((a, b) => chunksIn(b) - chunksIn(a))
  if (first === undefined) throw new Error('there is no journal')
  return first
}

function chunksIn({ bytes, use }: WrittenLog): number {
  return contentOf(bytes, use).chunks.size
}

t.test('a log that a crash has left short is made anew', async (t) => {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'journal'))
  for (let log = 0; log < JOURNAL_LOGS; log++) writeFileSync(logFile(folder, log), Buffer.alloc(JOURNAL_START))
  const pool = poolOf(t)
  const store = await openStore(folder, pool)
  const before = randomChunk(1, 3000)
  await store.put(before, before.data, true)
  await until('they are whole', () => logsOf(folder).every(({ bytes }) => bytes.length === JOURNAL_BYTES))
  await store.verify(1)
  const chunk = randomChunk(2, 3000)
  await store.put(chunk, chunk.data, true)
  t.equal(chunksIn(fullest(folder)), 1)
  t.ok(await isRight(await openStore(crashed(t, folder), pool), chunk))
})

t.test('logs for which there was no room are made when there is some', async (t) => {
  const folder = temporaryFolder(t)
  const clock = new ManualClock()
  const pool = poolOf(t)
  const log = new CapturedLog()
  const store = await openStore(folder, pool, { clock, log: log.log })
  // In the place of their folder.
  writeFileSync(join(folder, 'journal'), '')
  for (let id = 1; id <= 3; id++) {
    const chunk = randomChunk(id, 3000)
    await store.put(chunk, chunk.data, true)
    await until('it was tried', () => log.tells('msg', 'no journal'))
    t.ok(await isRight(store, chunk), 'a file from the start')
  }
  t.equal(log.all('msg').length, 1, 'not tried for each chunk')
  rmSync(join(folder, 'journal'))
  await clock.pass(60_000)
  const chunk = randomChunk(4, 3000)
  await store.put(chunk, chunk.data, true)
  await until('they are made', () => existsSync(logFile(folder, JOURNAL_LOGS - 1)))
})

t.test('something bad in a log hides nothing but the record that it is in, and is told', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  const written = chunks(1, 25, () => 3000)
  for (const chunk of written) await store.put(chunk, chunk.data, true)
  const { bytes: log, use } = fullest(folder)
  const starts = written.map(({ bytes }) => log.indexOf(bytes) - 300)
  const end = log.indexOf(written.at(-1)?.bytes ?? '') + 3000
  const hit = (at: number): number => starts.filter((start) => start <= at).length
  for (let i = 0; i < 60; i++) {
    const damaged = Buffer.from(log)
    const at = JOURNAL_START + ((i * 104_729) % (end - JOURNAL_START))
    if (i % 2 === 0) damaged[at] = (damaged[at] ?? 0) ^ (1 << (i % 8))
    else damaged.fill(0, at, at + 512)
    const { chunks: found, bad } = contentOf(damaged, use)
    const gone = written.filter(({ id }) => !found.has(id)).map(({ id }) => id)
    t.ok(
      gone.length <= (i % 2 === 0 ? 1 : 2) && gone.every((id) => Math.abs(id - hit(at)) <= 1),
      `${gone.join()} at ${at}`,
    )
    t.equal(bad.length > 0, gone.length > 0, 'told')
    for (const { id, bytes } of written) if (found.has(id)) t.ok(found.get(id)?.subarray(-3000).equals(bytes))
  }
  const bad = Buffer.from(log)
  const inBody = (starts[11] ?? 0) + 2000
  bad[inBody] = (bad[inBody] ?? 0) ^ 1
  t.match(contentOf(bad, use).bad, [{ id: 12, isLast: false }], 'which one, if its head is good')
  const salt = (use.salt ?? 0n) + 1n
  t.equal(contentOf(log, { ...use, salt }).chunks.size, 0, 'records of another use are none')
})

t.test('what an earlier use of a log has left is not taken for new, whatever is bad before it', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  for (let round = 0; round < JOURNAL_LOGS; round++) {
    await putAll(
      store,
      chunks(1 + round * 100, 40, () => 2000),
    )
    await store.settle()
  }
  await store.remove(Array.from({ length: 200 }, (_, i) => i + 1))
  const few = chunks(500, 3, () => 2000)
  for (const chunk of few) await store.put(chunk, chunk.data, true)
  const { bytes, use } = logsOf(folder).find(({ bytes }) => bytes.includes(few[2]?.bytes ?? '')) ?? fullest(folder)
  t.ok(bytes.subarray(bytes.indexOf(few[2]?.bytes ?? '')).includes('RJR2'), 'older records lie behind the end')
  t.strictSame([...contentOf(bytes, use).chunks.keys()], [500, 501, 502])
  for (const victim of few) {
    const damaged = Buffer.from(bytes)
    damaged.fill(7, damaged.indexOf(victim.bytes) - 250, damaged.indexOf(victim.bytes) + 100)
    const left = few.filter((one) => one !== victim).map(({ id }) => id)
    t.strictSame([...contentOf(damaged, use).chunks.keys()], left)
  }
})

t.test(
  'after a start with something bad in its journal a node has all the rest, and says how much it lost',
  async (t) => {
    const [folder = ''] = newFolders(t, 1)
    const pool = poolOf(t)
    const disks = await openDisks(t, pool, [folder], { clock: LATER_NEVER })
    const written = chunks(1, 12, () => 3000)
    await until('the journal takes small chunks', async () => {
      const first = randomChunk(999_999, 10)
      await disks.put(first, first.data, true)
      const isThere = existsSync(logFile(folder, JOURNAL_LOGS - 1))
      await disks.remove([first.id])
      return isThere
    })
    for (const chunk of written) await disks.put(chunk, chunk.data, true)
    t.ok(written.every(({ id }) => !existsSync(chunkFile(folder, id))))
    const copy = crashed(t, folder)
    const { file, bytes } = fullest(copy)
    for (const victim of [written[2], written[7]]) {
      const at = bytes.indexOf(victim?.bytes ?? '') + 700
      bytes[at] = (bytes[at] ?? 0) ^ 4
    }
    // Nor does the loss of one of its heads hide a log.
    bytes.fill(0, 0, 4096)
    writeFileSync(file, bytes)
    const said = new CapturedLog()
    const after = await openDisks(t, pool, [copy], { log: said.log })
    t.strictSame(
      await after.lacks(
        written.map(({ id }) => id),
        true,
      ),
      [3, 8],
    )
    t.match(after.states(), [{ state: 'up', damaged: 2 }])
    t.ok(after.isDamaged)
    t.match(said.all('bad'), [2])
    t.strictSame(said.all('chunks').at(-1), [3, 8])
    t.equal(readdirSync(join(copy, 'quarantine')).filter((name) => name.startsWith('journal.')).length, 2)
    t.equal(disks.states()[0]?.damaged, 0)
    t.notOk(disks.isDamaged)
  },
)

t.test('a log that has lost both its heads is told, too', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  const [chunk = randomChunk(1, 1)] = chunks(1, 1)
  await store.put(chunk, chunk.data, true)
  const copy = crashed(t, folder)
  const { file, bytes } = fullest(copy)
  bytes[20] = (bytes[20] ?? 0) ^ 1
  bytes[4096 + 20] = (bytes[4096 + 20] ?? 0) ^ 1
  writeFileSync(file, bytes)
  const after = await openStore(copy, pool)
  t.match(after.damage, { bad: 1 })
  t.notOk(await holds(after, 1))
  const [aside = ''] = readdirSync(join(copy, 'quarantine'))
  t.ok(readFileSync(join(copy, 'quarantine', aside)).equals(bytes), 'it is kept')
  const again = await openStore(copy, pool)
  t.equal(again.damage.bad, 0, 'and told once')
  // Beside the node only its writer writes.
  mkdirSync(join(copy, 'near'))
  for (const log of [0, 1]) writeFileSync(logFile(copy, log, 'near'), log === 0 ? bytes : Buffer.alloc(JOURNAL_BYTES))
  const near = await openStore(copy, pool)
  t.match(near.damage, { bad: 1 })
  await near.sync([1])
  t.match(near.damage, { bad: 1 }, 'however often it is looked at')
})

/** As version 1 had it. */
function oldLog(generation: number, bodies: readonly Buffer[]): Buffer {
  const log = Buffer.alloc(JOURNAL_BYTES)
  const sum = (...parts: readonly Buffer[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest()
  log.write('RINGJRNL', 0, 'latin1')
  log.writeUInt32LE(1, 8)
  log.writeUInt32LE(1, 12)
  log.writeBigUInt64LE(BigInt(generation), 16)
  sum(log.subarray(0, 24)).copy(log, 24)
  let at = 4096
  for (const body of bodies) {
    const head = Buffer.alloc(24)
    head.write('RJR1', 0, 'latin1')
    head.writeUInt32LE(1, 4)
    head.writeBigUInt64LE(BigInt(generation), 8)
    head.writeUInt32LE(body.length, 16)
    head.writeUInt32LE(body.length, 20)
    Buffer.concat([head, sum(head, body), body]).copy(log, at)
    at += Math.ceil((56 + body.length) / 8) * 8
  }
  return log
}

t.test('logs of version 1 are read', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const store = await openWithJournal(folder, pool)
  const written = chunks(1, 4)
  const bodies = written.map(({ id, data, bytes, root, leaves, origin }) => {
    const prefix = encodePrefix({ volume: VOLUME, id, lengthBytes: bytes.length, root, origin }, leaves)
    return Buffer.concat([prefix, ...data])
  })
  await store.settle()
  const copy = crashed(t, folder)
  writeFileSync(logFile(copy, 0), oldLog(70, bodies.slice(0, 2)))
  mkdirSync(join(copy, 'near'))
  for (const log of [0, 1]) writeFileSync(logFile(copy, log, 'near'), oldLog(70 + log, bodies.slice(2 + log, 3 + log)))
  const after = await openStore(copy, pool)
  for (const chunk of written) t.ok(await isRight(after, chunk))
  t.equal(after.damage.bad + after.damage.unfinished, 0)
  const later = chunks(50, 3)
  await putAll(after, later)
  const next = await openStore(crashed(t, copy), pool)
  for (const chunk of [...written, ...later]) t.ok(await isRight(next, chunk), 'and used again')
})

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
