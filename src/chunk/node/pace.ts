/** Keeps to so many bytes a second, on average: who has spent more waits until that is made up for. */
import type { Clock } from '../../base/clock.js'

/** A limit that was raised is noticed after so long. */
const LOOK_MS = 500
/** What was not used is not saved up for longer. */
const SAVED_MS = 1_000
/** Weight of the newest second in the average that is shown. */
const SHARE = 0.3

export class Pace {
  readonly #clock: Clock
  readonly #bytesPerS: () => number
  #owedBytes = 0
  #paidMs: number
  #totalBytes = 0
  #shown: { readonly atMs: number; readonly totalBytes: number; readonly bytesPerS: number }

  /** `bytesPerS`: the limit of the moment; 0: none. */
  constructor(clock: Clock, bytesPerS: () => number) {
    this.#clock = clock
    this.#bytesPerS = bytesPerS
    this.#paidMs = clock.monotonicMs()
    this.#shown = { atMs: this.#paidMs, totalBytes: 0, bytesPerS: 0 }
  }

  /** Resolves when the next transfer may begin: its length need not be known. */
  async ready(): Promise<void> {
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

  spent(bytes: number): void {
    this.#owedBytes += bytes
    this.#totalBytes += bytes
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
