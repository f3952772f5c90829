/** A clock that runs as fast as it is asked to: a sleep takes one turn of the event loop and moves the time. */
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock, TimeSpec, Timer } from '../../src/base/clock.js'

export class FastClock implements Clock {
  #nowMs = 0

  now(): TimeSpec {
    // Two readings are never the same, so that an order by time is an order of events.
    this.#nowMs += 0.001
    const ms = 1_700_000_000_000 + this.#nowMs
    return { sec: Math.floor(ms / 1000), nsec: Math.floor((ms % 1000) * 1e6) }
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#nowMs
  }

  async sleep(ms: number): Promise<void> {
    await turn()
    this.#nowMs += ms
  }

  /** In real time: deadlines pass only when something hangs. */
  after(ms: number, work: () => void): Timer {
    return setTimeout(work, ms)
  }
}
