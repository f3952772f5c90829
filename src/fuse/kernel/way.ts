/**
 * In which directory the kernel finds an inode, if only one comes into question.
 *
 * Of several (hard links, moves) it is not known for how long the kernel keeps to each: until the longest lifetime has passed
 * since another than the last one was given, there is none.
 */
import { LIFETIME_MAX_MS } from './handed.js'

export class Way {
  #last = 0
  #severalUntilMs = -Infinity
  #nowMs = -Infinity

  add(directory: number, nowMs: number): void {
    this.#nowMs = nowMs
    if (this.#last !== 0 && this.#last !== directory) this.#severalUntilMs = nowMs + LIFETIME_MAX_MS
    this.#last = directory
  }

  /** undefined: none is known, or several. */
  get only(): number | undefined {
    return this.#last === 0 || this.#nowMs < this.#severalUntilMs ? undefined : this.#last
  }
}
