/** The last calls of somebody, for the message of a failure; each goes to the log, too. */
const LINES = 25
const CHARS_MAX = 600

/** ringfs is wrong. */
export class Disagreement extends Error {}

export class Tail {
  readonly #name: string
  readonly #onLine: (line: string) => void
  readonly #lines: string[] = []
  count = 0

  constructor(name: string, onLine: (line: string) => void) {
    this.#name = name
    this.#onLine = onLine
  }

  note(words: readonly string[], answer: string): void {
    const told = [words.join(' '), answer.replaceAll('\n', ' ')].map((text) => text.slice(0, CHARS_MAX))
    const line = `${this.#name} ${++this.count} ${told.join(' -> ')}`
    this.#lines.push(line)
    if (this.#lines.length > LINES) this.#lines.shift()
    this.#onLine(line)
  }

  disagreement(what: string): Disagreement {
    return new Disagreement(`${this.#name}: ${what}\nits last calls:\n${this.#lines.join('\n')}`)
  }
}
