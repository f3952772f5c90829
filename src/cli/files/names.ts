import type { Progress } from './progress.js'

/**
 * The names that one run gives in the folder it copies to. As with cp(1), what it has just made is not replaced, and two folders
 * of one name become one: what is in both is then the later one's.
 */
export class Names {
  readonly #progress: Progress
  readonly #taken = new Map<string, { readonly from: string; readonly isFolder: boolean }>()

  constructor(progress: Progress) {
    this.#progress = progress
  }

  /** false: something else of this run has the name, and this is left out. */
  take(name: string, from: string, isFolder: boolean): boolean {
    const first = this.#taken.get(name)
    if (first === undefined) this.#taken.set(name, { from, isFolder })
    if (first === undefined || (first.isFolder && isFolder)) return true
    this.#progress.totals.skipped.push(`${from}: this run has given the name ${name} to ${first.from} already`)
    return false
  }
}
