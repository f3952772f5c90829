/**
 * Giving up copies that others have.
 *
 * Invariant: a copy that is being given up is missing already for whoever asks `lacks`: two nodes that give up the same chunk do not
 * rely on each other.
 */
import type { KeyedLock } from './keyed-lock.js'

/** Others verify them meanwhile: up to 64 MiB. */
const BATCH_MAX = 16

export type Confirm = (ids: readonly number[]) => Promise<readonly number[]>

export class Retiring {
  readonly #locks: KeyedLock
  readonly #remove: (ids: readonly number[]) => Promise<void>
  readonly #ids = new Set<number>()

  /** `remove` is called while the ids' locks are held. */
  constructor(locks: KeyedLock, remove: (ids: readonly number[]) => Promise<void>) {
    this.#locks = locks
    this.#remove = remove
  }

  has(id: number): boolean {
    return this.#ids.has(id)
  }

  /** As ChunkDisk.retire. */
  async retire(ids: readonly number[], confirm: Confirm): Promise<number> {
    const given = await this.#locks.runBatches(ids, BATCH_MAX, (batch) => this.#retireBatch(batch, confirm))
    return given.reduce((sum, count) => sum + count, 0)
  }

  async #retireBatch(ids: readonly number[], confirm: Confirm): Promise<number> {
    // Before anybody is asked: see the invariant.
    for (const id of ids) this.#ids.add(id)
    try {
      const safe = await confirm(ids)
      await this.#remove(safe)
      return safe.length
    } finally {
      for (const id of ids) this.#ids.delete(id)
    }
  }
}
