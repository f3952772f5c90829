/** Leaf tables that matched their root hash. */
import { LeafTables } from '../leaf-tables.js'

const MAX_DEFAULT = 2048

interface Entry {
  readonly root: Buffer
  readonly leaves: Buffer
}

export class LeafCache {
  readonly #tables: LeafTables<Entry>

  constructor(max = MAX_DEFAULT) {
    this.#tables = new LeafTables(max)
  }

  /** Only a table that belongs to this very root. */
  get(id: number, root: Buffer): Buffer | undefined {
    const entry = this.#tables.get(id)
    return entry?.root.equals(root) === true ? entry.leaves : undefined
  }

  set(id: number, root: Buffer, leaves: Buffer): void {
    // Copies: what came with a reply may be a view into a whole frame.
    this.#tables.set(id, { root: Buffer.from(root), leaves: Buffer.from(leaves) })
  }
}
