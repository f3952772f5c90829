/**
 * What a listener tells of connections that it refused: each peer and reason at once and then once a minute, with how often.
 * A peer with a wrong key comes again and again, and a stranger may come as often as he likes: neither fills the log.
 */
import { systemClock, type Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'

const PAUSE_MS = 60_000
/** Strangers have many addresses. */
const REMEMBERED_MAX = 256

interface Seen {
  toldMs: number
  since: number
}

export class Refusals {
  readonly #log: Log
  readonly #clock: Clock
  readonly #seen = new Map<string, Seen>()
  /** In all. */
  count = 0

  constructor(log: Log, clock: Clock = systemClock) {
    this.#log = log
    this.#clock = clock
  }

  add(peer: string, reason: string): void {
    this.count++
    const what = `${peer} ${reason}`
    const nowMs = this.#clock.monotonicMs()
    const seen = this.#seen.get(what)
    if (seen !== undefined && nowMs - seen.toldMs < PAUSE_MS) {
      seen.since++
      return
    }
    this.#log.warn({ peer, reason, times: 1 + (seen?.since ?? 0) }, 'connection refused')
    // Again at the end: what was told longest ago is forgotten first.
    this.#seen.delete(what)
    this.#seen.set(what, { toldMs: nowMs, since: 0 })
    for (const oldest of this.#seen.keys()) {
      if (this.#seen.size <= REMEMBERED_MAX) break
      this.#seen.delete(oldest)
    }
  }
}
