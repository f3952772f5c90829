/** Ends parts in the reverse order of their making, also when making the next one failed. */
export class Closer {
  readonly #steps: (() => void | Promise<void>)[] = []
  #closing: Promise<void> | undefined

  add(step: () => void | Promise<void>): void {
    this.#steps.push(step)
  }

  /** Runs `make`; if it fails, everything added so far is ended before the failure goes on. */
  async orClose<T>(make: () => Promise<T>): Promise<T> {
    try {
      return await make()
    } catch (error) {
      // What went wrong first is what the user must hear of.
      await this.close().catch(() => undefined)
      throw error
    }
  }

  /** Every step runs, whatever the others do; the first failure is thrown at the end. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#run()
    return this.#closing
  }

  async #run(): Promise<void> {
    const failures: unknown[] = []
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }
}
