/** Leaf tables of the chunks used last, and what else is known of these. Chunks are immutable: an entry never goes stale. */
import { MIB } from '../base/limits.js'

/** A chunk of 4 MiB has a table of 8 KiB. */
const TABLES_MAX_BYTES = 8 * MIB

/** By the id of the chunk; least recently used first out. */
export class LeafTables<T extends { readonly leaves: Uint8Array }> {
  readonly #entries = new Map<number, T>()
  readonly #max: number
  #bytes = 0

  constructor(max: number) {
    this.#max = max
  }

  get(id: number): T | null {
    const entry = this.#entries.get(id)
    if (entry === undefined) return null
    this.#entries.delete(id)
    this.#entries.set(id, entry)
    return entry
  }

  set(id: number, entry: T): void {
    this.delete(id)
    this.#entries.set(id, entry)
    this.#bytes += entry.leaves.length
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#max && this.#bytes <= TABLES_MAX_BYTES) return
      this.delete(oldest)
    }
  }

  delete(id: number): void {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    this.#entries.delete(id)
    this.#bytes -= entry.leaves.length
  }
}
