/**
 * Keeps to so many bytes a second, on average: who has spent more waits until that is made up for. Of many that wait only one begins at a
 * time, with the length that transfers have as a rule put down for it: else all of them would begin at once, again and again.
 */
import type { Clock } from '../../base/clock.js'
import { CHUNK_MAX_BYTES } from '../../base/limits.js'

/** A limit that was raised is noticed after so long. */
const LOOK_MS = 500
/** What was not used is not saved up for longer. */
const SAVED_MS = 1_000
/** Weight of the newest second in the average that is shown, and of the newest transfer in that of their lengths. */
const SHARE = 0.3

export class Pace {
  readonly #clock: Clock
  readonly #bytesPerS: () => number
  #owedBytes = 0
  #paidMs: number
  #totalBytes = 0
  #usualBytes = CHUNK_MAX_BYTES
  #turn: Promise<void> = Promise.resolve()
  #shown: { readonly atMs: number; readonly totalBytes: number; readonly bytesPerS: number }

  /** `bytesPerS`: the limit of the moment; 0: none. */
  constructor(clock: Clock, bytesPerS: () => number) {
    this.#clock = clock
    this.#bytesPerS = bytesPerS
    this.#paidMs = clock.monotonicMs()
    this.#shown = { atMs: this.#paidMs, totalBytes: 0, bytesPerS: 0 }
  }

  /** Resolves when the next transfer may begin: its length need not be known. What it answers is to be told the length in the end, 0 for none. */
  async ready(): Promise<(bytes: number) => void> {
    let expected = 0
    this.#turn = this.#turn.then(async () => {
      await this.#room()
      expected = this.#usualBytes
      this.#owedBytes += expected
    })
    await this.#turn
    return (bytes) => {
      this.#owedBytes += bytes - expected
      this.#totalBytes += bytes
      if (bytes > 0) this.#usualBytes += (bytes - this.#usualBytes) * SHARE
    }
  }

  async #room(): Promise<void> {
    for (;;) {
      const waitMs = this.#waitMs()
      if (waitMs <= 0) return
      await this.#clock.sleep(Math.min(LOOK_MS, waitMs))
    }
  }

  #waitMs(): number {
    const nowMs = this.#clock.monotonicMs()
    const limit = this.#bytesPerS()
    const passedMs = nowMs - this.#paidMs
    this.#paidMs = nowMs
    if (limit <= 0) {
      this.#owedBytes = 0
      return 0
    }
    this.#owedBytes = Math.max((-limit * SAVED_MS) / 1000, this.#owedBytes - (limit * passedMs) / 1000)
    return (this.#owedBytes / limit) * 1000
  }

  get totalBytes(): number {
    return this.#totalBytes
  }

  /** Average over the last seconds. */
  get bytesPerS(): number {
    const nowMs = this.#clock.monotonicMs()
    const { atMs, totalBytes, bytesPerS } = this.#shown
    if (nowMs - atMs < 1000) return bytesPerS
    const now = ((this.#totalBytes - totalBytes) / (nowMs - atMs)) * 1000
    const average = bytesPerS + (now - bytesPerS) * SHARE
    this.#shown = { atMs: nowMs, totalBytes: this.#totalBytes, bytesPerS: average < 1 ? 0 : average }
    return this.#shown.bytesPerS
  }
}
