/**
 * Whether disk work may run on the calling thread. A small write into the page cache or a read out of it takes 20 us there
 * against 110 us in a worker, and a flush or a cold read of a quick disk hardly longer than the hop; but a disk that is slow
 * or throttled stalls everything else in the process. So a stall, and also a high average, closes the gate, for the longer the
 * longer it was: what runs here then takes a small share of the thread's time, in which it also finds out whether the disk is
 * quick again. A single delay of a few milliseconds says nothing: the thread may just have lost its processor.
 */
import type { Clock } from './clock.js'

/** What one piece of work may take. */
export interface InlineLimits {
  /** Longer is a stall. */
  readonly stallMs: number
  readonly slowAverageMs: number
  /** The gate is closed for so many times the stall. */
  readonly closedPerStall: number
}

const ONE_FLUSH: InlineLimits = { stallMs: 5, slowAverageMs: 0.7, closedPerStall: 20 }
/** Weight of the newest in the moving average. */
const SHARE = 0.1

/** For work that is `count` flushes, one after the other: as long, and as often, as if each had a gate of its own. */
export function limitsOf(count: number): InlineLimits {
  const { stallMs, slowAverageMs, closedPerStall } = ONE_FLUSH
  return { stallMs: stallMs * count, slowAverageMs: slowAverageMs * count, closedPerStall: closedPerStall / count }
}

export class InlineGate {
  readonly #clock: Clock
  readonly #maxBytes: number
  readonly #limits: InlineLimits
  #averageMs = 0
  #closedUntilMs = 0

  constructor(clock: Clock, maxBytes: number, limits = ONE_FLUSH) {
    this.#clock = clock
    this.#maxBytes = maxBytes
    this.#limits = limits
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
    const { stallMs, slowAverageMs, closedPerStall } = this.#limits
    if (tookMs <= stallMs && this.#averageMs <= slowAverageMs) return
    this.#closedUntilMs = endMs + closedPerStall * Math.max(tookMs, this.#averageMs)
    this.#averageMs = 0
  }
}
