/** Progress of commands that take long: one line on a terminal, drawn again and again; nothing elsewhere. */
import type { Surroundings } from './surroundings.js'

const EVERY_MS = 100

export class Steps {
  readonly #surroundings: Surroundings
  readonly #isShown: boolean
  #drawnMs = -Infinity
  #width = 0

  /** `quiet`: draw nothing. */
  constructor(surroundings: Surroundings, quiet = false) {
    this.#surroundings = surroundings
    this.#isShown = surroundings.stderr.isTTY && !quiet
  }

  /** `what: done of total`; `total` 0: not known. */
  show(what: string, done: number, total: number): void {
    if (!this.#isShown) return
    const nowMs = performance.now()
    if (nowMs - this.#drawnMs < EVERY_MS && done < total) return
    this.#drawnMs = nowMs
    const share = total === 0 ? '' : ` of ${total} (${Math.floor((100 * done) / total)} %)`
    this.#draw(`${what}: ${done}${share}`)
  }

  #draw(text: string): void {
    this.#surroundings.stderr.write(`\r${text.padEnd(this.#width)}`)
    this.#width = text.length
  }

  /** The line goes. */
  end(): void {
    if (this.#width > 0) this.#surroundings.stderr.write(`\r${' '.repeat(this.#width)}\r`)
    this.#width = 0
  }
}
