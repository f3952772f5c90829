/** Long chunks, written by a thread. */
import { availableParallelism } from 'node:os'
import { whileWanted, type CancelSignal } from '../../base/cancel.js'
import { threadPlaces } from '../../base/thread-places.js'
import type { Job, WorkerPool } from '../pool.js'
import { sharePieces, type SharedBuffers } from '../shared-buffer.js'
import type { DirectChoice } from './direct-choice.js'
import { canBeDirect } from './direct-file.js'
import type { HashStoreResult, HashStoreTask, StoreResult, StoreTask } from './tasks.js'

const STORE_JOB: Job<StoreTask, StoreResult> = { file: 'disk', name: 'store' }
const HASH_STORE_JOB: Job<HashStoreTask, HashStoreResult> = { file: 'disk', name: 'hashAndStore' }

interface Parts {
  readonly pool: WorkerPool
  readonly buffers: SharedBuffers
  readonly direct: DirectChoice
}

export class StoreJobs {
  readonly #parts: Parts
  /** One processor is left to the program that writes, and to whoever takes what it writes: both have less of a say than threads that compute without a rest. */
  readonly #places = threadPlaces(Math.max(1, availableParallelism() - 1))

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async store(task: StoreTask, lengthBytes: number): Promise<StoreResult> {
    return await this.#write(task.data, lengthBytes, (data, direct) =>
      this.#parts.pool.run(STORE_JOB, { ...task, data, direct }),
    )
  }

  /** What `signal` tells the thread sees, too. Errors: CANCELLED. */
  async hashAndStore(
    task: Omit<HashStoreTask, 'data' | 'direct' | 'givenUp' | 'places'>,
    pieces: readonly Uint8Array[],
    lengthBytes: number,
    signal: CancelSignal | undefined,
  ): Promise<HashStoreResult> {
    const givenUp = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
    return await whileWanted(signal, async (wanted) => {
      const giveUp = (): void => void Atomics.store(givenUp, 0, 1)
      if (wanted.aborted) giveUp()
      wanted.addEventListener('abort', giveUp)
      return await this.#write(pieces, lengthBytes, (data, direct) =>
        this.#parts.pool.run(HASH_STORE_JOB, { ...task, data, direct, givenUp, places: this.#places }),
      )
    })
  }

  /** `write` gets memory that the thread sees, and whether to go past the page cache. */
  async #write<T extends StoreResult>(
    pieces: readonly Uint8Array[],
    lengthBytes: number,
    write: (data: readonly Uint8Array[], direct: boolean) => Promise<T>,
  ): Promise<T> {
    const { buffers, direct } = this.#parts
    const shared = sharePieces(buffers, pieces, lengthBytes)
    const isDirect = canBeDirect(shared.pieces) && direct.forWrite()
    try {
      const result = await write(shared.pieces, isDirect)
      if (result.created) direct.noteWrite(isDirect, result, lengthBytes)
      return result
    } finally {
      shared.release()
    }
  }
}
