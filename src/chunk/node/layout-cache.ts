/** Layouts of the chunks used last, so that reading them again is one pread. Immutable chunks: an entry never goes stale. */
import { MIB } from '../../base/limits.js'
import type { ChunkLayout } from './tasks.js'

const ENTRIES_MAX = 4096
const LEAVES_MAX_BYTES = 8 * MIB

export class LayoutCache {
  readonly #entries = new Map<number, ChunkLayout>()
  readonly #max: number
  readonly #maxBytes: number
  #bytes = 0

  /** `max` entries, `maxBytes` of leaf tables (8 KiB of a chunk of 4 MiB). */
  constructor(max = ENTRIES_MAX, maxBytes = LEAVES_MAX_BYTES) {
    this.#max = max
    this.#maxBytes = maxBytes
  }

  get(id: number): ChunkLayout | null {
    const layout = this.#entries.get(id)
    if (layout === undefined) return null
    this.#entries.delete(id)
    this.#entries.set(id, layout)
    return layout
  }

  set(id: number, layout: ChunkLayout): void {
    this.delete(id)
    this.#entries.set(id, layout)
    this.#bytes += layout.leaves.length
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#max && this.#bytes <= this.#maxBytes) return
      this.delete(oldest)
    }
  }

  delete(id: number): void {
    const layout = this.#entries.get(id)
    if (layout === undefined) return
    this.#entries.delete(id)
    this.#bytes -= layout.leaves.length
  }
}
