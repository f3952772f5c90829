/**
 * The metadata store alone, on one real Redis: of each operation the round trips, how long it takes one at a time, and how
 * many a second there are with 64 in flight; and what a small file costs Redis.
 *
 *   npm run bench -- meta                        a table
 *   node dist/bench/meta.bench.js --json         the same for programs
 *   node dist/bench/meta.bench.js --files 20000  fewer files than 100,000
 */
import { parseArgs } from 'node:util'
import type { RedisStore } from '../src/cluster/contract.js'
import type { MetaStore } from '../src/meta/contract.js'
import { CountingRedis } from '../test/helpers/counting-redis.js'
import { OPERATIONS, operationGround, type Operation, type OperationGround } from '../test/helpers/meta-operations.js'
import { ROOT, makeDir, touch, volumesOn, writeAt, type OpenVolume } from '../test/helpers/meta.js'
import { startRedis, type TestRedis } from '../test/helpers/redis.js'

const ONE_AT_A_TIME = 300
const WIDTH = 64
const IN_FLIGHT = 3_200
/** Renewals of the lease would be counted, too. */
const LONG_TTL_MS = 3_600_000
const FILE_BYTES = 4_096
const GOAL_BYTES = 350

interface Cost {
  readonly operation: string
  readonly roundTrips: number
  readonly medianUs: number
  readonly p99Us: number
  readonly perSecond: number
}

interface Memory {
  readonly layout: string
  readonly files: number
  readonly bytesPerFile: number
}

/** `run` for each of `count` numbers from `first`, `width` at once; answers how long each took, in ms. */
async function timed(
  count: number,
  width: number,
  first: number,
  run: (i: number) => Promise<unknown>,
): Promise<number[]> {
  const times: number[] = []
  let next = first
  const lane = async (): Promise<void> => {
    while (next < first + count) {
      const i = next++
      const start = performance.now()
      await run(i)
      times.push(performance.now() - start)
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return times.sort((a, b) => a - b)
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0
}

let runs = 0

async function costOf(ground: OperationGround, counting: CountingRedis, operation: Operation): Promise<Cost> {
  const total = 1 + ONE_AT_A_TIME + IN_FLIGHT
  const first = runs
  runs += total
  const { before, run } = operation
  if (before !== undefined) await timed(total, WIDTH, first, (i) => before(ground, i))
  const roundTrips = await counting.during(() => run(ground, first))
  const alone = await timed(ONE_AT_A_TIME, 1, first + 1, (i) => run(ground, i))
  const start = performance.now()
  await timed(IN_FLIGHT, WIDTH, first + 1 + ONE_AT_A_TIME, (i) => run(ground, i))
  const perSecond = (IN_FLIGHT / (performance.now() - start)) * 1_000
  const [medianUs, p99Us] = [0.5, 0.99].map((q) => Math.round(quantile(alone, q) * 1_000))
  return {
    operation: operation.name,
    roundTrips,
    medianUs: medianUs ?? 0,
    p99Us: p99Us ?? 0,
    perSecond: Math.round(perSecond),
  }
}

async function measureCosts(redis: TestRedis, teardown: Teardown): Promise<Cost[]> {
  let counting: CountingRedis | undefined
  const wrap = (store: RedisStore): RedisStore => (counting = new CountingRedis(store))
  const volume = await volumesOn(teardown, redis, wrap)()
  const meta = await volume.client({ sessionTtlMs: LONG_TTL_MS })
  if (counting === undefined) throw new Error('the store is wrapped')
  const costs: Cost[] = []
  // Each in directories of its own: a long listing must not make the next one slow.
  for (const operation of OPERATIONS) {
    const ground = await operationGround(meta, operation.name)
    await meta.chunkId()
    costs.push(await costOf(ground, counting, operation))
  }
  await volume.close()
  return costs
}

async function usedMemory(redis: TestRedis): Promise<number> {
  const info = String(await redis.command(0, 'INFO', 'memory'))
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1])
}

/** Files of one extent, `perDirectory` in each directory. What the connections hold is there before and after. */
async function measureMemory(redis: TestRedis, open: OpenVolume, files: number, perDirectory: number): Promise<Memory> {
  const volume = await open()
  const meta = await volume.client({ sessionTtlMs: LONG_TTL_MS })
  await meta.chunkId()
  const before = await usedMemory(redis)
  const directories: number[] = []
  for (let at = 0; at < files; at += perDirectory) directories.push((await makeDir(meta, ROOT, `d${at}`)).ino)
  await timed(files, WIDTH, 0, (i) => makeFile(meta, directories[Math.floor(i / perDirectory)] ?? 0, i))
  const bytesPerFile = Math.round(((await usedMemory(redis)) - before) / files)
  await volume.close()
  return { layout: perDirectory === files ? 'one directory' : `directories of ${perDirectory}`, files, bytesPerFile }
}

async function makeFile(meta: MetaStore, directory: number, i: number): Promise<void> {
  const { ino } = await touch(meta, directory, `file-${i}.dat`)
  await writeAt(meta, ino, 0, FILE_BYTES)
}

class Teardown {
  readonly #works: (() => unknown)[] = []
  teardown = (work: () => unknown): void => {
    this.#works.push(work)
  }
  async run(): Promise<void> {
    for (const work of this.#works.reverse()) await work()
  }
}

function print(costs: readonly Cost[], memory: readonly Memory[]): void {
  console.log(`${'operation'.padEnd(24)} round trips  median us     p99 us  ${WIDTH} in flight: a second`)
  for (const { operation, roundTrips, medianUs, p99Us, perSecond } of costs) {
    const numbers = [roundTrips, medianUs, p99Us, perSecond].map((one, at) =>
      String(one).padStart([11, 11, 11, 23][at] ?? 0),
    )
    console.log(`${operation.padEnd(24)} ${numbers.join('')}`)
  }
  for (const { layout, files, bytesPerFile } of memory) {
    console.log(`${files} files of 4 KiB, ${layout}: ${bytesPerFile} bytes of Redis a file (goal < ${GOAL_BYTES})`)
  }
}

const { values } = parseArgs({ options: { json: { type: 'boolean' }, files: { type: 'string', default: '100000' } } })
const files = Number(values.files)
const teardown = new Teardown()
try {
  const redis = await startRedis(teardown)
  const costs = await measureCosts(redis, teardown)
  const open = volumesOn(teardown, redis)
  const memory: Memory[] = []
  for (const perDirectory of [100, files]) memory.push(await measureMemory(redis, open, files, perDirectory))
  if (values.json === true) console.log(JSON.stringify({ costs, memory }, null, 2))
  else print(costs, memory)
} finally {
  await teardown.run()
}
