import type { Progress } from './progress.js'

/**
 * The names that one run gives in the folder it copies to. As with cp(1), what it has just made is not replaced, and folders
 * of one name become one: what is in several of them is then the last one's, and that is told. `Folder`: what leads to one of them.
 */
export class Names<Folder> {
  readonly #progress: Progress
  readonly #taken = new Map<string, { readonly from: string; readonly folders: Folder[] }>()

  constructor(progress: Progress) {
    this.#progress = progress
  }

  /**
   * `folder`: null for what is none. Answers the folders to which this run has given the name before; null: something else of this
   * run has it, and this is left out.
   */
  take(name: string, from: string, folder: Folder | null): readonly Folder[] | null {
    const taken = this.#taken.get(name)
    if (taken === undefined) {
      this.#taken.set(name, { from, folders: folder === null ? [] : [folder] })
      return []
    }
    if (folder !== null && taken.folders.length > 0) {
      const before = [...taken.folders]
      taken.folders.push(folder)
      return before
    }
    this.#progress.totals.skipped.push(`${from}: this run has given the name ${name} to ${taken.from} already`)
    return null
  }
}
