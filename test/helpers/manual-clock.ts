/** A clock that stands until it is told how much time passes. */
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock, TimeSpec, Timer } from '../../src/base/clock.js'

export class ManualClock implements Clock {
  #nowMs = 0
  #suspendedMs = 0
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = []

  now(): TimeSpec {
    // Two readings are never the same.
    this.#nowMs += 0.001
    const ms = 1_700_000_000_000 + this.#nowMs
    return { sec: Math.floor(ms / 1000), nsec: Math.floor((ms % 1000) * 1e6) }
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs + this.#suspendedMs
  }

  /** The machine is suspended for so long; or its wall clock is set. */
  suspend(ms: number): void {
    this.#suspendedMs += ms
  }

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => this.#sleepers.push({ atMs: this.#nowMs + ms, wake }))
  }

  after(ms: number, work: () => void): Timer {
    let isClosed = false
    void this.sleep(ms).then(() => {
      if (!isClosed) work()
    })
    return { close: () => (isClosed = true), unref: () => undefined }
  }

  /** Wakes who has slept enough, in order, and lets them run. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms
    for (;;) {
      const due = this.#sleepers.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0]
      if (due === undefined) break
      this.#sleepers = this.#sleepers.filter((one) => one !== due)
      this.#nowMs = Math.max(this.#nowMs, due.atMs)
      due.wake()
      await turn()
    }
    this.#nowMs = untilMs
    await turn()
  }
}
