/**
 * Hashing and storing, by hand: `node dist/bench/hash-store.bench.js [FOLDER]`. A row is the median of one operation at a time, in
 * microseconds, and what that makes in MB/s. What it is for: whether inline or worker, and at which length, pays.
 */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/base/clock.js'
import { CHUNK_MAX_BYTES, KIB } from '../src/base/limits.js'
import { silentLog } from '../src/base/log.js'
import { leafHashes, rootOf } from '../src/chunk/hash.js'
import { Hasher } from '../src/chunk/jobs.js'
import { ChunkStore } from '../src/chunk/node/store.js'
import { WorkerPool } from '../src/chunk/pool.js'
import { SharedBuffers } from '../src/chunk/shared-buffer.js'

const VOLUME = '6f1a2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b2c'
const SIZES = [4 * KIB, 64 * KIB, 128 * KIB, 512 * KIB, CHUNK_MAX_BYTES]
const RUNS = 60

interface Row {
  readonly what: string
  readonly KiB: number
  readonly us: number
  readonly 'MB/s': number
}

async function measure(what: string, lengthBytes: number, work: (run: number) => unknown): Promise<Row> {
  const times: number[] = []
  for (let run = 0; run < RUNS; run++) {
    const start = performance.now()
    await work(run)
    times.push((performance.now() - start) * 1000)
  }
  const us = times.sort((a, b) => a - b)[RUNS >> 1] ?? 0
  return { what, KiB: lengthBytes / KIB, us: Math.round(us * 10) / 10, 'MB/s': Math.round(lengthBytes / us) }
}

const pool = new WorkerPool()
const buffers = new SharedBuffers()
const hasher = new Hasher(pool, buffers)
const folder = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'ringfs-bench-'))
const open = (name: string, inlineMaxBytes: number): Promise<ChunkStore> =>
  ChunkStore.open({
    folder: join(folder, name),
    volume: VOLUME,
    pool,
    buffers,
    clock: systemClock,
    log: silentLog,
    inlineMaxBytes,
  })

async function hashRows(lengthBytes: number): Promise<Row[]> {
  const plain = randomBytes(lengthBytes)
  const { bytes: shared } = buffers.take(lengthBytes)
  return [
    await measure('hash, calling thread', lengthBytes, () => leafHashes([plain])),
    await measure('hash, as the client chooses', lengthBytes, () => hasher.leaves([plain])),
    await measure('hash, as the client chooses, shared buffer', lengthBytes, () => hasher.leaves([shared])),
  ]
}

async function storeRows(lengthBytes: number): Promise<Row[]> {
  const data = Buffer.from(buffers.take(lengthBytes).bytes.fill(randomBytes(4096)))
  const leaves = leafHashes([data])
  const root = rootOf(leaves)
  const origin = { ino: 2, order: 1, extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes }] }
  const rows: Row[] = []
  for (const [name, inlineMaxBytes] of [
    ['calling thread', CHUNK_MAX_BYTES * 2],
    ['worker', 0],
  ] as const) {
    const store = await open(`${name}-${lengthBytes}`, inlineMaxBytes)
    const put = (id: number): Promise<void> => store.put({ id, root, leaves, origin }, [data])
    rows.push(await measure(`store, ${name}`, lengthBytes, put))
    rows.push(await measure(`read whole, ${name}`, lengthBytes, (id) => store.read(id, 0, lengthBytes)))
    rows.push(await measure(`read 4 KiB, ${name}`, 4 * KIB, (id) => store.read(id, lengthBytes >> 1, 4 * KIB)))
    rows.push(
      await measure(`store and sync, ${name}`, lengthBytes, async (run) => {
        await put(1000 + run)
        await store.sync([1000 + run])
      }),
    )
    const start = performance.now()
    await Promise.all(
      Array.from({ length: RUNS }, async (_, run) => {
        await put(2000 + run)
        await store.sync([2000 + run])
      }),
    )
    const us = ((performance.now() - start) * 1000) / RUNS
    const rate = Math.round(lengthBytes / us)
    rows.push({
      what: `store and sync, ${RUNS} at once, ${name}`,
      KiB: lengthBytes / KIB,
      us: Math.round(us),
      'MB/s': rate,
    })
    await store.remove(Array.from({ length: RUNS }, (_, id) => [id, 1000 + id, 2000 + id]).flat())
  }
  return rows
}

try {
  await hasher.leaves([randomBytes(CHUNK_MAX_BYTES)])
  const rows: Row[] = []
  for (const size of SIZES) rows.push(...(await hashRows(size)))
  for (const size of SIZES) rows.push(...(await storeRows(size)))
  console.table(rows)
} finally {
  await pool.close()
  rmSync(folder, { recursive: true, force: true })
}
