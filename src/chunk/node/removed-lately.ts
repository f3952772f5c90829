/**
 * What was deleted from this node a while ago, so that a copy that is under way, or stands in the queue, does not bring it back: its source may be
 * somebody who has not heard of the deletion yet.
 *
 * Invariants:
 * - An id is noted before its chunk is removed. Who makes a copy looks behind it: one of both sees the other.
 * - Nothing is refused for ever: an id that was lost with the end of the metadata is given out again (../../meta), and its new chunk is
 *   to be copied like any. A put by its writer makes it forget, and so does time.
 * - Memory is bounded; it does not outlive the process. What comes back all the same is an orphan: fsck finds it.
 */
import type { Clock } from '../../base/clock.js'

/** By then who was away for a moment has heard of it from its queue. */
const KEPT_MS = 10 * 60_000
const IDS_MAX = 100_000

export class RemovedLately {
  readonly #clock: Clock
  /** When, by the monotonic clock; the oldest first. */
  readonly #removedMs = new Map<number, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  note(ids: readonly number[]): void {
    const nowMs = this.#clock.monotonicMs()
    for (const id of ids) {
      this.#removedMs.delete(id)
      this.#removedMs.set(id, nowMs)
    }
    for (const [id, removedMs] of this.#removedMs) {
      if (this.#removedMs.size <= IDS_MAX && nowMs - removedMs < KEPT_MS) break
      this.#removedMs.delete(id)
    }
  }

  /** Its writer has put it: it is another one. */
  forget(id: number): void {
    this.#removedMs.delete(id)
  }

  has(id: number): boolean {
    const removedMs = this.#removedMs.get(id)
    return removedMs !== undefined && this.#clock.monotonicMs() - removedMs < KEPT_MS
  }
}
