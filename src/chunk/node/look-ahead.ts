/**
 * A chunk that is written into a log must not have a file already, and that is looked for before it is written. The folder in which it would lie is
 * one of thousands: what the kernel does not remember of it is read from the disk, while the writer of an fsync waits, for one node after the
 * other. So for who writes chunk after chunk a thread looks for the next ones beforehand, and the kernel remembers.
 *
 * Nothing depends on what is found then, or on when.
 */
import type { Job, WorkerPool } from '../pool.js'
import type { ChunkPaths } from './paths.js'
import type { FilesTask } from './tasks.js'

const LOOK_JOB: Job<FilesTask, readonly boolean[]> = { file: 'disk', name: 'exist' }
/** So many are looked for at once, and it is begun with so many left. */
const AHEAD = 32
const LEFT = 16

export class LookAhead {
  readonly #pool: Pick<WorkerPool, 'run'>
  readonly #paths: ChunkPaths
  #last = -Infinity
  /** Up to here they were looked for. */
  #until = -Infinity
  #isLooking = false

  constructor(pool: Pick<WorkerPool, 'run'>, paths: ChunkPaths) {
    this.#pool = pool
    this.#paths = paths
  }

  /** A chunk is written. Ids are given out in a row, not all of them to small chunks, and those of several writers cross. */
  wrote(id: number): void {
    const isNear = id !== this.#last && Math.abs(id - this.#last) <= LEFT
    this.#last = isNear ? Math.max(id, this.#last) : id
    if (!isNear) this.#until = id
    else if (!this.#isLooking && this.#until <= this.#last + LEFT) void this.#look()
  }

  async #look(): Promise<void> {
    const files: string[] = []
    const first = Math.max(this.#last, this.#until) + 1
    this.#until = this.#last + AHEAD
    for (let id = first; id <= this.#until; id++) files.push(this.#paths.fileOf(id))
    this.#isLooking = true
    // The pool may be closed.
    await this.#pool.run(LOOK_JOB, { files }).catch(() => undefined)
    this.#isLooking = false
  }
}
