/**
 * Makes long chunks of a window whose bytes lie in many small ones, as small synced writes leave them: a read of a mebibyte
 * would be a read of 256 chunks. What is read is not changed by it.
 *
 * Invariants:
 * - The new chunks are on disk at their write quorum before anything names them: what an fsync promised of the old ones holds on.
 * - They take the place of the extents that were read, or of none; what is committed meanwhile lies over them. Nobody removes them
 *   once the store may have been told of them, unless it answered that it did not name them.
 * - Where lost metadata are rebuilt the order of the chunks decides: that of a new one lies above those of all that it
 *   replaces and below those of all that is committed later. So only files that have rested are packed, and the order is
 *   put in between: nothing that is uploaded before it is committed later, see RESTED_MS.
 */
import { allDone } from '../base/all-done.js'
import type { Clock, TimeSpec } from '../base/clock.js'
import { KIB, WINDOW_BYTES } from '../base/limits.js'
import type { ChunkOriginExtent, Durability } from '../chunk/contract.js'
import type { Extent, ExtentWindow, MetaStore } from '../meta/contract.js'
import type { ChunkCache } from './chunk-cache.js'
import { ExtentMap, seenExtents, unusedChunks, type FilePiece } from './extent-map.js'
import type { Uploader } from './uploader.js'

/** When reading is slow enough to be worth writing all of it once more: so many pieces in what one chunk can hold, so short. */
const PIECES_MIN = 32
const PIECE_BYTES_MAX = 64 * KIB
/** A range that somebody reads at once tells that its window may be worth it. */
const READ_PIECES_MIN = 16

/** Nobody has changed the file for so long. */
export const RESTED_MS = 300_000
/**
 * How far before now the new chunks stand in the order of writing. An upload is given up after 60 s and its commit 30 s later;
 * the rest, and what is left of RESTED_MS, is for clocks that differ.
 */
const ORDER_BEFORE_MS = 150_000
/** All chunks of a window. What takes longer is left as it is: `ringfs rebuild` must be able to tell by its age what nobody uploads any more. */
const PACK_MAX_MS = 60_000

export interface PackerDeps {
  readonly meta: MetaStore
  readonly uploader: Uploader
  readonly data: ChunkCache
  readonly clock: Clock
  readonly durability: Durability
}

/** Bytes that go into one chunk. */
interface Load {
  readonly pieces: readonly FilePiece[]
  readonly lengthBytes: number
}

/** Whether a read of these pieces tells that the window may be worth packing. */
export function isScattered(pieces: number, lengthBytes: number): boolean {
  return pieces >= READ_PIECES_MIN && lengthBytes < pieces * PIECE_BYTES_MAX
}

export class Packer {
  readonly #deps: PackerDeps

  constructor(deps: PackerDeps) {
    this.#deps = deps
  }

  /** The data version that it made; null: nothing was changed. `isOver` is asked before each chunk. */
  async pack(ino: number, old: ExtentWindow, isOver: () => boolean): Promise<number | null> {
    const { meta, clock } = this.#deps
    const loads = loadsOf(new ExtentMap(old.extents), old.window, meta.settings.chunkBytes)
    if (loads.length === 0 || !(await this.#hasRested(ino, old))) return null
    const untilMs = clock.monotonicMs() + PACK_MAX_MS
    const order = msOf(clock.now()) - ORDER_BEFORE_MS
    const extents = await this.#store(ino, loads, order, () => isOver() || clock.monotonicMs() > untilMs)
    if (extents === null) return null
    const packed = new ExtentMap(old.extents)
    packed.add(extents)
    const seen = seenExtents(packed, old.window)
    const version = await meta.compact(ino, old, seen, unusedChunks(old.extents, seen), 0)
    if (version === null) this.#discard(extents)
    return version
  }

  async #hasRested(ino: number, old: ExtentWindow): Promise<boolean> {
    const { dataVersion, ctime, nlink } = await this.#deps.meta.getattr(ino)
    return dataVersion === old.dataVersion && nlink > 0 && msOf(this.#deps.clock.now()) - msOf(ctime) >= RESTED_MS
  }

  /** null: it was over before. */
  async #store(
    ino: number,
    loads: readonly Load[],
    orderMs: number,
    isOver: () => boolean,
  ): Promise<readonly Extent[] | null> {
    const made: Extent[] = []
    let isDone = false
    try {
      for (const [i, load] of loads.entries()) {
        const extents = await this.#storeOne(ino, load, Math.floor(orderMs * 1000) + i, isOver)
        if (extents === null) return null
        made.push(...extents)
      }
      isDone = true
      return made
    } finally {
      if (!isDone) this.#discard(made)
    }
  }

  async #storeOne(ino: number, load: Load, order: number, isCancelled: () => boolean): Promise<Extent[] | null> {
    const { uploader, durability } = this.#deps
    if (isCancelled()) return null
    const bytes = Buffer.allocUnsafe(load.lengthBytes)
    const extents = await this.#gather(load, bytes)
    const chunk = await uploader.upload({
      ...{ ino, data: [bytes], extents, order, isCancelled },
      // An fsync that promised more than this mount's own setting holds on.
      durability: durability === 'async' ? 'quorum' : durability,
      wantSync: () => true,
    })
    return chunk === null ? null : extents.map((extent) => ({ ...extent, chunk }))
  }

  /** The verified bytes, one piece behind the other. */
  async #gather({ pieces }: Load, target: Buffer): Promise<ChunkOriginExtent[]> {
    const extents: { fileOffset: number; chunkOffset: number; lengthBytes: number }[] = []
    const copies: Promise<void>[] = []
    let at = 0
    for (const { start, end, chunk, chunkOffset } of pieces) {
      const lengthBytes = end - start
      if (chunk !== null) copies.push(this.#deps.data.copy(chunk, chunkOffset, chunkOffset + lengthBytes, target, at))
      const last = extents.at(-1)
      if (last !== undefined && last.fileOffset + last.lengthBytes === start) last.lengthBytes += lengthBytes
      else extents.push({ fileOffset: start, chunkOffset: at, lengthBytes })
      at += lengthBytes
    }
    await allDone(copies)
    return extents
  }

  #discard(extents: readonly Extent[]): void {
    const ids = new Set(extents.flatMap(({ chunk }) => chunk?.id ?? []))
    if (ids.size > 0) this.#deps.uploader.discard([...ids])
  }
}

/** Of each part of the window that one chunk can hold, if it lies in many short pieces, these. */
function loadsOf(map: ExtentMap, window: number, chunkBytes: number): Load[] {
  const loads: Load[] = []
  const end = Math.min(map.end, (window + 1) * WINDOW_BYTES)
  for (let from = window * WINDOW_BYTES; from < end; from += chunkBytes) {
    const pieces = map.slice(from, Math.min(end, from + chunkBytes)).filter(({ chunk }) => chunk !== null)
    const lengthBytes = pieces.reduce((sum, piece) => sum + piece.end - piece.start, 0)
    if (pieces.length >= PIECES_MIN && lengthBytes < pieces.length * PIECE_BYTES_MAX)
      loads.push({ pieces, lengthBytes })
  }
  return loads
}

function msOf({ sec, nsec }: TimeSpec): number {
  return sec * 1000 + nsec / 1e6
}
