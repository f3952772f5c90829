/** Progress of commands that take long: one line on a terminal, drawn again and again; elsewhere (a log, a pipe) a line every some seconds. */
const EVERY_MS = 100
/** Where lines stay. What is done before says nothing. */
const LINE_EVERY_MS = 5_000

/** As much of Surroundings as it needs. */
export interface Shown {
  readonly stderr: { readonly isTTY: boolean; readonly columns?: number; write(text: string): unknown }
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
    const share = total === 0 ? '' : ` of ${total} (${Math.floor((100 * done) / total)} %)`
    this.line(`${what}: ${done}${share}`, total > 0 && done >= total)
  }

  /** In other words. `isLast`: drawn, however soon after the one before. */
  line(text: string, isLast = false): void {
    if (this.#isQuiet) return
    const nowMs = this.#nowMs()
    if (!this.#surroundings.stderr.isTTY) this.#tell(text, nowMs)
    else if (nowMs - this.#drawnMs >= EVERY_MS || isLast) {
      this.#drawnMs = nowMs
      this.#draw(text)
    }
  }

  #tell(text: string, nowMs: number): void {
    if (nowMs - this.#toldMs < LINE_EVERY_MS) return
    this.#toldMs = nowMs
    this.#surroundings.stderr.write(`ringfs: ${text}\n`)
  }

  /** Never longer than the terminal is wide: it could not be drawn over. */
  #draw(whole: string): void {
    const { stderr } = this.#surroundings
    // 0: a terminal that does not say.
    const { columns = 0 } = stderr
    const text = whole.slice(0, Math.max(1, (columns === 0 ? 80 : columns) - 1))
    stderr.write(`\r${text.padEnd(this.#width)}`)
    this.#width = text.length
  }

  /** The line goes. */
  end(): void {
    if (this.#width > 0) this.#surroundings.stderr.write(`\r${' '.repeat(this.#width)}\r`)
    this.#width = 0
  }
}
