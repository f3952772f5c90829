/**
 * What of a window is worth being put into one chunk: pieces that are short, of many chunks. Pure.
 *
 * Chunks are counted, not pieces: holes between pieces stay holes, and so do pieces of chunks that must stay, however often it is packed.
 * A load that was packed is one chunk, so that it is packed again only when as many others have come as made it worth it before.
 */
import { invariant } from '../base/invariant.js'
import { KIB } from '../base/limits.js'
import {
  ORIGIN_ORDERS_MAX,
  type ChunkOrigin,
  type ChunkOriginExtent,
  type ChunkPiece,
  type ChunkRef,
} from '../chunk/contract.js'

import type { Extent } from '../meta/contract.js'
import type { WindowMark } from './extent-map.js'

/** So many chunks at least, in what one can hold. */
const CHUNKS_MIN = 32
/** Shorter pieces than this, and on average less than this of each chunk. */
const SHORT_BYTES = 64 * KIB
/** A range that somebody reads at once tells that its window may be worth it. */
const READ_CHUNKS_MIN = 16

/** A piece of a window, in a chunk. */
export type Piece = Extent & { readonly chunk: ChunkRef }

/** Whether a read of `lengthBytes` that met pieces of these chunks tells that the window may be worth it. */
export function isScattered(pieces: readonly { readonly chunk: ChunkRef | null }[], lengthBytes: number): boolean {
  if (pieces.length < READ_CHUNKS_MIN || lengthBytes >= pieces.length * SHORT_BYTES) return false
  const chunks = new Set(pieces.map(({ chunk }) => chunk?.id))
  chunks.delete(undefined)
  return chunks.size >= READ_CHUNKS_MIN && lengthBytes < chunks.size * SHORT_BYTES
}

/**
 * Whether a window of which nothing was worth it when it was `seen` may be worth it `now`: so much has come that it would be by itself. With less
 * each change of a file would have all headers read again.
 */
export function mayBeWorthIt(seen: WindowMark, now: WindowMark): boolean {
  const isOther = now.generation !== 0 && now.generation !== seen.generation
  return isOther || now.extents >= seen.extents + CHUNKS_MIN
}

/** The first load of a window that is worth it, in the order of the file; empty: none is. `stays`: chunks that are left as they are. */
export function firstLoad(seen: readonly Extent[], chunkBytes: number, stays: ReadonlySet<number>): readonly Piece[] {
  let load: Piece[] = []
  let lengthBytes = 0
  for (const piece of seen) {
    if (!isShort(piece) || stays.has(piece.chunk.id)) continue
    if (lengthBytes + piece.lengthBytes > chunkBytes || load.length === ORIGIN_ORDERS_MAX) {
      if (isWorthIt(load, lengthBytes)) return load
      load = []
      lengthBytes = 0
    }
    load.push(piece)
    lengthBytes += piece.lengthBytes
  }
  return isWorthIt(load, lengthBytes) ? load : []
}

export function isPiece(extent: Extent): extent is Piece {
  return extent.chunk !== null
}

function isShort(extent: Extent): extent is Piece {
  return isPiece(extent) && extent.lengthBytes < SHORT_BYTES
}

export function isWorthIt(load: readonly Piece[], lengthBytes: number): boolean {
  const chunks = new Set(load.map(({ chunk }) => chunk.id)).size
  return chunks >= CHUNKS_MIN && lengthBytes < chunks * SHORT_BYTES
}

/**
 * Whether pieces of a chunk lie in the file where its header says: one that was cloned to another place of its window does not, and in the
 * order of writing two pieces of other bytes would stand at the same place. Appended data lie where their commit put them, all of them as far
 * behind what the header says: of these, `pieces` are to be all of the window.
 */
export function areInPlace(pieces: readonly Piece[], origin: ChunkOrigin): boolean {
  let shift = origin.appended === true ? undefined : 0
  for (const { fileOffset, chunkOffset, lengthBytes } of pieces) {
    for (const extent of origin.extents) {
      if (extent.chunkOffset >= chunkOffset + lengthBytes) continue
      if (extent.chunkOffset + extent.lengthBytes <= chunkOffset) continue
      const behind = fileOffset - chunkOffset - (extent.fileOffset - extent.chunkOffset)
      shift ??= behind
      if (behind !== shift) return false
    }
  }
  return true
}

export interface Packed {
  /** Those of the load that fit. */
  readonly pieces: readonly Piece[]
  readonly lengthBytes: number
  /** What its header says. */
  readonly extents: readonly ChunkOriginExtent[]
  readonly orders: readonly number[]
  readonly appends: readonly number[]
}

interface Run {
  readonly fileOffset: number
  readonly chunkOffset: number
  readonly order: number
  readonly appended: boolean
  lengthBytes: number
}

/** The pieces one behind the other. `writes`: of each, the writes that its bytes are of. */
export function packedOf(load: readonly Piece[], writes: ReadonlyMap<Piece, readonly ChunkPiece[]>): Packed {
  const runs: Run[] = []
  const pieces: Piece[] = []
  let lengthBytes = 0
  for (const piece of load) {
    const parts = writes.get(piece) ?? []
    invariant(parts.length > 0, 'it is known what a piece is of')
    if (runs.length + parts.length > ORIGIN_ORDERS_MAX) break
    for (const part of parts) {
      const fileOffset = piece.fileOffset + part.chunkOffset - piece.chunkOffset
      addRun(runs, { ...part, fileOffset, chunkOffset: lengthBytes })
      lengthBytes += part.lengthBytes
    }
    pieces.push(piece)
  }
  return {
    ...{ pieces, lengthBytes },
    extents: runs.map(({ fileOffset, chunkOffset, lengthBytes }) => ({ fileOffset, chunkOffset, lengthBytes })),
    orders: runs.map(({ order }) => order),
    appends: runs.flatMap(({ appended }, index) => (appended ? [index] : [])),
  }
}

function addRun(runs: Run[], run: Run): void {
  const last = runs.at(-1)
  const isNext = last?.order === run.order && last.appended === run.appended
  if (last !== undefined && isNext && last.fileOffset + last.lengthBytes === run.fileOffset) {
    last.lengthBytes += run.lengthBytes
  } else runs.push({ ...run })
}

/** What names the packed bytes in the file: pieces next to each other are one. */
export function extentsOf(pieces: readonly Piece[], chunk: ChunkRef): Extent[] {
  const extents: { fileOffset: number; chunkOffset: number; lengthBytes: number; chunk: ChunkRef }[] = []
  let at = 0
  for (const { fileOffset, lengthBytes } of pieces) {
    const last = extents.at(-1)
    if (last !== undefined && last.fileOffset + last.lengthBytes === fileOffset) last.lengthBytes += lengthBytes
    else extents.push({ fileOffset, chunkOffset: at, lengthBytes, chunk })
    at += lengthBytes
  }
  return extents
}
