/**
 * Whether disk work may run on the calling thread. A small write into the page cache or a read out of it takes 20 us there
 * against 110 us in a worker, and a flush or a cold read of a quick disk hardly longer than the hop; but a disk that is slow
 * or throttled stalls everything else in the process. So a stall, and also a high average, closes the gate, for the longer the
 * longer it was: what runs here then takes a small share of the thread's time, in which it also finds out whether the disk is
 * quick again. A single delay of a few milliseconds says nothing: the thread may just have lost its processor.
 */
import type { Clock } from './clock.js'

const STALL_MS = 5
const SLOW_AVERAGE_MS = 0.7
/** Weight of the newest in the moving average. */
const SHARE = 0.1
const CLOSED_PER_STALL = 20

export class InlineGate {
  readonly #clock: Clock
  readonly #maxBytes: number
  readonly #slowAverageMs: number
  #averageMs = 0
  #closedUntilMs = 0

  /** `slowAverageMs`: of what is run at once. */
  constructor(clock: Clock, maxBytes: number, slowAverageMs = SLOW_AVERAGE_MS) {
    this.#clock = clock
    this.#maxBytes = maxBytes
    this.#slowAverageMs = slowAverageMs
  }

  allows(lengthBytes: number): boolean {
    return lengthBytes <= this.#maxBytes && this.#clock.monotonicMs() >= this.#closedUntilMs
  }

  run<T>(work: () => T): T {
    const startMs = this.#clock.monotonicMs()
    try {
      return work()
    } finally {
      this.#note(startMs, this.#clock.monotonicMs())
    }
  }

  #note(startMs: number, endMs: number): void {
    const tookMs = endMs - startMs
    this.#averageMs += (tookMs - this.#averageMs) * SHARE
    if (tookMs <= STALL_MS && this.#averageMs <= this.#slowAverageMs) return
    this.#closedUntilMs = endMs + CLOSED_PER_STALL * Math.max(tookMs, this.#averageMs)
    this.#averageMs = 0
  }
}
