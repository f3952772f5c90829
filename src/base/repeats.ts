/**
 * What comes again and again is told at once, and then once a minute with how often: an outage, a wrong key or a stranger with
 * patience does not fill a log.
 */
import { systemClock, type Clock } from './clock.js'

const PAUSE_MS = 60_000
/** Things told of may be many: addresses of strangers, numbers in messages. */
const REMEMBERED_MAX = 256

interface Seen {
  toldMs: number
  since: number
}

export class Repeats {
  readonly #clock: Clock
  readonly #seen = new Map<string, Seen>()

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
  }

  /** How often since it was told last, this time included; 0: that is not long ago, and it is not to be told now. */
  times(what: string): number {
    const nowMs = this.#clock.monotonicMs()
    const seen = this.#seen.get(what)
    if (seen !== undefined && nowMs - seen.toldMs < PAUSE_MS) {
      seen.since++
      return 0
    }
    // Again at the end: what was told longest ago is forgotten first.
    this.#seen.delete(what)
    this.#seen.set(what, { toldMs: nowMs, since: 0 })
    for (const oldest of this.#seen.keys()) {
      if (this.#seen.size <= REMEMBERED_MAX) break
      this.#seen.delete(oldest)
    }
    return 1 + (seen?.since ?? 0)
  }
}
