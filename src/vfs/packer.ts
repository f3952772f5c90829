/**
 * Makes one long chunk of many short ones, as small synced writes leave them: a read of a mebibyte would be a read of 256 chunks. What is
 * read is not changed by it.
 *
 * Invariants:
 * - The new chunk is on disk at its write quorum before anything names it: what an fsync promised of the old ones holds on.
 * - It takes the place of the extents that were read, or of none; what is committed meanwhile lies over it. Nobody removes it once
 *   the store may have been told of it, unless that answered that it does not name it.
 * - Its header has, of each piece, the order of the write that its bytes are of. So it does not matter when it was made or named: where lost
 *   metadata are rebuilt each piece lies where it would without it.
 * - It takes the place only of chunks that neither a backup nor another window names: nobody has changed the file, and who restores the backup,
 *   or has the clone, is to find them. The store looks again when it judges the change.
 */
import { allDone } from '../base/all-done.js'
import type { Budget } from '../base/budget.js'
import type { CancelSignal } from '../base/cancel.js'
import type { Clock, TimeSpec } from '../base/clock.js'
import { invariant } from '../base/invariant.js'
import { COMMITTED_MS } from '../base/limits.js'
import {
  piecesIn,
  type ChunkClient,
  type ChunkOrigin,
  type ChunkPiece,
  type ChunkRef,
  type Durability,
} from '../chunk/contract.js'
import type { Extent, ExtentWindow, MetaStore } from '../meta/contract.js'
import type { ChunkCache } from './chunk-cache.js'
import type { WindowMark } from './extent-map.js'
import type { Freshness } from './freshness.js'
import { PackWindow } from './pack-window.js'
import { areInPlace, extentsOf, firstLoad, isPiece, isWorthIt, packedOf, type Packed, type Piece } from './pack-plan.js'
import { hasRoomFor } from './room.js'
import type { Uploader } from './uploader.js'

/** Headers that are asked for, and pieces that are fetched, at once: others read and write meanwhile. */
const ORIGINS_AT_ONCE = 16
const PIECES_AT_ONCE = 64
/** More than a window has: of 2,048 pieces each where they are shortest. */
const LOADS_MAX = 256
/** Of headers that are kept until the window is done. */
const KEPT_EXTENTS = 100_000
const KEPT_EXTENTS_EACH = 64

export interface PackerDeps {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly uploader: Uploader
  readonly data: ChunkCache
  /** Of bytes in memory. */
  readonly budget: Budget
  readonly clock: Clock
  readonly durability: Durability
  readonly fresh: Freshness
  /** Nobody has changed the file for so long. */
  readonly restMs: number
  /** Asked before anything is written. */
  readonly mayTidyUp: () => boolean
}

/** These extents took the place of what lay below them. */
export interface PackDone {
  readonly extents: readonly Extent[]
  /** The data version of the file as it was asked for, and the one that this made. */
  readonly from: number
  readonly version: number
  /** Nothing else is known to have happened to the file while it was made. */
  readonly isNewest: boolean
}

/** Of one window. */
interface Run {
  readonly ino: number
  readonly window: PackWindow
  /** Chunks that are left as they are. */
  readonly stays: Set<number>
  readonly known: KnownOrigins
  /** The mount ends, or nothing may be written any more. */
  readonly isOver: () => boolean
  readonly stop: CancelSignal
  /** All chunks of the last load may be named by a backup. */
  isKept: boolean
  /** Some chunks stay for as long as another window names them, which that one's contents decide. */
  isShared: boolean
  /** For the bytes of one load after the other: an upload that has ended reads it no more. */
  target: Buffer
}

interface Load {
  readonly packed: Packed
  /** The least of those of its chunks. */
  readonly oldestOrder: number
}

/**
 * How a run ended. `barren`: its last look found nothing that is worth it. `idle`: nothing had to be looked at to tell so, or the volume is full. `early`: the file has
 * not rested, or the mount ends. `lost`: somebody else was quicker with this window.
 */
export interface PackEnd {
  readonly why: 'barren' | 'idle' | 'early' | 'lost'
  /** What the window was at the last look. */
  readonly mark?: WindowMark
  /** While it is this, nothing of it will be worth it. */
  readonly isFinal?: boolean
}

export class Packer {
  readonly #deps: PackerDeps
  /** Chunks made, and their bytes. */
  made = 0
  madeBytes = 0

  constructor(deps: PackerDeps) {
    this.#deps = deps
  }

  /**
   * One load after the other, each by itself, until `stop`; `onDone` is told of each in the tick in which it is known. `met`:
   * what the window was when it was thought of; `barren`: as a run before this one told it.
   */
  async pack(
    ino: number,
    window: number,
    { met, barren }: { readonly met: WindowMark; readonly barren?: WindowMark | undefined },
    stop: CancelSignal,
    onDone: (done: PackDone) => void,
  ): Promise<PackEnd> {
    const { meta, chunks, clock, restMs, mayTidyUp } = this.#deps
    const isOver = (): boolean => stop.aborted || !mayTidyUp()
    const parts = {
      window: new PackWindow(meta, ino, window),
      known: new KnownOrigins(chunks),
      target: Buffer.alloc(0),
    }
    const run: Run = { ino, stays: new Set(), isOver, stop, isKept: false, isShared: false, ...parts }
    for (let loads = 0; loads < LOADS_MAX; loads++) {
      const { ctime, nlink } = await meta.getattr(ino)
      if (isOver() || nlink === 0 || msOf(clock.now()) - msOf(ctime) < restMs) return { why: 'early' }
      if (!(await this.#hasRoom())) return { why: 'idle' }
      const { keptOrder } = await meta.packingGround(ino, [])
      if (msOf(ctime) + COMMITTED_MS <= keptOrder / 1000) return { why: 'idle' }
      const old = await run.window.ask()
      if (loads === 0 && met.generation !== 0 && met.generation !== old.generation) return { why: 'lost' }
      const mark = markOf(old)
      if (isSame(mark, barren)) return { why: 'idle', mark, isFinal: true }
      const load = await this.#nextLoad(run)
      if (isOver()) return { why: 'early' }
      if (load === undefined) return { why: 'barren', mark, isFinal: !run.isShared }
      if (!(await this.#pack(old.dataVersion, load, run, onDone))) return { why: isOver() ? 'early' : 'lost' }
      this.made++
      this.madeBytes += load.packed.lengthBytes
    }
    return { why: 'idle' }
  }

  /** For one load more. */
  async #hasRoom(): Promise<boolean> {
    const { chunks, meta } = this.#deps
    return hasRoomFor(await chunks.space(), meta.settings.chunkBytes)
  }

  /** undefined: nothing is worth it, or it is over. */
  async #nextLoad(run: Run): Promise<Load | undefined> {
    const { meta } = this.#deps
    const { ino, stays, isOver } = run
    while (!isOver()) {
      const pieces = firstLoad(run.window.seen, meta.settings.chunkBytes, stays)
      if (pieces.length === 0) return undefined
      const byChunk = groupedByChunk(pieces)
      const { keptOrder, shared } = await meta.packingGround(ino, [...byChunk.keys()])
      const before = stays.size
      for (const id of shared) stays.add(id)
      run.isShared ||= shared.size > 0
      if (stays.size > before) continue
      const looked = await this.#look(byChunk, keptOrder, run)
      if (stays.size > before || looked === undefined) continue
      const packed = packedOf(pieces, looked.writes)
      if (isWorthIt(packed.pieces, packed.lengthBytes)) return { packed, oldestOrder: looked.oldestOrder }
      for (const id of byChunk.keys()) stays.add(id)
    }
    return undefined
  }

  /**
   * What the headers of chunks say of their pieces. undefined: it is over. Behind a load that a backup may name as
   * a whole a sample tells whether the next one is so, too: each header is a question.
   */
  async #look(
    byChunk: ReadonlyMap<number, readonly Piece[]>,
    keptOrder: number,
    run: Run,
  ): Promise<{ writes: ReadonlyMap<Piece, readonly ChunkPiece[]>; oldestOrder: number } | undefined> {
    const { stays, known, isOver } = run
    const writes = new Map<Piece, readonly ChunkPiece[]>()
    const before = stays.size
    let everywhere: ReadonlyMap<number, readonly Piece[]> | undefined
    let kept = 0
    let oldestOrder = Infinity
    const look = async (id: number, pieces: readonly Piece[]): Promise<void> => {
      const origin = await known.get(id, pieces)
      oldestOrder = Math.min(oldestOrder, origin.order)
      if (origin.order <= keptOrder) kept++
      if (origin.appended === true) everywhere ??= groupedByChunk(run.window.seen.filter(isPiece))
      const placed = origin.appended === true ? (everywhere?.get(id) ?? pieces) : pieces
      if (origin.order <= keptOrder || !areInPlace(placed, origin)) stays.add(id)
      // Without one of its chunks it is another load.
      else if (stays.size === before)
        for (const piece of pieces) writes.set(piece, piecesIn(origin, piece.chunkOffset, piece.lengthBytes))
    }
    const all = run.isKept ? sampleFirst([...byChunk], ORIGINS_AT_ONCE) : [...byChunk]
    for (let at = 0; at < all.length; at += ORIGINS_AT_ONCE) {
      if (isOver()) return undefined
      await Promise.all(all.slice(at, at + ORIGINS_AT_ONCE).map(([id, pieces]) => look(id, pieces)))
      if (!run.isKept || at > 0 || kept < ORIGINS_AT_ONCE) continue
      for (const id of byChunk.keys()) stays.add(id)
      return { writes, oldestOrder }
    }
    run.isKept = kept === all.length
    return { writes, oldestOrder }
  }

  /** false: nothing was changed. */
  #pack(from: number, { packed, oldestOrder }: Load, run: Run, onDone: (done: PackDone) => void): Promise<boolean> {
    const { budget, fresh, uploader } = this.#deps
    return budget.with(async () => {
      const chunk = await this.#store(packed, run)
      if (chunk === null) return false
      const extents = extentsOf(packed.pieces, chunk)
      // What is asked for from now on, and answered before it is done, is in no cache.
      const mutation = fresh.begin(run.ino, false)
      let version: number | null = null
      let isNewest = false
      try {
        version = await run.window.replace(extents, oldestOrder)
      } finally {
        isNewest = fresh.end(mutation)
      }
      if (version === null) uploader.discard([chunk.id])
      else onDone({ extents, from, version, isNewest })
      return version !== null
    }, packed.lengthBytes)
  }

  /** null: it is over, or somebody else was quicker. */
  async #store({ pieces, lengthBytes, extents, orders, appends }: Packed, run: Run): Promise<ChunkRef | null> {
    const { uploader, durability } = this.#deps
    if (run.target.length < lengthBytes) run.target = Buffer.allocUnsafe(lengthBytes)
    const bytes = run.target.subarray(0, lengthBytes)
    await this.#gather(pieces, bytes)
    if (!(await run.window.isOurs())) return null
    return await uploader.upload({
      ...{ ino: run.ino, data: [bytes], extents, packed: { orders, appends } },
      ...{ isCancelled: run.isOver, stop: run.stop },
      // An fsync that promised more than this mount's own setting holds on.
      durability: durability === 'async' ? 'quorum' : durability,
      wantSync: () => true,
    })
  }

  /** The verified bytes, one piece behind the other. */
  async #gather(pieces: readonly Piece[], target: Buffer): Promise<void> {
    const { data } = this.#deps
    let to = 0
    for (let at = 0; at < pieces.length; at += PIECES_AT_ONCE) {
      const parts = pieces.slice(at, at + PIECES_AT_ONCE).map(({ chunk, chunkOffset, lengthBytes }) => ({
        ref: chunk,
        from: chunkOffset,
        to: chunkOffset + lengthBytes,
      }))
      // What is copied then finds the fetches under way.
      void data.prefetch(parts)
      const copies: Promise<void>[] = []
      for (const { ref, from, to: end } of parts) {
        copies.push(data.copy(ref, from, end, target, to))
        to += end - from
      }
      await allDone(copies)
    }
  }
}

/** Of one window: a chunk of scattered writes has pieces in many of its loads. Long headers are not kept. */
class KnownOrigins {
  readonly #chunks: ChunkClient
  readonly #known = new Map<number, ChunkOrigin>()
  #extents = 0

  constructor(chunks: ChunkClient) {
    this.#chunks = chunks
  }

  async get(id: number, [first]: readonly Piece[]): Promise<ChunkOrigin> {
    invariant(first !== undefined, 'a chunk is asked about for a piece')
    const known = this.#known.get(id)
    if (known !== undefined) return known
    const origin = await this.#chunks.origin(first.chunk)
    const extents = origin.extents.length
    if (extents > KEPT_EXTENTS_EACH || this.#extents + extents > KEPT_EXTENTS) return origin
    this.#extents += extents
    this.#known.set(id, origin)
    return origin
  }
}

function groupedByChunk(pieces: readonly Piece[]): ReadonlyMap<number, Piece[]> {
  const groups = new Map<number, Piece[]>()
  for (const piece of pieces) {
    const group = groups.get(piece.chunk.id)
    if (group === undefined) groups.set(piece.chunk.id, [piece])
    else group.push(piece)
  }
  return groups
}

/** `count`, spread over all, come first. */
function sampleFirst<T>(all: readonly T[], count: number): readonly T[] {
  const step = Math.max(1, Math.floor(all.length / count))
  const isSample = (index: number): boolean => index % step === 0 && index < count * step
  return [...all.filter((_, index) => isSample(index)), ...all.filter((_, index) => !isSample(index))]
}

function markOf({ generation, extents }: ExtentWindow): WindowMark {
  return { generation, extents: extents.length }
}

function isSame({ generation, extents }: WindowMark, other: WindowMark | undefined): boolean {
  return generation === other?.generation && extents === other.extents
}

function msOf({ sec, nsec }: TimeSpec): number {
  return sec * 1000 + nsec / 1e6
}
