/**
 * Small chunks in logs whose disk is full, or cannot read all of them: the node starts, has what can be read, and goes on with the rest when
 * it can. Whenever it is killed, nothing is lost that was acknowledged, and nothing bad is thrown away unseen.
 */
import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { silentLog } from '../../../src/base/log.js'
import type { ChunkNodeApi } from '../../../src/chunk/contract.js'
import { createJournal, leftBehind, logFile } from '../../../src/chunk/node/journal-file.js'
import { JOURNAL_BYTES, RECORD_HEAD_MAX_BYTES } from '../../../src/chunk/node/journal-format.js'
import { NearbyJournal } from '../../../src/chunk/node/nearby-journal.js'
import { ChunkService } from '../../../src/chunk/node/service.js'
import type { ChunkStore } from '../../../src/chunk/node/store.js'
import { WorkerPool, type Job } from '../../../src/chunk/pool.js'
import { CapturedLog } from '../../helpers/captured-log.js'
import {
  LATER_NEVER,
  VOLUME,
  chunkFile,
  failureOf,
  openStore,
  poolOf,
  putRequest,
  randomChunk,
  temporaryFolder,
  type TestChunk,
} from '../../helpers/chunks.js'
import { SmallDisk, isRoot } from '../../helpers/disks.js'
import { FaultyDisk, type UnreadablePlace } from '../../helpers/faulty-disk.js'
import { leaveLogs, logsInUse } from '../../helpers/journal.js'
import { until } from '../../helpers/meta.js'

t.setTimeout(600_000)

const CHILD = fileURLToPath(new URL('../../helpers/store-child.js', import.meta.url))
const DISK_BYTES = 64 << 20
const BIG = 1 << 20
const BLOCK = 4096
/** Of a chunk file: header with one extent, one leaf hash. */
const PREFIX_BYTES = 96 + 16 + 32 + 32

function some(first: number, count: number, lengthBytes = 9_000): TestChunk[] {
  return Array.from({ length: count }, (_, i) => randomChunk(first + i, lengthBytes))
}

async function isThere(store: ChunkStore, { id, bytes }: TestChunk): Promise<boolean> {
  if ((await failureOf(store.read(id, 0, 1))) !== '') return false
  const { data, release } = await store.read(id, 0, bytes.length)
  const isSame = data.equals(bytes)
  release()
  return isSame && (await store.verify(id)).state === 'good'
}

async function idsThere(store: ChunkStore, chunks: readonly TestChunk[]): Promise<number[]> {
  const ids: number[] = []
  for (const chunk of chunks) if (await isThere(store, chunk)) ids.push(chunk.id)
  return ids
}

function asideIn(folder: string): readonly string[] {
  return readdirSync(join(folder, 'quarantine'))
}

if (!isRoot) t.pass('needs root to mount small disks')
else {
  t.test('a full disk keeps nobody from starting, reading and deleting; with room all goes on by itself', async (t) => {
    const disk = new SmallDisk(t, DISK_BYTES)
    const { folder } = disk
    const pool = poolOf(t)
    const first = await openStore(folder, pool)
    const large = randomChunk(500, BIG)
    await first.put(large, large.data)
    first.abandon()
    const written = some(1, 12)
    leaveLogs(folder, [{ chunks: written.slice(0, 6), removed: [3] }, { chunks: written.slice(6) }])
    disk.fill()

    const log = new CapturedLog()
    const store = await openStore(folder, pool, { log: log.log })
    t.teardown(() => store.abandon())
    const all = written.map(({ id }) => id).filter((id) => id !== 3)
    t.strictSame(await idsThere(store, written), all)
    t.strictSame([store.chunks, store.waiting], [12, 11])
    t.strictSame(await store.lacks([...all, 3], true), [3])
    t.ok(log.tells('err', 'ENOSPC'))
    const more = randomChunk(600, 5000)
    t.equal(await failureOf(store.put(more, more.data, true)), 'ENOSPC')
    t.equal(await failureOf(store.put(more, more.data)), 'ENOSPC')
    await store.remove([1, 8])
    t.equal(store.chunks, 10)

    store.abandon()
    const again = await openStore(folder, pool)
    t.teardown(() => again.abandon())
    const left = all.filter((id) => id !== 1 && id !== 8)
    t.strictSame(await idsThere(again, written), left, 'killed meanwhile: what was removed is gone, and nothing else')
    t.equal(again.chunks, 10)
    await again.remove([500])
    await until('what was freed is enough', () => again.waiting === 0)
    t.strictSame(await idsThere(again, written), left)
    for (const id of left) t.ok(existsSync(chunkFile(folder, id)))
    t.strictSame(logsInUse(folder), [])
    t.equal(again.chunks, 9)
    disk.clear()
    await until('it takes chunks again', async () => (await failureOf(again.put(more, more.data, true))) === '')
  })

  t.test('what is bad in a log of a full disk is kept until there is room for it elsewhere', async (t) => {
    const disk = new SmallDisk(t, DISK_BYTES)
    const { folder } = disk
    const pool = poolOf(t)
    const written = some(1, 4)
    leaveLogs(folder, [{ chunks: written }])
    const file = logFile(folder, 0)
    const bytes = readFileSync(file)
    const at = bytes.indexOf(written[1]?.bytes ?? '')
    bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(file, bytes, { flag: 'r+' })
    const bad = bytes.subarray(at, at + 9_000)
    for (const name of ['chunks', 'tmp', 'quarantine']) mkdirSync(join(folder, name))
    disk.fill()
    for (let times = 0; times < 2; times++) {
      const full = await openStore(folder, pool)
      t.match(full.damage, { bad: 1, unreadable: 0, ids: [2] })
      t.strictSame(await idsThere(full, written), [1, 3, 4])
      t.ok(readFileSync(file).includes(bad))
      full.abandon()
    }
    disk.clear()
    const store = await openStore(folder, pool)
    t.strictSame([store.waiting, logsInUse(folder).length], [0, 0])
    t.ok(asideIn(folder).some((name) => readFileSync(join(folder, 'quarantine', name)).includes(bad)))
    t.strictSame(await idsThere(store, written), [1, 3, 4])
  })

  t.test('so it is with what was written beside a node, and whoever writes there waits', async (t) => {
    const disk = new SmallDisk(t, DISK_BYTES)
    const { folder } = disk
    const pool = poolOf(t, 2)
    const written = some(1, 8)
    leaveLogs(folder, [{ chunks: written.slice(0, 4) }, { chunks: written.slice(4) }], 'near')
    for (const name of ['chunks', 'tmp', 'quarantine']) mkdirSync(join(folder, name))
    disk.fill()
    const store = await openStore(folder, pool)
    t.teardown(() => store.abandon())
    t.equal(store.waiting, 8)
    const all = written.map(({ id }) => id)
    t.strictSame(await idsThere(store, written), all)
    const parts = { folder, disk: 'd', volume: VOLUME, pool, clock: LATER_NEVER, log: silentLog }
    const journal = new NearbyJournal({ ...parts, node: () => apiOf(store) })
    t.teardown(() => journal.close())
    await journal.start()
    const [more, later] = [randomChunk(100, 700), randomChunk(101, 700)]
    t.equal(await journal.put(putRequest(more, { sync: true }), more.data), false)
    await store.remove([2])
    disk.clear()
    await until('its logs are free', async () => await journal.put(putRequest(later, { sync: true }), later.data))
    await until('nothing waits', () => store.waiting === 0)
    for (const id of all) t.equal(existsSync(chunkFile(folder, id)), id !== 2)
    t.strictSame(
      leftBehind({ folder, volume: VOLUME, place: 'near' }).logs.map(({ ids }) => ids),
      [[101]],
    )
  })
}

t.test('who writes beside a node writes over no log that has lost its heads', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t, 2)
  const [one, two] = [randomChunk(1, 5000), randomChunk(2, 5000)]
  leaveLogs(folder, [{ chunks: [one] }, { chunks: [two] }], 'near')
  const file = logFile(folder, 0, 'near')
  const bytes = readFileSync(file)
  for (const head of [0, BLOCK]) bytes.writeUInt8(bytes.readUInt8(head + 20) ^ 1, head + 20)
  writeFileSync(file, bytes)
  const store = await openStore(folder, pool)
  t.teardown(() => store.abandon())
  t.strictSame(await idsThere(store, [one, two]), [2])
  const parts = { folder, disk: 'd', volume: VOLUME, pool, clock: LATER_NEVER, log: silentLog }
  const journal = new NearbyJournal({ ...parts, node: () => apiOf(store) })
  t.teardown(() => journal.close())
  await journal.start()
  const [aside = ''] = asideIn(folder)
  t.match(aside, /^near\.log-0\./)
  t.ok(readFileSync(join(folder, 'quarantine', aside)).equals(bytes))
  const more = randomChunk(3, 700)
  await until('another is made', async () => await journal.put(putRequest(more, { sync: true }), more.data))
  t.ok(existsSync(file))
})

/** Of a disk that writes nothing in place, and is full. */
class FullPool extends WorkerPool {
  isFull = false

  override async run<Input, Output>(
    job: Job<Input, Output>,
    input: Input,
    transfer?: readonly ArrayBuffer[],
  ): Promise<Output> {
    if (this.isFull && job.name === 'appendJournal') throw new PosixError('ENOSPC', 'full')
    return await super.run(job, input, transfer)
  }
}

t.test(
  'where a full disk takes not even what is written over, chunks of the log are deleted all the same',
  async (t) => {
    const folder = temporaryFolder(t)
    const pool = new FullPool({ threads: 1 })
    t.teardown(() => pool.close())
    const store = await openStore(folder, pool, { inlineMaxBytes: 0 })
    t.teardown(() => store.abandon())
    let others = 100
    await until('there is a log', async () => {
      const other = randomChunk(others++, 700)
      await store.put(other, other.data, true)
      return logsInUse(folder).length > 0
    })
    const written = some(1, 3)
    for (const chunk of written) await store.put(chunk, chunk.data, true)
    t.notOk(existsSync(chunkFile(folder, 2)))
    pool.isFull = true
    await store.remove([2])
    t.strictSame(await idsThere(store, written), [1, 3])
  },
)

t.test('a log in use that is too short is not made anew over its chunks, but afterwards', async (t) => {
  const folder = temporaryFolder(t)
  const pool = poolOf(t)
  const written = some(1, 4)
  leaveLogs(folder, [{ chunks: written }])
  const file = logFile(folder, 0)
  truncateSync(file, 1 << 20)
  const kept = readFileSync(file)
  // As where there is no room for its files, but for another log.
  createJournal({ folder, volume: VOLUME, place: 'journal' })
  t.ok(readFileSync(file).equals(kept))
  const store = await openStore(folder, pool)
  t.teardown(() => store.abandon())
  t.strictSame(await idsThere(store, written), [1, 2, 3, 4])
  const more = randomChunk(50, 700)
  await store.put(more, more.data, true)
  await until('it is made anew', () => existsSync(file) && statSync(file).size === JOURNAL_BYTES)
  const [aside = ''] = asideIn(folder)
  t.ok(readFileSync(join(folder, 'quarantine', aside)).equals(kept))
})

function apiOf(store: ChunkStore): ChunkNodeApi {
  const alone = (): never => {
    throw new Error('it has no peers')
  }
  return new ChunkService({
    ...{ nodeId: 'n', volume: VOLUME, version: '0', disk: store, clock: systemClock, log: silentLog },
    ...{ peer: alone, order: () => [], isSuspect: () => true, enqueue: () => Promise.resolve(), disks: () => ['d'] },
  })
}

interface Ended {
  readonly signal: unknown
  readonly said: string
}

async function runStore(folder: string, env: NodeJS.ProcessEnv): Promise<Ended> {
  const child = spawn(process.execPath, [CHILD, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'] ?? '', ...env },
  })
  let said = ''
  child.stdout.on('data', (data: Buffer) => (said += data.toString()))
  const [code, signal] = (await once(child, 'close')) as [number | null, unknown]
  if (code !== 0 && signal === null) throw new Error(`the store ended with ${code}`)
  return { signal, said }
}

/** Zeros, so that who is not told that it is unreadable finds it bad. */
function lose(disk: FaultyDisk, places: readonly UnreadablePlace[]): void {
  for (const { file, from, to } of places) {
    const bytes = readFileSync(file)
    bytes.fill(0, from, to)
    writeFileSync(file, bytes)
  }
  disk.cannotRead(places)
}

/** The whole blocks in which a chunk's bytes lie, but for the record's head. */
function blocksOf(file: string, { bytes }: TestChunk): UnreadablePlace {
  const at = readFileSync(file).indexOf(bytes)
  const from = Math.ceil(at / BLOCK) * BLOCK
  return { file, from, to: from + BLOCK }
}

t.test('of a log that the disk cannot read all of, all the rest is there, and it is kept as it is', async (t) => {
  const disk = await FaultyDisk.make(temporaryFolder(t))
  const pool = poolOf(t)
  const written = some(1, 6)
  const [, , third = randomChunk(0, 1), , , last = randomChunk(0, 1)] = written
  const cases: readonly [string, (file: string) => UnreadablePlace, object][] = [
    ['in a chunk', (file) => blocksOf(file, third), { bad: 1, unreadable: 1, ids: [3] }],
    ['at the head of one', (file) => headOf(file, third), { bad: 1, unreadable: 1, ids: [2] }],
    ['at that of the last', (file) => headOf(file, last), { bad: 1, unreadable: 1, ids: [5] }],
    ['where nothing was', (file) => ({ file, from: 1 << 20, to: (1 << 20) + BLOCK }), { bad: 0, unreadable: 0 }],
    ['one of its heads', (file) => ({ file, from: 0, to: BLOCK }), { bad: 0, unreadable: 0 }],
    ['both', (file) => ({ file, from: 0, to: 2 * BLOCK }), { bad: 1 }],
  ]
  for (const [what, placeIn, damage] of cases) {
    const folder = temporaryFolder(t)
    leaveLogs(folder, [{ chunks: written }])
    const lost = placeIn(logFile(folder, 0))
    const left = written.filter((chunk) => what !== 'both' && !isHit(chunk, lost)).map(({ id }) => id)
    lose(disk, [lost])
    const kept = readFileSync(lost.file)
    const { said } = await runStore(folder, disk.env)
    t.match(JSON.parse(said), damage, what)
    const after = await openStore(folder, pool)
    t.strictSame(await idsThere(after, written), left, what)
    t.strictSame(after.damage.bad, 0, 'told once')
    const [aside = ''] = asideIn(folder)
    t.match(aside, /^journal\.log-0\./)
    t.ok(readFileSync(join(folder, 'quarantine', aside)).equals(kept), 'nothing of it was changed')
    t.notOk(existsSync(lost.file))
    const [one, two] = some(50, 2)
    if (one === undefined || two === undefined) return
    await after.put(one, one.data, true)
    await until('a new one is made', () => existsSync(lost.file))
    await after.verify(50)
    await after.put(two, two.data, true)
    t.notOk(existsSync(chunkFile(folder, 51)), 'and used')
  }
})

t.test('where the disk cannot read whether there was another record, there may have been one', async (t) => {
  const disk = await FaultyDisk.make(temporaryFolder(t))
  const folder = temporaryFolder(t)
  // Their records fill whole blocks.
  const written = some(1, 2, 2 * BLOCK - RECORD_HEAD_MAX_BYTES - PREFIX_BYTES)
  leaveLogs(folder, [{ chunks: written }])
  const file = logFile(folder, 0)
  const from = recordOf(file, written[1] ?? randomChunk(0, 1))
  t.equal(from % BLOCK, 0)
  lose(disk, [{ file, from, to: from + BLOCK }])
  const { said } = await runStore(folder, disk.env)
  t.match(JSON.parse(said), { bad: 1, unreadable: 1, unfinished: 0 }, 'others are asked')
  const after = await openStore(folder, poolOf(t))
  t.strictSame(await idsThere(after, written), [1])
})

/** Where its record begins, of a chunk of one leaf. */
function recordOf(file: string, { bytes }: TestChunk): number {
  return readFileSync(file).indexOf(bytes) - RECORD_HEAD_MAX_BYTES - PREFIX_BYTES
}

/** The block in which its record begins. */
function headOf(file: string, chunk: TestChunk): UnreadablePlace {
  const from = Math.floor(recordOf(file, chunk) / BLOCK) * BLOCK
  return { file, from, to: from + BLOCK }
}

function isHit(chunk: TestChunk, { file, from, to }: UnreadablePlace): boolean {
  const at = recordOf(file, chunk)
  return from < at + RECORD_HEAD_MAX_BYTES + PREFIX_BYTES + chunk.bytes.length && to > at
}

t.test('killed before whichever change of the folder, nothing is lost and nothing comes back', async (t) => {
  const root = temporaryFolder(t)
  const disk = await FaultyDisk.make(root)
  const pool = poolOf(t)
  const written = some(1, 8)
  const template = join(root, 'template')
  mkdirSync(template)
  leaveLogs(template, [
    { chunks: written.slice(0, 4), removed: [2] },
    { chunks: written.slice(4), removed: [8] },
  ])
  const [older, newer] = [logFile(template, 0), logFile(template, 1)]
  const lost = blocksOf(older, written[2] ?? randomChunk(0, 1))
  const bytes = readFileSync(newer)
  const flipped = bytes.indexOf(written[5]?.bytes ?? '')
  bytes[flipped] = (bytes[flipped] ?? 0) ^ 1
  writeFileSync(newer, bytes)
  const bad = bytes.subarray(flipped, flipped + 9_000)
  lose(disk, [lost])
  const good = [1, 4, 5, 7]
  let killed = 0
  for (let at = 1; at === killed + 1; at++) {
    const folder = join(root, `killed-${at}`)
    cpSync(template, folder, { recursive: true })
    disk.cannotRead([{ ...lost, file: logFile(folder, 0) }])
    const { signal } = await runStore(folder, disk.killedAt(folder, at))
    if (signal === 'SIGKILL') killed++
    t.ok(isIn(folder, ['journal', 'quarantine'], bad), 'what is bad is somewhere')
    const after = await openStore(folder, pool)
    t.strictSame(await idsThere(after, written), good, `before change ${at}`)
    t.ok(isIn(folder, ['quarantine'], bad), 'and, when the log may be used again, elsewhere')
    t.equal(after.chunks, good.length)
    t.strictSame(logsInUse(folder), [])
  }
  t.comment(`killed before each of ${killed} changes`)
  t.ok(killed > 30)
})

function isIn(folder: string, names: readonly string[], bytes: Buffer): boolean {
  const files = names.flatMap((name) => filesIn(join(folder, name)))
  return files.some((file) => readFileSync(file).includes(bytes))
}

function filesIn(folder: string): readonly string[] {
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []
}
