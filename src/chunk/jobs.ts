/** Hashing, on the calling thread where that is quicker than a hop to a worker (HASH_INLINE_MAX_BYTES), else in a worker. */
import { availableParallelism } from 'node:os'
import { Budget } from '../base/budget.js'
import { HASH_INLINE_MAX_BYTES } from '../base/limits.js'
import { firstBadLeaf, leafHashes, sumBytes } from './hash.js'
import type { Job, WorkerPool } from './pool.js'
import { sharePieces, type SharedBuffers } from './shared-buffer.js'

export interface HashTask {
  readonly pieces: readonly Uint8Array[]
}

export interface CheckTask extends HashTask {
  readonly leaves: Uint8Array
  readonly firstLeaf: number
}

const HASH_JOB: Job<HashTask, Uint8Array> = { file: 'hash', name: 'hash' }
const CHECK_JOB: Job<CheckTask, number> = { file: 'hash', name: 'check' }

/** A Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** In an ArrayBuffer of its own: a structured clone carries all that lies behind a view, be it 32 bytes of a megabyte. */
export function compact(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}

export class Hasher {
  /** One for each core: the pool has more threads, for those that wait for disks, and what is hashed beside others is done later. */
  readonly #places = new Budget(availableParallelism())
  readonly #pool: WorkerPool
  readonly #buffers: SharedBuffers

  constructor(pool: WorkerPool, buffers: SharedBuffers) {
    this.#pool = pool
    this.#buffers = buffers
  }

  /** The leaf table of the joined pieces, which must not change meanwhile. */
  async leaves(pieces: readonly Uint8Array[]): Promise<Buffer> {
    const lengthBytes = sumBytes(pieces)
    if (lengthBytes <= HASH_INLINE_MAX_BYTES) return leafHashes(pieces)
    const shared = sharePieces(this.#buffers, pieces, lengthBytes)
    try {
      return asBuffer(await this.#places.with(() => this.#pool.run(HASH_JOB, { pieces: shared.pieces })))
    } finally {
      shared.release()
    }
  }

  /** As firstBadLeaf: -1 when every leaf matches. */
  async check(pieces: readonly Uint8Array[], leaves: Uint8Array, firstLeaf: number): Promise<number> {
    const lengthBytes = sumBytes(pieces)
    if (lengthBytes <= HASH_INLINE_MAX_BYTES) return firstBadLeaf(pieces, leaves, firstLeaf)
    const shared = sharePieces(this.#buffers, pieces, lengthBytes)
    try {
      const task = { pieces: shared.pieces, leaves: compact(leaves), firstLeaf }
      return await this.#places.with(() => this.#pool.run(CHECK_JOB, task))
    } finally {
      shared.release()
    }
  }
}
