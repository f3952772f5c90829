/** The threads of load, and what they did together. */
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { TIMER_BUCKETS } from '../../base/metrics.js'
import { BUILD_FOLDER } from '../../base/places.js'
import { STOP, type Done, type Order, type Outcome, type ThreadData } from './orders.js'

/** Of all threads. */
export interface Together {
  readonly operations: number
  readonly bytes: number
  /** From the first one's beginning to the last one's end. */
  readonly seconds: number
  readonly buckets: readonly number[]
}

export class LoadThreads {
  readonly #workers: readonly Worker[]
  readonly #control: Int32Array
  readonly #progress: Float64Array

  private constructor(workers: readonly Worker[], control: Int32Array, progress: Float64Array) {
    this.#workers = workers
    this.#control = control
    this.#progress = progress
  }

  static async start(folder: string, count: number): Promise<LoadThreads> {
    const control = new Int32Array(new SharedArrayBuffer(4))
    const progress = new Float64Array(new SharedArrayBuffer(8 * count))
    const folders = Array.from({ length: count }, (_, index) => join(folder, `thread${index}`))
    for (const own of folders) await mkdir(own)
    const workers = folders.map((own, index) => {
      const workerData: ThreadData = { folder: own, index, control, progress }
      return new Worker(new URL('src/cli/bench/worker.js', BUILD_FOLDER), { workerData })
    })
    // In the same turn in which they are made: one that is online already says so only once.
    await Promise.all(workers.map((worker) => once(worker, 'online')))
    return new LoadThreads(workers, control, progress)
  }

  /** Operations done of what runs now. */
  get operations(): number {
    return this.#progress.reduce((sum, count) => sum + count, 0)
  }

  /** All at once. Errors: the first that one of them met. */
  async run(order: Order): Promise<Together> {
    this.#progress.fill(0)
    const outcomes = await Promise.all(this.#workers.map((worker) => ask(worker, order)))
    return together(outcomes.map(doneOf))
  }

  /** They end after the call that is under way, and do nothing more. */
  stop(): void {
    Atomics.store(this.#control, STOP, 1)
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()))
  }
}

function ask(worker: Worker, order: Order): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error('a thread of the bench ended'))
    worker.once('exit', onExit)
    worker.once('error', reject)
    worker.once('message', (outcome: Outcome) => {
      worker.off('exit', onExit)
      worker.off('error', reject)
      resolve(outcome)
    })
    worker.postMessage(order)
  })
}

function doneOf(outcome: Outcome): Done {
  if (!('message' in outcome)) return outcome
  const { message, errno } = outcome
  throw Object.assign(new Error(message), errno === undefined ? {} : { errno })
}

function together(all: readonly Done[]): Together {
  const began = all.reduce((least, { startedNs }) => (startedNs < least ? startedNs : least), all[0]?.startedNs ?? 0n)
  const ended = all.reduce((most, { endedNs }) => (endedNs > most ? endedNs : most), 0n)
  const buckets = Array.from({ length: TIMER_BUCKETS }, (_, at) => {
    return all.reduce((sum, one) => sum + (one.buckets[at] ?? 0), 0)
  })
  return {
    operations: all.reduce((sum, one) => sum + one.operations, 0),
    bytes: all.reduce((sum, one) => sum + one.bytes, 0),
    seconds: Number(ended - began) / 1e9,
    buckets,
  }
}
