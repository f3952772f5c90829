/** Layouts of the chunks used last, so that reading them again is one pread. Immutable chunks: an entry never goes stale. */
import type { ChunkLayout } from './tasks.js'

export class LayoutCache {
  readonly #entries = new Map<number, ChunkLayout>()
  readonly #max: number

  /** `max` entries of at most 2 KiB. */
  constructor(max = 4096) {
    this.#max = max
  }

  get(id: number): ChunkLayout | null {
    const layout = this.#entries.get(id)
    if (layout === undefined) return null
    this.#entries.delete(id)
    this.#entries.set(id, layout)
    return layout
  }

  set(id: number, layout: ChunkLayout): void {
    this.#entries.delete(id)
    this.#entries.set(id, layout)
    if (this.#entries.size <= this.#max) return
    const oldest = this.#entries.keys().next()
    if (oldest.done !== true) this.#entries.delete(oldest.value)
  }

  delete(id: number): void {
    this.#entries.delete(id)
  }
}
