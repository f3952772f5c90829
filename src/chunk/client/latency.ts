/** When a read is slow: a high percentile of the last reads of the same size class. Then a second node is asked too. */
const KEPT = 128
const RECOMPUTE_EVERY = 16
const PERCENTILE = 0.95
/** Below it, asking twice only doubles the load. */
const HEDGE_MIN_MS = 5
const HEDGE_MAX_MS = 1000
/** Before anything was measured. */
const HEDGE_FIRST_MS = 50
const LARGE_BYTES = 128 * 1024

class Window {
  readonly #values: number[] = []
  #next = 0
  #hedgeMs = HEDGE_FIRST_MS

  note(ms: number): void {
    this.#values[this.#next % KEPT] = ms
    this.#next++
    if (this.#next % RECOMPUTE_EVERY === 0) this.#recompute()
  }

  get hedgeMs(): number {
    return this.#hedgeMs
  }

  #recompute(): void {
    const sorted = [...this.#values].sort((a, b) => a - b)
    const value = sorted[Math.floor(sorted.length * PERCENTILE)] ?? HEDGE_FIRST_MS
    this.#hedgeMs = Math.min(HEDGE_MAX_MS, Math.max(HEDGE_MIN_MS, value))
  }
}

/** So many reads pay for one that is asked twice; so many may be saved up. */
const READS_PER_HEDGE = 10
const HEDGES_SAVED_MAX = 8

/**
 * Also how often: when everything is slow, asking everything twice makes it slower. Reads earn a share of a hedge each, and a
 * hedge costs a whole one.
 */
export class HedgeTimer {
  #saved = HEDGES_SAVED_MAX
  readonly #small = new Window()
  readonly #large = new Window()

  note(lengthBytes: number, ms: number): void {
    this.#saved = Math.min(HEDGES_SAVED_MAX, this.#saved + 1 / READS_PER_HEDGE)
    this.#window(lengthBytes).note(ms)
  }

  /** true: a second node may be asked; it is paid for. */
  spend(): boolean {
    if (this.#saved < 1) return false
    this.#saved--
    return true
  }

  hedgeMs(lengthBytes: number): number {
    return this.#window(lengthBytes).hedgeMs
  }

  #window(lengthBytes: number): Window {
    return lengthBytes > LARGE_BYTES ? this.#large : this.#small
  }
}
