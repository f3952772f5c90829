/**
 * What a file was, as far as the headers of its chunks tell: pure.
 *
 * The chunks lie one over the other in the order in which they were written: where two overlap the later wins, as in the metadata that
 * were lost. The place of appended data is where their writer took the end of the file to be; where that was wrong, because others
 * appended, too, they are put behind each other in the order of their writing: appended data never lay over other appended data.
 *
 * A packed chunk tells where the bytes of other chunks were seen when it was made: each piece is laid where it stood in the order of writing,
 * as if its own chunk were there still, which it may be. It also tells where appended data went to.
 *
 * Invariants:
 * - A chunk is laid into one window only. Its name in two would need a record of its holders (meta/clone.ts).
 * - Of the same order are only the same bytes, in several chunks; where a file names one of these, nothing is missing.
 */
import { WINDOW_BYTES } from '../../base/limits.js'
import { piecesIn, type ChunkOriginExtent, type ChunkRef, type ListedHeader } from '../../chunk/contract.js'
import type { Extent } from '../../meta/contract.js'
import { BandedSpans, type Span } from './spans.js'

export interface FoundChunk {
  readonly id: number
  readonly header: ListedHeader
  /** Where the file shows it, if it names it: it is only there to tell what it hides, and what lies over it. null: nobody names it. */
  readonly named: readonly ChunkOriginExtent[] | null
}

export interface WindowLayout {
  readonly window: number
  /** Of each chunk that no file names and of which nothing is seen a piece, which what is seen covers. */
  readonly hidden: readonly Extent[]
  /** What is seen of chunks that no file names, ascending. */
  readonly seen: readonly Extent[]
}

export interface FileLayout {
  readonly windows: readonly WindowLayout[]
  readonly sizeBytes: number
  /** Bytes that are seen and come from chunks that no file names. */
  readonly seenBytes: number
  /** No chunk tells what was there. */
  readonly gaps: readonly Span[]
  /** Chunks of appended data that were not put where their writer took the end to be. */
  readonly moved: number
  /** Chunks whose header says nothing that a file could be made of. */
  readonly senseless: readonly number[]
  /** Of the newest write in chunks that no file names: microseconds since 1970 of its writer's clock. */
  readonly newestUs: number
}

/** What was written at once: all of a chunk, or a piece of a packed one. */
interface Part {
  readonly chunk: FoundChunk
  readonly ref: ChunkRef
  readonly order: number
  readonly isAppended: boolean
  readonly extents: readonly ChunkOriginExtent[]
}

interface Placed extends Part {
  readonly window: number
  /** Its extents lie so far behind what they say. */
  readonly shift: number
}

export function layoutOf(chunks: readonly FoundChunk[]): FileLayout {
  const ordered = chunks.flatMap(partsOf).sort(compareParts)
  const { placed, moved, senseless } = placeAll(ordered, appendedPlaces(chunks))
  const bands = new BandedSpans(WINDOW_BYTES)
  const seen = new Map<number, Extent[]>()
  let seenBytes = 0
  // From the newest to the oldest: what is not covered yet is seen.
  for (const { chunk, ref, window, shift, extents } of [...placed].reverse()) {
    for (const { fileOffset, lengthBytes, chunkOffset } of [...extents].reverse()) {
      const at = fileOffset + shift
      for (const { start, end } of bands.add(at, at + lengthBytes)) {
        if (chunk.named !== null) continue
        seenBytes += end - start
        const piece = { fileOffset: start, lengthBytes: end - start, chunkOffset: chunkOffset + start - at }
        listIn(seen, window).push({ ...piece, chunk: ref })
      }
    }
  }
  const covered = bands.joined()
  const hidden = hiddenOf(placed, seen)
  const windows = new Set([...seen.keys(), ...hidden.keys()])
  return {
    windows: [...windows]
      .sort((a, b) => a - b)
      .map((window) => ({ window, hidden: hidden.get(window) ?? [], seen: joined(seen.get(window) ?? []) })),
    sizeBytes: covered.all.at(-1)?.end ?? 0,
    seenBytes,
    gaps: covered.gaps(),
    moved,
    senseless,
    newestUs: ordered.reduce((us, { chunk, order }) => (chunk.named !== null ? us : Math.max(us, order)), 0),
  }
}

function partsOf(chunk: FoundChunk): readonly Part[] {
  const { named, header, id } = chunk
  const { order, orders, extents, appends = [] } = header.origin
  const ref = { id, lengthBytes: header.lengthBytes, root: header.root }
  if (orders === undefined) {
    return [{ chunk, ref, order, isAppended: header.origin.appended === true, extents: named ?? extents }]
  }
  if (named !== null) return named.flatMap((shown) => shownParts(chunk, ref, shown))
  // It is laid nowhere.
  if (windowOf(extents) === null) return [{ chunk, ref, order, isAppended: false, extents: [] }]
  const appended = new Set(appends)
  return extents.map((extent, index) => ({
    ...{ chunk, ref, order: orders[index] ?? order, isAppended: appended.has(index), extents: [extent] },
  }))
}

/** Of a packed chunk. */
function shownParts(chunk: FoundChunk, ref: ChunkRef, shown: ChunkOriginExtent): readonly Part[] {
  const { fileOffset, chunkOffset, lengthBytes } = shown
  return piecesIn(chunk.header.origin, chunkOffset, lengthBytes).map(({ order, appended, ...piece }) => ({
    ...{ chunk, ref, order, isAppended: appended },
    extents: [{ ...piece, fileOffset: fileOffset + piece.chunkOffset - chunkOffset }],
  }))
}

function compareParts(a: Part, b: Part): number {
  return a.order - b.order || namedLast(a) - namedLast(b) || packedLast(a) - packedLast(b) || a.chunk.id - b.chunk.id
}

function namedLast({ chunk }: Part): number {
  return chunk.named === null ? 0 : 1
}

/** The pieces of a packed chunk do not push away what is left of the chunk that they come from. */
function packedLast({ chunk }: Part): number {
  return chunk.header.origin.orders === undefined ? 0 : 1
}

/** By their order, from where to where appended data were seen that were packed. */
function appendedPlaces(chunks: readonly FoundChunk[]): ReadonlyMap<number, Span> {
  const places = new Map<number, Span>()
  for (const { header } of chunks) {
    const { orders = [], appends = [], extents } = header.origin
    for (const index of appends) {
      const order = orders[index]
      const extent = extents[index]
      if (order === undefined || extent === undefined) continue
      const { start, end } = places.get(order) ?? { start: Infinity, end: 0 }
      const { fileOffset, lengthBytes } = extent
      places.set(order, { start: Math.min(start, fileOffset), end: Math.max(end, fileOffset + lengthBytes) })
    }
  }
  return places
}

function listIn(map: Map<number, Extent[]>, window: number): Extent[] {
  const list = map.get(window) ?? []
  map.set(window, list)
  return list
}

function hiddenOf(placed: readonly Placed[], seen: ReadonlyMap<number, readonly Extent[]>): Map<number, Extent[]> {
  const known = new Set([...seen.values()].flatMap((extents) => extents.map(({ chunk }) => chunk?.id)))
  const hidden = new Map<number, Extent[]>()
  for (const { chunk, ref, window, shift, extents } of placed) {
    const [first] = extents
    if (chunk.named !== null || known.has(chunk.id) || first === undefined) continue
    known.add(chunk.id)
    listIn(hidden, window).push({ ...first, fileOffset: first.fileOffset + shift, chunk: ref })
  }
  return hidden
}

/** Ascending; pieces of a chunk that are next to each other there as in the file are one. */
function joined(extents: readonly Extent[]): Extent[] {
  const all: Extent[] = []
  for (const extent of [...extents].sort((a, b) => a.fileOffset - b.fileOffset)) {
    const last = all.at(-1)
    if (last !== undefined && isNext(last, extent))
      all[all.length - 1] = { ...last, lengthBytes: last.lengthBytes + extent.lengthBytes }
    else all.push(extent)
  }
  return all
}

function isNext(last: Extent, { chunk, fileOffset, chunkOffset }: Extent): boolean {
  return (
    last.chunk?.id === chunk?.id &&
    last.chunkOffset + last.lengthBytes === chunkOffset &&
    last.fileOffset + last.lengthBytes === fileOffset
  )
}

function placeAll(
  ordered: readonly Part[],
  known: ReadonlyMap<number, Span>,
): { placed: Placed[]; moved: number; senseless: number[] } {
  const placed: Placed[] = []
  const senseless: number[] = []
  let moved = 0
  let appendedEnd = 0
  for (const part of ordered) {
    const { chunk, order, isAppended } = part
    const isGuess = isAppended && chunk.named === null && chunk.header.origin.orders === undefined
    const shift = isGuess ? shiftOf(part.extents, appendedEnd, known.get(order)) : 0
    const one = place(part, shift)
    if (one === null) {
      if (chunk.named === null) senseless.push(chunk.id)
      continue
    }
    placed.push(one)
    if (!isAppended) continue
    if (shift !== 0 && !known.has(order)) moved++
    for (const { fileOffset, lengthBytes } of one.extents) {
      appendedEnd = Math.max(appendedEnd, fileOffset + shift + lengthBytes)
    }
  }
  return { placed, moved, senseless }
}

/**
 * How far behind its writer's guess appended data go: behind other appended data, and not across the border of two windows. `seen`: where a
 * packed chunk has something of them.
 */
function shiftOf(extents: readonly ChunkOriginExtent[], appendedEnd: number, seen: Span | undefined): number {
  if (extents.length === 0) return 0
  const guess = extents.reduce((least, { fileOffset }) => Math.min(least, fileOffset), Infinity)
  const end = extents.reduce((most, { fileOffset, lengthBytes }) => Math.max(most, fileOffset + lengthBytes), 0)
  const length = end - guess
  const at = Math.max(guess, appendedEnd)
  const border = nextBorder(at)
  const behind = at + length > border ? border : at
  if (seen === undefined) return behind - guess
  const last = Math.min(seen.start, nextBorder(seen.start) - length)
  const first = Math.max(seen.end - length, nextBorder(seen.start) - WINDOW_BYTES)
  // Two of the same microsecond: neither is known.
  if (first > last) return behind - guess
  return Math.min(Math.max(behind, first), last) - guess
}

function nextBorder(offset: number): number {
  return (Math.floor(offset / WINDOW_BYTES) + 1) * WINDOW_BYTES
}

/** null: it cannot have been written like this, or is seen nowhere. */
function place(part: Part, shift: number): Placed | null {
  const { chunk, extents } = part
  const window = chunk.named === null ? windowOf(extents, shift) : firstWindow(extents, shift)
  return window === null ? null : { ...part, window, shift }
}

/** null: there is none, or more than one. */
function windowOf(extents: readonly ChunkOriginExtent[], shift = 0): number | null {
  const window = firstWindow(extents, shift)
  if (window === null) return null
  const isInside = extents.every(
    ({ fileOffset, lengthBytes }) =>
      fileOffset + shift >= window * WINDOW_BYTES && fileOffset + shift + lengthBytes <= (window + 1) * WINDOW_BYTES,
  )
  return isInside ? window : null
}

function firstWindow([first]: readonly ChunkOriginExtent[], shift: number): number | null {
  return first === undefined ? null : Math.floor((first.fileOffset + shift) / WINDOW_BYTES)
}
