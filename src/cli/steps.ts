/** Progress of commands that take long: one line on a terminal, drawn again and again; elsewhere (a log, a pipe) a line every some seconds. */
const EVERY_MS = 100
/** Where lines stay. What is done before says nothing. */
const LINE_EVERY_MS = 5_000

/** As much of Surroundings as it needs. */
export interface Shown {
  readonly stderr: { readonly isTTY: boolean; write(text: string): unknown }
}

export class Steps {
  readonly #surroundings: Shown
  readonly #isQuiet: boolean
  readonly #nowMs: () => number
  #drawnMs = -Infinity
  #toldMs: number
  #width = 0

  /** `quiet`: say nothing. */
  constructor(surroundings: Shown, quiet = false, nowMs = (): number => performance.now()) {
    this.#surroundings = surroundings
    this.#isQuiet = quiet
    this.#nowMs = nowMs
    this.#toldMs = nowMs()
  }

  /** `what: done of total`; `total` 0: not known. */
  show(what: string, done: number, total: number): void {
    if (this.#isQuiet) return
    const nowMs = this.#nowMs()
    const share = total === 0 ? '' : ` of ${total} (${Math.floor((100 * done) / total)} %)`
    if (!this.#surroundings.stderr.isTTY) this.#tell(`${what}: ${done}${share}`, nowMs)
    else if (nowMs - this.#drawnMs >= EVERY_MS || (total > 0 && done >= total)) {
      this.#drawnMs = nowMs
      this.#draw(`${what}: ${done}${share}`)
    }
  }

  #tell(text: string, nowMs: number): void {
    if (nowMs - this.#toldMs < LINE_EVERY_MS) return
    this.#toldMs = nowMs
    this.#surroundings.stderr.write(`ringfs: ${text}\n`)
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
