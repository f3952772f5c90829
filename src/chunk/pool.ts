/**
 * The worker threads of a process: the only place that knows Piscina. One pool for hashing and disk, shared by the chunk
 * client and the chunk store, because they share the same two or four cores.
 *
 * `atomics: 'sync'`: an idle worker sleeps in Atomics.wait (a futex: no CPU) and wakes in about 23 us, without going through
 * its event loop. The price: nothing asynchronous may run in a worker between jobs. Ours are plain functions.
 */
import type { Piscina } from 'piscina'
import { systemClock, type Clock } from '../base/clock.js'
import { RingfsError } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import { BUILD_FOLDER } from '../base/places.js'
import { settledWithin } from './deadline.js'
import { isOutcome, unwrap } from './outcome.js'

interface Worked {
  readonly file: WorkerFile
  readonly name: string
}

/** A function exported by a module of workers/; its input and output travel as structured clones. */
export interface Job<Input, Output> extends Worked {
  /** Types only. */
  readonly types?: (input: Input) => Output
}

export type WorkerFile = 'hash' | 'disk'

const FILES: Readonly<Record<WorkerFile, string>> = {
  hash: new URL('workers/hash.js', BUILD_FOLDER).href,
  disk: new URL('workers/disk.js', BUILD_FOLDER).href,
}

export interface PoolOptions {
  /** Worker threads, at most. Default 4. */
  readonly threads?: number
  /** Those beyond the first end as soon as there is nothing to do. Default: they stay. */
  readonly shrinks?: boolean
  readonly clock?: Pick<Clock, 'after'>
}

/** More than two cores can use: a thread that waits for its disk hashes nothing meanwhile. */
const THREADS = 4

/** MiB. Jobs leave little garbage; what V8 would use otherwise is 16 MiB and more for each thread. */
const YOUNG_GENERATION_MB = 2

/** So long running jobs may take when the pool is closed: a disk that hangs keeps its thread for ever. */
const CLOSE_WAIT_MS = 10_000
const DESTROY_WAIT_MS = 1_000

let stuck = 0

/**
 * Threads of closed pools that wait in the kernel. process.exit() waits for them without end (Node joins its workers): the process has to
 * be ended otherwise.
 */
export function stuckThreads(): number {
  return stuck
}

export class WorkerPool {
  readonly #threads: number
  readonly #shrinks: boolean
  readonly #clock: Pick<Clock, 'after'>
  readonly #running = new Set<Promise<unknown>>()
  #starting: Promise<Piscina<unknown, unknown>> | null = null
  #piscina: Piscina<unknown, unknown> | null = null
  #closed = false
  #closing: Promise<void> | undefined

  constructor(options: PoolOptions = {}) {
    this.#threads = options.threads ?? THREADS
    this.#shrinks = options.shrinks ?? false
    this.#clock = options.clock ?? systemClock
  }

  /** Starts a thread at the first call, and another one whenever all are busy. Errors: what the job failed with; RingfsError CANCELLED after close(). */
  async run<Input, Output>(
    job: Job<Input, Output>,
    input: Input,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<Output> {
    if (this.#closed) throw new RingfsError('CANCELLED', 'the worker pool is closed')
    const running = this.#post(job, input, transfer)
    this.#running.add(running)
    try {
      const outcome = await this.#unlessEnded(running)
      invariant(isOutcome<Output>(outcome), 'a worker answers an outcome')
      return unwrap(outcome)
    } finally {
      this.#running.delete(running)
    }
  }

  /** What a thread is not let finish is cancelled. */
  async #unlessEnded(running: Promise<unknown>): Promise<unknown> {
    try {
      return await running
    } catch (error) {
      if (this.#piscina !== null) throw error
      throw new RingfsError('CANCELLED', 'the worker pool was closed', { cause: error })
    }
  }

  async #post(job: Worked, input: unknown, transfer: readonly ArrayBuffer[]): Promise<unknown> {
    this.#piscina ??= await (this.#starting ??= this.#start())
    return this.#piscina.run(input, { filename: FILES[job.file], name: job.name, transferList: [...transfer] })
  }

  /** Loaded at the first job: commands that hash nothing need no threads. */
  async #start(): Promise<Piscina<unknown, unknown>> {
    const { Piscina } = await import('piscina')
    return new Piscina({
      // Each costs some 30 ms of CPU before its first job: a node that has little to do needs one.
      minThreads: 1,
      maxThreads: this.#threads,
      idleTimeout: this.#shrinks ? 0 : Infinity,
      atomics: 'sync',
      recordTiming: false,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      // Flags of the main thread (loaders, inspectors) are none of a worker's business.
      execArgv: [],
    })
  }

  /**
   * Running jobs finish, if they do in 10 s; later ones are refused. Idempotent. They are waited for here: Piscina's close() counts a worker
   * that ends two jobs as two, ends the other ones in the middle of theirs, and then throws about the answers it did not expect.
   */
  close(): Promise<void> {
    this.#closed = true
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await settledWithin(this.#idle(), CLOSE_WAIT_MS, this.#clock)
    const piscina = this.#piscina
    this.#piscina = null
    if (piscina === null) return
    const count = this.#running.size
    if (count === 0) return piscina.destroy()
    stuck += count
    const ended = piscina.destroy().then(() => void (stuck -= count))
    await settledWithin(ended, DESTROY_WAIT_MS, this.#clock)
  }

  async #idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
  }
}
