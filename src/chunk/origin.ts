/**
 * Where the bytes of a chunk belong, as its header says it: in which file, where in it, and in what order they were written. By this lost
 * metadata are made anew, and bytes that are packed into another chunk keep their place.
 */
import type { TimeSpec } from '../base/clock.js'

/** Most extents in the header of one chunk; a writer that packs scattered writes stops here and begins another chunk. */
export const ORIGIN_EXTENTS_MAX = 4096

/** Most extents in the header of a packed chunk: each has its own order. */
export const ORIGIN_ORDERS_MAX = 2048

/** Where a piece of a chunk belongs, kept in the chunk's header so that lost metadata can be rebuilt. */
export interface ChunkOriginExtent {
  readonly fileOffset: number
  readonly chunkOffset: number
  readonly lengthBytes: number
}

export interface ChunkOrigin {
  readonly ino: number
  /** Orders the chunks of one file as they were written: microseconds of the writer's clock, strictly rising in a session. */
  readonly order: number
  /** At most ORIGIN_EXTENTS_MAX; of a packed chunk at most ORIGIN_ORDERS_MAX. */
  readonly extents: readonly ChunkOriginExtent[]
  /** The bytes went to the end of the file, wherever that was at their commit: the file offsets are where the writer took it to be. */
  readonly appended?: true
  /**
   * Of a packed chunk, whose bytes were in other chunks before: for each of `extents` where it stands in the order of writing, which is that of the
   * chunk that its bytes were written with. `order` tells when this chunk was made. Absent: all of them stand at `order`. Not with `appended`.
   */
  readonly orders?: readonly number[]
  /** With `orders`: which of `extents` were appended data, as ascending indices. Their file offsets are where they went to. */
  readonly appends?: readonly number[]
}

/** Where in the order of writing that stands what is written at this moment. */
export function orderAt({ sec, nsec }: TimeSpec): number {
  return Math.max(0, sec * 1e6 + Math.floor(nsec / 1000))
}

/** A part of a chunk whose bytes are of one write: a packed chunk has bytes of many. */
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
  const ranges = rangesOf(origin)
  for (let index = firstBehind(ranges, at); index < ranges.length; index++) {
    const range = ranges[index]
    if (range === undefined || range.from >= end) break
    if (range.from > at) add(pieces, at, range.from, origin.order, false)
    at = Math.max(at, range.from)
    const to = Math.min(range.to, end)
    add(pieces, at, to, range.order, range.appended)
    at = to
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

/** An origin is asked about each piece of its chunk. */
const knownRanges = new WeakMap<ChunkOrigin, readonly Range[]>()

/** Of a packed chunk: ascending, none over another. */
function rangesOf(origin: ChunkOrigin): readonly Range[] {
  if (origin.orders === undefined) return []
  const known = knownRanges.get(origin)
  if (known !== undefined) return known
  const ranges = sortedRanges(origin, origin.orders)
  knownRanges.set(origin, ranges)
  return ranges
}

function sortedRanges({ appends, extents, order }: ChunkOrigin, orders: readonly number[]): readonly Range[] {
  const appended = new Set(appends)
  const sorted = extents
    .map(({ chunkOffset, lengthBytes }, index) => ({
      ...{ from: chunkOffset, to: chunkOffset + lengthBytes },
      ...{ order: orders[index] ?? order, appended: appended.has(index) },
    }))
    .sort((a, b) => a.from - b.from)
  const ranges: Range[] = []
  let end = 0
  for (const range of sorted) {
    if (range.to <= Math.max(range.from, end)) continue
    ranges.push(range.from < end ? { ...range, from: end } : range)
    end = range.to
  }
  return ranges
}

/** Index of the first range that ends behind `at`. */
function firstBehind(ranges: readonly Range[], at: number): number {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ranges[middle]?.to ?? Infinity) > at) high = middle
    else low = middle + 1
  }
  return low
}

function add(pieces: ChunkPiece[], from: number, to: number, order: number, appended: boolean): void {
  const last = pieces.at(-1)
  if (last?.order === order && last.appended === appended) {
    pieces[pieces.length - 1] = { ...last, lengthBytes: to - last.chunkOffset }
  } else pieces.push({ chunkOffset: from, lengthBytes: to - from, order, appended })
}
