/** One thread of load. It is told what to do, does it without a pause, and answers what came of it. */
import { parentPort, workerData } from 'node:worker_threads'
import { invariant } from '../../base/invariant.js'
import { Timer } from '../../base/metrics.js'
import { LOADS, type Made } from './load.js'
import { STOP, type Order, type Outcome, type ThreadData } from './orders.js'

const data: unknown = workerData
invariant(isThreadData(data), 'started by threads.ts')
const { folder, index, control, progress } = data
const made: Made = { folder, largeBytes: 0, files: [], fileFolders: [], directories: [], emptyFiles: [] }

const random = ((state: number) => (limit: number) => {
  // xorshift32 (Marsaglia 2003): the same places in every run.
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return Math.floor(((state >>> 0) / 2 ** 32) * limit)
})(2_463_534_242 + index)

parentPort?.on('message', (order: Order) => parentPort?.postMessage(obey(order)))

function obey({ work, amount, limitMs }: Order): Outcome {
  const timer = new Timer()
  let [operations, bytes] = [0, 0]
  const startMs = performance.now()
  const startedNs = process.hrtime.bigint()
  const on = (more: number): boolean => {
    operations++
    bytes += more
    progress[index] = operations
    return Atomics.load(control, STOP) === 0 && performance.now() - startMs < limitMs
  }
  try {
    LOADS[work](made, { amount, timer, on, random })
    return { startedNs, endedNs: process.hrtime.bigint(), operations, bytes, buckets: [...timer.buckets] }
  } catch (error) {
    const isSystem = error instanceof Error && 'errno' in error && typeof error.errno === 'number'
    return { message: error instanceof Error ? error.message : String(error), ...(isSystem && { errno: error.errno }) }
  }
}

function isThreadData(value: unknown): value is ThreadData {
  return typeof value === 'object' && value !== null && 'folder' in value && 'control' in value && 'progress' in value
}
