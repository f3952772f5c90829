/**
 * Most small files are made, written once and closed. Where that was so of the last few files, the bytes of the next go on their
 * way with their first write, and not with the close, which then has less to wait for. A guess that was wrong costs one commit more,
 * and nothing is guessed until it was right again for a while.
 *
 * Invariant: nothing but the moment changes in which the bytes are sent. They might be at any time (limits.ts, flushAfterMs); the
 * close waits for their commit and reports its failure as ever.
 */
import type { MetaStore } from '../meta/contract.js'
import type { InodeState } from './inode-state.js'

/** So many files in a row make a habit. */
const HABIT_MIN = 4

export class EarlyCommits {
  readonly #meta: MetaStore
  #inARow = 0

  constructor(meta: MetaStore) {
    this.#meta = meta
  }

  /** Bytes were taken up to `end`. */
  wrote(state: InodeState, end: number): void {
    if (!state.isNew) return
    if (++state.writes > 1) this.#broke(state)
    else if (this.#inARow >= HABIT_MIN && end <= this.#meta.wholeInlineBytes) {
      // Behind the answer to the write.
      setImmediate(() => void state.writer.flush())
    }
  }

  /** Its times, owner or mode are set: that goes with the bytes, if they have not gone yet. */
  changed(state: InodeState): void {
    if (state.isNew && state.writes > 0) this.#broke(state)
  }

  /** It is closed, or put to disk. */
  flushed(state: InodeState): void {
    if (!state.isNew) return
    state.isNew = false
    if (state.writes === 1) this.#inARow++
  }

  #broke(state: InodeState): void {
    state.isNew = false
    this.#inARow = 0
  }
}
