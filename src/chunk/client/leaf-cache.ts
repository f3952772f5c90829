/** Leaf tables that matched their root hash, least recently used first out. */
const MAX_DEFAULT = 2048

interface Entry {
  readonly root: Buffer
  readonly leaves: Buffer
}

export class LeafCache {
  readonly #entries = new Map<number, Entry>()
  readonly #max: number

  /** `max` tables of at most 2 KiB. */
  constructor(max = MAX_DEFAULT) {
    this.#max = max
  }

  /** Only a table that belongs to this very root. */
  get(id: number, root: Buffer): Buffer | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined || !entry.root.equals(root)) return undefined
    this.#entries.delete(id)
    this.#entries.set(id, entry)
    return entry.leaves
  }

  set(id: number, root: Buffer, leaves: Buffer): void {
    this.#entries.delete(id)
    // Copies: what came with a reply may be a view into a whole frame.
    this.#entries.set(id, { root: Buffer.from(root), leaves: Buffer.from(leaves) })
    if (this.#entries.size <= this.#max) return
    const oldest = this.#entries.keys().next()
    if (oldest.done !== true) this.#entries.delete(oldest.value)
  }
}
