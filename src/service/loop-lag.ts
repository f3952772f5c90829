/** How late timers fire, because the event loop is busy. Measured only while somebody looks: an idle mount has no timers of it. */
import type { Clock } from '../base/clock.js'
import type { Timer } from '../base/metrics.js'

const EVERY_MS = 20
/** After the last look. */
const WATCH_MS = 15_000

export class LoopLag {
  readonly #clock: Clock
  readonly #timer: Timer
  #untilMs = 0
  #isRunning = false

  constructor(clock: Clock, timer: Timer) {
    this.#clock = clock
    this.#timer = timer
  }

  /** Somebody looks. */
  watch(): void {
    this.#untilMs = this.#clock.monotonicMs() + WATCH_MS
    if (!this.#isRunning) void this.#run()
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    for (let dueMs = 0; (dueMs = this.#clock.monotonicMs() + EVERY_MS) < this.#untilMs;) {
      await this.#clock.sleep(EVERY_MS)
      // Timers count in whole milliseconds and may fire up to one early.
      this.#timer.record(Math.max(0, this.#clock.monotonicMs() - dueMs))
    }
    this.#isRunning = false
  }
}
