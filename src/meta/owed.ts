/**
 * What could not be told to Redis and must be: an unlock, the end of a waiting. Tried again until it succeeds or the
 * session is over, and before anything else is asked under the same key, so that it never undoes what came later.
 */
import { messageOf } from '../base/errors.js'
import type { Core } from './core.js'

const PAUSE_FIRST_MS = 100
const PAUSE_MAX_MS = 5_000

export class Owed {
  readonly #core: Core
  readonly #jobs = new Map<string, (() => Promise<void>)[]>()
  readonly #paying = new Map<string, Promise<void>>()
  #isTrying = false

  constructor(core: Core) {
    this.#core = core
  }

  add(key: string, job: () => Promise<void>): void {
    const jobs = this.#jobs.get(key)
    if (jobs === undefined) this.#jobs.set(key, [job])
    else jobs.push(job)
    void this.#keepTrying()
  }

  has(key: string): boolean {
    return this.#jobs.has(key)
  }

  /** Does what is owed under the key, in order. Throws what keeps it from that. */
  async pay(key: string): Promise<void> {
    if (!this.#jobs.has(key)) return
    let paying = this.#paying.get(key)
    if (paying === undefined) {
      paying = this.#payAll(key).finally(() => this.#paying.delete(key))
      this.#paying.set(key, paying)
    }
    await paying
  }

  /** Nothing is owed any more. */
  forget(): void {
    this.#jobs.clear()
  }

  async #payAll(key: string): Promise<void> {
    for (let jobs = this.#jobs.get(key); jobs !== undefined; jobs = this.#jobs.get(key)) {
      await jobs[0]?.()
      jobs.shift()
      if (jobs.length === 0 && this.#jobs.get(key) === jobs) this.#jobs.delete(key)
    }
  }

  async #keepTrying(): Promise<void> {
    if (this.#isTrying) return
    this.#isTrying = true
    for (let pauseMs = PAUSE_FIRST_MS; this.#jobs.size > 0; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
      await this.#core.options.clock.sleep(pauseMs)
      for (const key of [...this.#jobs.keys()]) await this.pay(key).catch((error: unknown) => this.#report(error))
    }
    this.#isTrying = false
  }

  #report(error: unknown): void {
    this.#core.options.log.warn({ error: messageOf(error) }, 'file locks could not be given back yet')
  }
}
