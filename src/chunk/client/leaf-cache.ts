/** Leaf tables that matched their root hash, least recently used first out. */
import { MIB } from '../../base/limits.js'

const MAX_DEFAULT = 2048
const LEAVES_MAX_BYTES = 8 * MIB

interface Entry {
  readonly root: Buffer
  readonly leaves: Buffer
}

export class LeafCache {
  readonly #entries = new Map<number, Entry>()
  readonly #max: number
  readonly #maxBytes: number
  #bytes = 0

  /** `max` tables, `maxBytes` in all (8 KiB of a chunk of 4 MiB). */
  constructor(max = MAX_DEFAULT, maxBytes = LEAVES_MAX_BYTES) {
    this.#max = max
    this.#maxBytes = maxBytes
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
    this.#delete(id)
    // Copies: what came with a reply may be a view into a whole frame.
    this.#entries.set(id, { root: Buffer.from(root), leaves: Buffer.from(leaves) })
    this.#bytes += leaves.length
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#max && this.#bytes <= this.#maxBytes) return
      this.#delete(oldest)
    }
  }

  #delete(id: number): void {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    this.#entries.delete(id)
    this.#bytes -= entry.leaves.length
  }
}
