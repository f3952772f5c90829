/**
 * A window that is packed a load after the other: of a long one, to ask for all of it, and to make its map anew, costs some MiB of garbage each
 * time. So it is asked for once, and then for what is new.
 *
 * Invariant: the store has `old.extents`, with what came behind them since, in the generation of `old`, or another generation.
 */
import type { Extent, ExtentWindow, MetaStore } from '../meta/contract.js'
import { ExtentMap, unusedChunks } from './extent-map.js'

export class PackWindow {
  readonly #meta: MetaStore
  readonly #ino: number
  readonly #window: number
  #old: ExtentWindow | undefined
  #map = new ExtentMap()
  #seen: readonly Extent[] = []

  constructor(meta: MetaStore, ino: number, window: number) {
    this.#meta = meta
    this.#ino = ino
    this.#window = window
  }

  /** As the store has it now. */
  async ask(): Promise<ExtentWindow> {
    const known = this.#old
    const now = await this.#meta.extents(this.#ino, this.#window, known)
    const isSame = known !== undefined && known.generation === now.generation && now.generation > 0
    const fresh = isSame ? now.extents.slice(known.extents.length) : now.extents
    if (!isSame) this.#map = new ExtentMap()
    this.#map.add(fresh)
    if (!isSame || fresh.length > 0) this.#seen = this.#map.seen()
    this.#old = now
    return now
  }

  /** What is seen of it, as asked for last. */
  get seen(): readonly Extent[] {
    return this.#seen
  }

  /** Nobody has packed any of it since. */
  async isOurs(): Promise<boolean> {
    const { generation } = await this.#meta.extents(this.#ino, this.#window, this.#old)
    return generation === this.#old?.generation
  }

  /**
   * Packed pieces come over what was asked for last. The data version that this makes; null: nothing was changed. Else as `compact` of the
   * store. Once after each question.
   */
  async replace(packed: readonly Extent[], oldestOrder: number): Promise<number | null> {
    const old = this.#old
    if (old === undefined) return null
    this.#old = undefined
    this.#map.add(packed)
    const seen = this.#map.seen()
    const unused = unusedChunks(old.extents, seen)
    const version = await this.#meta.compact(this.#ino, old, seen, unused, 0, oldestOrder)
    if (version === null) return null
    this.#seen = seen
    this.#old = { window: this.#window, generation: version, dataVersion: version, extents: seen }
    return version
  }
}
