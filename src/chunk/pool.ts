/**
 * The worker threads of a process: the only place that knows Piscina. One pool for hashing and disk, shared by the chunk
 * client and the chunk store, because they share the same two or four cores.
 *
 * `atomics: 'sync'`: an idle worker sleeps in Atomics.wait (a futex: no CPU) and wakes in about 23 us, without going through
 * its event loop. The price: nothing asynchronous may run in a worker between jobs. Ours are plain functions.
 */
import type { Piscina } from 'piscina'
import { RingfsError } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
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
  // Seen from dist/src/chunk/pool.js: the compiled workers are in dist/workers.
  hash: new URL('../../workers/hash.js', import.meta.url).href,
  disk: new URL('../../workers/disk.js', import.meta.url).href,
}

export interface PoolOptions {
  /** Worker threads. Default 2. */
  readonly threads?: number
}

export class WorkerPool {
  readonly #threads: number
  readonly #running = new Set<Promise<unknown>>()
  #starting: Promise<Piscina<unknown, unknown>> | null = null
  #piscina: Piscina<unknown, unknown> | null = null
  #closed = false

  constructor(options: PoolOptions = {}) {
    this.#threads = options.threads ?? 2
  }

  /** Starts the threads at the first call. Errors: what the job failed with; RingfsError CANCELLED after close(). */
  async run<Input, Output>(
    job: Job<Input, Output>,
    input: Input,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<Output> {
    if (this.#closed) throw new RingfsError('CANCELLED', 'the worker pool is closed')
    const running = this.#post(job, input, transfer)
    this.#running.add(running)
    try {
      const outcome = await running
      invariant(isOutcome<Output>(outcome), 'a worker answers an outcome')
      return unwrap(outcome)
    } finally {
      this.#running.delete(running)
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
      minThreads: this.#threads,
      maxThreads: this.#threads,
      atomics: 'sync',
      recordTiming: false,
      // Flags of the main thread (loaders, inspectors) are none of a worker's business.
      execArgv: [],
    })
  }

  /**
   * Running jobs finish; later ones are refused. Idempotent. They are waited for here: Piscina's close() counts a worker that
   * ends two jobs as two, ends the other ones in the middle of theirs, and then throws about the answers it did not expect.
   */
  async close(): Promise<void> {
    this.#closed = true
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
    const piscina = this.#piscina
    this.#piscina = null
    if (piscina !== null) await piscina.destroy()
  }
}
