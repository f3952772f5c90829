/**
 * The memory of written data of all files: how much there is, and who must give way when it runs out or gets old.
 *
 * Invariant: a writer that waits for room always gets it. Whenever anyone waits, either enough sealed data is on its way
 * to the store (its upload ends or gives up at a deadline), or the oldest active batches are sealed until it is.
 */
import { Budget } from '../base/budget.js'
import type { Clock } from '../base/clock.js'
import { BlockPool } from './blocks.js'
import type { Batch } from './dirty-map.js'

/** Who owns a batch and can send it on its way. */
export interface BatchOwner {
  seal(batch: Batch): void
}

const AGE_TICK_MS = 500

export class DirtyMemory {
  readonly budget: Budget
  readonly blocks = new BlockPool()
  readonly #clock: Clock
  readonly #flushAfterMs: number
  /** Oldest first: a Map keeps the order of insertion. */
  readonly #active = new Map<Batch, BatchOwner>()
  #sealedBytes = 0
  #aging = false

  constructor(limitBytes: number, flushAfterMs: number, clock: Clock) {
    this.#clock = clock
    this.#flushAfterMs = flushAfterMs
    this.budget = new Budget(limitBytes, (amount) => this.#relieve(amount))
  }

  activated(batch: Batch, owner: BatchOwner): void {
    this.#active.set(batch, owner)
    if (!this.#aging) void this.#watchAge()
  }

  /** The batch takes no more writes; its bytes count as on their way until `released`. */
  sealed(batch: Batch): void {
    if (this.#active.delete(batch)) this.#sealedBytes += batch.allocatedBytes
  }

  /** The batch is committed or dropped and no upload reads it any more. */
  released(batch: Batch): void {
    if (!this.#active.delete(batch)) this.#sealedBytes -= batch.allocatedBytes
    batch.free()
    this.budget.give(batch.allocatedBytes)
  }

  #relieve(amount: number): void {
    const target = Math.max(amount, this.budget.limit / 4)
    for (const [batch, owner] of this.#active) {
      if (this.#sealedBytes >= target) return
      owner.seal(batch)
    }
  }

  /** Runs only while there is anything to watch. */
  async #watchAge(): Promise<void> {
    this.#aging = true
    while (this.#active.size > 0) {
      await this.#clock.sleep(AGE_TICK_MS)
      const bornBeforeMs = this.#clock.monotonicMs() - this.#flushAfterMs
      for (const [batch, owner] of this.#active) {
        if (batch.bornMs > bornBeforeMs) break
        owner.seal(batch)
      }
    }
    this.#aging = false
  }
}
