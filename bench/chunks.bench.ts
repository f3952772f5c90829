/**
 * The chunk path alone: a client here, chunk nodes as processes of their own (three with three replicas, then one in this
 * process), no Redis, no mount.
 *
 *   npm run bench -- chunks                        a table, beside what the local disk does
 *   node dist/bench/chunks.bench.js --json         the same for programs
 *   node dist/bench/chunks.bench.js --mb 128 --only 3
 *
 * Beside each rate stands the CPU time that it took, of the client and all nodes together, in microseconds for each MB or
 * operation: on a machine with other work it says more than the rate.
 *
 * Cold: what the kernel has cached is dropped first; without the right to do so (root), "cold" is warm.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CHUNK_MAX_BYTES, KIB, MIB } from '../src/base/limits.js'
import { pageAlignedMemory } from '../src/base/shared-memory.js'
import type { ChunkClient, ChunkRef } from '../src/chunk/contract.js'
import { startProcesses } from '../test/helpers/chunk-processes.js'
import { originOf, startLocalNode, type Teardown } from '../test/helpers/chunks.js'

interface Row {
  readonly what: string
  readonly rate: number
  readonly unit: 'MB/s' | '/s'
  /** Microseconds for each MB or operation. */
  readonly cpu: number
}

interface Cost {
  readonly seconds: number
  readonly cpuUs: number
}

/** The client, and processes that work for it. */
interface Ground {
  readonly client: ChunkClient
  readonly pids: readonly number[]
}

const WIDTH = 4
const SMALL = 4 * KIB
const RANDOM_READS = 600
const SMALL_WRITES = 400

const WRITE_LARGE = 'write 4 MiB chunks, and sync them'
const READ_COLD = 'read 4 MiB chunks, cold'
const READ_WARM = 'read 4 MiB chunks, warm'
const RANDOM_COLD = 'read 4 KiB of them, cold, one at a time'
const SYNCED = 'write and sync 4 KiB, one at a time'

const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '128' },
    only: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
  },
})
const count = Math.max(1, Math.floor((Number(values.mb) * MIB) / CHUNK_MAX_BYTES))
let nextId = 1

function dropCaches(): void {
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3')
  } catch {
    // Not root: the figures called cold are warm.
  }
}

const TICK_US = 10_000

/** CPU time of other processes, as far as /proc tells, and of this one. */
function cpuUs(pids: readonly number[]): number {
  const { user, system } = process.cpuUsage()
  let sum = user + system
  for (const pid of pids) {
    try {
      // utime and stime of proc(5), counted from behind the name, which may hold anything.
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? []
      sum += (Number(fields[11]) + Number(fields[12])) * TICK_US
    } catch {
      // No /proc: only this process is counted.
    }
  }
  return sum
}

async function costOf({ pids }: Ground, work: () => Promise<unknown>): Promise<Cost> {
  const startCpu = cpuUs(pids)
  const start = performance.now()
  await work()
  return { seconds: (performance.now() - start) / 1000, cpuUs: cpuUs(pids) - startCpu }
}

/** Runs `work` for 0 to n - 1, `width` at once. */
async function lanes(n: number, width: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < n) await work(next++)
  }
  await Promise.all(Array.from({ length: width }, lane))
}

function rowOf(what: string, unit: Row['unit'], count: number, { seconds, cpuUs }: Cost): Row {
  return { what, rate: count / seconds, unit, cpu: cpuUs / count }
}

/** Large chunks, as a file copy writes them, with the fsync at its end; then read back. */
async function large(ground: Ground): Promise<{ rows: Row[]; refs: ChunkRef[] }> {
  const { client } = ground
  const data = Array.from({ length: WIDTH }, () => {
    const bytes = Buffer.from(pageAlignedMemory(CHUNK_MAX_BYTES))
    return bytes.fill(randomBytes(64 * KIB + 1))
  })
  const refs: ChunkRef[] = []
  const write = async (index: number): Promise<void> => {
    const bytes = data[index % WIDTH] ?? Buffer.alloc(1)
    const options = { durability: 'quorum', sync: false } as const
    refs.push(await client.write(nextId++, [bytes], originOf(bytes.length), options))
  }
  const read = async (index: number): Promise<void> => {
    const ref = refs[index]
    if (ref !== undefined) (await client.lend(ref, 0, ref.lengthBytes)).release()
  }
  const megabytes = (count * CHUNK_MAX_BYTES) / MIB
  const written = await costOf(ground, async () => {
    await lanes(count, WIDTH, write)
    await client.sync(refs.map(({ id }) => id))
  })
  dropCaches()
  const cold = await costOf(ground, () => lanes(count, WIDTH, read))
  const warm = await costOf(ground, () => lanes(count, WIDTH, read))
  const rows = [
    rowOf(WRITE_LARGE, 'MB/s', megabytes, written),
    rowOf(READ_COLD, 'MB/s', megabytes, cold),
    rowOf(READ_WARM, 'MB/s', megabytes, warm),
  ]
  return { rows, refs }
}

/** A fixed sequence, so that runs compare. */
function scattered(index: number, below: number): number {
  return Math.floor((((index + 1) * 0.618_033_988_75) % 1) * below)
}

async function small(ground: Ground, refs: readonly ChunkRef[]): Promise<Row[]> {
  const { client } = ground
  const read = async (index: number): Promise<void> => {
    const ref = refs[scattered(index, refs.length)]
    if (ref === undefined) return
    const offset = scattered(index * 7, ref.lengthBytes / SMALL) * SMALL
    const { release } = await client.lend(ref, offset, SMALL)
    release()
  }
  const bytes = randomBytes(SMALL)
  const write = (sync: boolean) => (): Promise<unknown> =>
    client.write(nextId++, [bytes], originOf(SMALL), { durability: 'quorum', sync })
  const rows: Row[] = []
  const measure = async (what: string, n: number, width: number, work: (index: number) => Promise<unknown>) => {
    rows.push(rowOf(what, '/s', n, await costOf(ground, () => lanes(n, width, work))))
  }
  dropCaches()
  await measure(RANDOM_COLD, RANDOM_READS, 1, read)
  await measure('read 4 KiB of them, warm, one at a time', RANDOM_READS, 1, read)
  await measure('write 4 KiB chunks, one at a time', SMALL_WRITES, 1, write(false))
  await measure('write 4 KiB chunks, 16 at once', SMALL_WRITES, 16, write(false))
  await measure(SYNCED, SMALL_WRITES / 2, 1, write(true))
  await measure('write and sync 4 KiB, 16 at once', SMALL_WRITES, 16, write(true))
  return rows
}

/** What the disk and its filesystem do by themselves. */
function local(folder: string): Row[] {
  const bytes = Buffer.alloc(MIB, randomBytes(64 * KIB + 1))
  const file = join(folder, 'local')
  const fd = openSync(file, 'w+')
  const megabytes = (count * CHUNK_MAX_BYTES) / MIB
  const row = (what: string, unit: Row['unit'], n: number, work: () => void): void => {
    const startCpu = cpuUs([])
    const start = performance.now()
    work()
    rows.push(rowOf(what, unit, n, { seconds: (performance.now() - start) / 1000, cpuUs: cpuUs([]) - startCpu }))
  }
  const rows: Row[] = []
  row(WRITE_LARGE, 'MB/s', megabytes, () => {
    for (let at = 0; at < megabytes; at++) writeSync(fd, bytes)
    fdatasyncSync(fd)
  })
  const readAll = (): void => {
    for (let at = 0; at < megabytes; at++) readSync(fd, bytes, 0, MIB, at * MIB)
  }
  dropCaches()
  row(READ_COLD, 'MB/s', megabytes, readAll)
  row(READ_WARM, 'MB/s', megabytes, readAll)
  dropCaches()
  const blocks = (megabytes * MIB) / SMALL
  row(RANDOM_COLD, '/s', RANDOM_READS, () => {
    for (let i = 0; i < RANDOM_READS; i++) readSync(fd, bytes, 0, SMALL, scattered(i, blocks) * SMALL)
  })
  row(SYNCED, '/s', SMALL_WRITES / 2, () => {
    for (let i = 0; i < SMALL_WRITES / 2; i++) {
      writeSync(fd, bytes, 0, SMALL, scattered(i, blocks) * SMALL)
      fdatasyncSync(fd)
    }
  })
  closeSync(fd)
  return rows
}

async function measure(open: (end: Teardown) => Promise<Ground>): Promise<Row[]> {
  const ends: (() => unknown)[] = []
  try {
    const ground = await open({ teardown: (end) => void ends.unshift(end) })
    const { rows, refs } = await large(ground)
    return [...rows, ...(await small(ground, refs))]
  } finally {
    for (const end of ends) await end()
  }
}

const folder = mkdtempSync(join(tmpdir(), 'ringfs-bench-'))
const columns: { readonly name: string; readonly rows: readonly Row[] }[] = []
try {
  columns.push({ name: 'local', rows: local(folder) })
  if (values.only !== '1') {
    const rows = await measure(async (end) => {
      const processes = await startProcesses(end, 3, 'tcp')
      return { client: processes.client(), pids: processes.nodes.flatMap(({ pid }) => pid ?? []) }
    })
    columns.push({ name: '3 nodes', rows })
  }
  if (values.only !== '3') {
    const rows = await measure(async (end) => ({ client: await startLocalNode(end), pids: [] }))
    columns.push({ name: 'in process', rows })
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
const table = (columns.at(-1)?.rows ?? []).map(({ what, unit }) => {
  const line: Record<string, string | number> = { what, unit }
  for (const { name, rows } of columns) {
    const row = rows.find((one) => one.what === what)
    line[name] = row === undefined ? '' : Math.round(row.rate)
    line[`${name}, CPU us`] = row === undefined ? '' : Math.round(row.cpu)
  }
  return line
})
if (values.json) console.log(JSON.stringify(table))
else console.table(table)
