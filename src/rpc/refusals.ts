/** What a listener tells of connections that it refused. A peer with a wrong key comes again and again, and a stranger as often as he likes. */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { Repeats } from '../base/repeats.js'

export class Refusals {
  readonly #log: Log
  readonly #repeats: Repeats
  /** In all. */
  count = 0

  constructor(log: Log, clock?: Clock) {
    this.#log = log
    this.#repeats = new Repeats(clock)
  }

  add(peer: string, reason: string): void {
    this.count++
    const times = this.#repeats.times(`${peer} ${reason}`)
    if (times > 0) this.#log.warn({ peer, reason, times }, 'connection refused')
  }
}
