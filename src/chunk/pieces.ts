/** Of a range of a chunk, when each byte was written: a packed chunk has bytes of many writes. Pure. */
import type { ChunkOrigin } from './contract.js'

export interface ChunkPiece {
  readonly chunkOffset: number
  readonly lengthBytes: number
  /** Where it stands in the order of writing. */
  readonly order: number
  /** It went to the end of the file. */
  readonly appended: boolean
}

/** Pieces one behind the other that are together the range; of one order, and all of them appended or none, are they next to each other, they are one. */
export function piecesIn(origin: ChunkOrigin, chunkOffset: number, lengthBytes: number): readonly ChunkPiece[] {
  const pieces: ChunkPiece[] = []
  const end = chunkOffset + lengthBytes
  let at = chunkOffset
  for (const { from, to, order, appended } of ranges(origin)) {
    if (to <= at) continue
    if (from >= end) break
    if (from > at) add(pieces, at, from, origin.order, false)
    at = Math.max(at, from)
    add(pieces, at, Math.min(to, end), order, appended)
    at = Math.min(to, end)
  }
  // The header does not speak of these.
  if (at < end) add(pieces, at, end, origin.order, origin.appended === true)
  return pieces
}

interface Range {
  readonly from: number
  readonly to: number
  readonly order: number
  readonly appended: boolean
}

/** Of a packed chunk, ascending. */
function ranges({ orders, appends = [], extents, order }: ChunkOrigin): readonly Range[] {
  if (orders === undefined) return []
  const appended = new Set(appends)
  return extents
    .map(({ chunkOffset, lengthBytes }, index) => ({
      ...{ from: chunkOffset, to: chunkOffset + lengthBytes },
      ...{ order: orders[index] ?? order, appended: appended.has(index) },
    }))
    .sort((a, b) => a.from - b.from)
}

function add(pieces: ChunkPiece[], from: number, to: number, order: number, appended: boolean): void {
  const last = pieces.at(-1)
  if (last?.order === order && last.appended === appended) {
    pieces[pieces.length - 1] = { ...last, lengthBytes: to - last.chunkOffset }
  } else pieces.push({ chunkOffset: from, lengthBytes: to - from, order, appended })
}
