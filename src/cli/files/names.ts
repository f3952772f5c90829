import type { Progress } from './progress.js'

/** The names that one run gives in the folder it copies to. As with cp(1), what it has just made is not replaced. */
export class Names {
  readonly #progress: Progress
  readonly #from = new Map<string, string>()

  constructor(progress: Progress) {
    this.#progress = progress
  }

  /** false: something else of this run has the name, and this is left out. */
  take(name: string, from: string): boolean {
    const first = this.#from.get(name)
    if (first === undefined) this.#from.set(name, from)
    else this.#progress.totals.skipped.push(`${from}: this run has given the name ${name} to ${first} already`)
    return first === undefined
  }
}
