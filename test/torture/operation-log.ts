import { appendFile } from 'node:fs/promises'

/** Every operation of a run, a line each. Batches: one write for many lines. */
export class OperationLog {
  readonly #file: string
  #lines: string[] = []
  #writing: Promise<void> = Promise.resolve()

  constructor(file: string) {
    this.#file = file
  }

  add(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length >= 1000) void this.flush()
  }

  flush(): Promise<void> {
    const text = this.#lines.splice(0).map((line) => `${line}\n`)
    this.#writing = this.#writing.then(() => appendFile(this.#file, text.join('')))
    return this.#writing
  }
}
