/**
 * Replaces the extents of a window by fewer that read the same, when most of them are hidden by later ones. No data is
 * moved: what is left names the same chunks; chunks that nothing names any more are garbage of the store.
 *
 * Invariant: what is written meanwhile stays. The store appends later commits behind the extents that were read here, and
 * refuses the replacement if the window was truncated or compacted since.
 */
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { WINDOW_BYTES } from '../base/limits.js'
import type { Extent, MetaStore } from '../meta/contract.js'
import { CROWDED_CLOSED, ExtentMap, isCrowded } from './extent-map.js'

export class Compactor {
  readonly #meta: MetaStore
  readonly #log: Log
  /** One at a time: it is housekeeping. */
  #running: Promise<void> | undefined

  readonly #onDone: (ino: number, dataVersion: number) => void

  /** `onDone`: of each, with the version that it made of contents that read the same. */
  constructor(meta: MetaStore, log: Log, onDone: (ino: number, dataVersion: number) => void) {
    this.#onDone = onDone
    this.#meta = meta
    this.#log = log
  }

  /** Does it in the background; a window that is not its turn now is met again. */
  offer(ino: number, window: number): void {
    this.#running ??= this.#compact(ino, window)
      .catch((error: unknown) => this.#log.warn({ ino, window, error: messageOf(error) }, 'compaction failed'))
      .finally(() => (this.#running = undefined))
  }

  /** Waits for the one under way. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #compact(ino: number, window: number): Promise<void> {
    const old = await this.#meta.extents(ino, window)
    const map = new ExtentMap(old.extents)
    if (!isCrowded(old.extents.length, map.pieces, CROWDED_CLOSED)) return
    const extents = seenExtents(map, window)
    const version = await this.#meta.compact(ino, old, extents, unusedChunks(old.extents, extents), 0)
    if (version !== null) this.#onDone(ino, version)
    const done = version !== null
    this.#log.debug({ ino, window, before: old.extents.length, after: extents.length, done }, 'extents compacted')
  }
}

function seenExtents(map: ExtentMap, window: number): Extent[] {
  return map
    .slice(window * WINDOW_BYTES, (window + 1) * WINDOW_BYTES)
    .filter(({ chunk }) => chunk !== null)
    .map(({ start, end, chunk, chunkOffset }) => ({ fileOffset: start, lengthBytes: end - start, chunk, chunkOffset }))
}

/** One extent of each chunk that only the old extents name. */
function unusedChunks(old: readonly Extent[], extents: readonly Extent[]): Extent[] {
  const used = new Set(extents.map(({ chunk }) => chunk?.id))
  const unused = new Map<number, Extent>()
  for (const extent of old) {
    if (extent.chunk !== null && !used.has(extent.chunk.id)) unused.set(extent.chunk.id, extent)
  }
  return [...unused.values()]
}
