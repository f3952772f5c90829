/**
 * What goes on behind calls that were answered: the end of transactions, and fields that nobody asks for any more, which are
 * removed many at a time.
 *
 * What is lost here with this process is found by who meets it, or by who cleans up after the session.
 */
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { Clock } from '../base/clock.js'
import type { RedisStore } from '../cluster/contract.js'

const SWEEP_AFTER_MS = 5
const SWEEP_MAX = 128

export interface BackgroundOptions {
  readonly store: RedisStore
  readonly clock: Clock
  readonly log: Log
}

export class Background {
  readonly #options: BackgroundOptions
  readonly #running = new Set<Promise<void>>()
  /** Hash -> fields to remove. */
  readonly #litter = new Map<string, string[]>()

  constructor(options: BackgroundOptions) {
    this.#options = options
  }

  run(work: Promise<void>): void {
    const kept: Promise<void> = work
      .catch((error: unknown) => {
        this.#options.log.warn({ error: messageOf(error) }, 'a change is left to be finished')
      })
      .finally(() => this.#running.delete(kept))
    this.#running.add(kept)
  }

  /** Removes a field of a hash a little later, together with others. */
  remove(key: string, field: string): void {
    const fields = this.#litter.get(key)
    if (fields === undefined) {
      this.#litter.set(key, [field])
      this.run(this.#options.clock.sleep(SWEEP_AFTER_MS).then(() => this.#sweep(key)))
    } else if (fields.push(field) >= SWEEP_MAX) this.run(this.#sweep(key))
  }

  /** Resolves when nothing is going on any more. */
  async settle(): Promise<void> {
    for (const key of this.#litter.keys()) this.run(this.#sweep(key))
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  async #sweep(key: string): Promise<void> {
    const fields = this.#litter.get(key)
    if (fields === undefined) return
    this.#litter.delete(key)
    await this.#options.store.call('HDEL', key, ...fields)
  }
}
