/**
 * Whether disk work may run on the calling thread. A small write into the page cache or a read out of it takes 20 us there
 * against 110 us in a worker; but a disk that is slow or throttled stalls everything else in the process. So a stall closes
 * the gate for a while: at most one request in that time finds out again.
 */
import type { Clock } from '../../base/clock.js'

const STALL_MS = 1
const CLOSED_MS = 1000

export class InlineGate {
  readonly #clock: Clock
  readonly #maxBytes: number
  #closedUntilMs = 0

  constructor(clock: Clock, maxBytes: number) {
    this.#clock = clock
    this.#maxBytes = maxBytes
  }

  allows(lengthBytes: number): boolean {
    return lengthBytes <= this.#maxBytes && this.#clock.monotonicMs() >= this.#closedUntilMs
  }

  run<T>(work: () => T): T {
    const startMs = this.#clock.monotonicMs()
    try {
      return work()
    } finally {
      const nowMs = this.#clock.monotonicMs()
      if (nowMs - startMs > STALL_MS) this.#closedUntilMs = nowMs + CLOSED_MS
    }
  }
}
