/**
 * Calls `work` once for every `stepBytes` of a file that is written front to back, beside the writing, at most one at a time.
 *
 * Invariant: a byte behind a multiple of `stepBytes` is written only after the call has succeeded that began at the multiple
 * before that one.
 */
export class Checkpoints {
  readonly #stepBytes: number
  readonly #work: () => Promise<void>
  #step: number
  #running: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | null = null

  /** `from`: where the writing begins. */
  constructor(stepBytes: number, from: number, work: () => Promise<void>) {
    this.#stepBytes = stepBytes
    this.#work = work
    this.#step = Math.floor(from / stepBytes)
  }

  /** Call it before the bytes that go up to `end` are written. Throws what a call of `work` has thrown. */
  async before(end: number): Promise<void> {
    const step = Math.floor((end - 1) / this.#stepBytes)
    if (step > this.#step) {
      await this.#running
      this.#throwFailure()
      this.#step = step
      this.#running = this.#work().catch((error: unknown) => {
        this.#failure = { error }
      })
    }
    this.#throwFailure()
  }

  /** Call it when all is written. Throws as `before` does. */
  async end(): Promise<void> {
    await this.#running
    this.#throwFailure()
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error
  }
}

/** So many of a file's bytes, of which there are so many, are what `work` has succeeded for: all but the last one or two steps. */
export function bytesCertain(lengthBytes: number, stepBytes: number): number {
  return Math.max(0, Math.ceil(lengthBytes / stepBytes) - 2) * stepBytes
}
