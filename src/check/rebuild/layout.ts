/**
 * What a file was, as far as the headers of its chunks tell: pure.
 *
 * The chunks lie one over the other in the order in which they were written: where two overlap the later wins, as in the metadata that
 * were lost. The place of appended data is where their writer took the end of the file to be; where that was wrong, because others
 * appended, too, they are put behind each other in the order of their writing: appended data never lay over other appended data.
 *
 * Invariant: a chunk is laid into one window only. Its name in two would need a record of its holders (meta/clone.ts).
 */
import { WINDOW_BYTES } from '../../base/limits.js'
import type { ChunkOriginExtent, ChunkRef, ListedHeader } from '../../chunk/contract.js'
import type { Extent } from '../../meta/contract.js'
import { Spans, type Span } from './spans.js'

export interface FoundChunk {
  readonly id: number
  readonly header: ListedHeader
  /** Where the file shows it, if it names it: it is only there to tell what it hides, and what lies over it. null: nobody names it. */
  readonly named: readonly ChunkOriginExtent[] | null
}

export interface WindowLayout {
  readonly window: number
  /** In commit order, the later wins; of chunks that no file names. */
  readonly extents: readonly Extent[]
  /** Of these, what is seen, ascending: reads the same with all named chunks in their places. */
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
  /** Of the newest chunk that no file names: microseconds since 1970 of its writer's clock. */
  readonly newestUs: number
}

interface Placed {
  readonly chunk: FoundChunk
  readonly ref: ChunkRef
  readonly window: number
  readonly extents: readonly Extent[]
}

export function layoutOf(chunks: readonly FoundChunk[]): FileLayout {
  const ordered = [...chunks].sort((a, b) => a.header.origin.order - b.header.origin.order || a.id - b.id)
  const { placed, moved, senseless } = placeAll(ordered)
  const covered = new Spans()
  const seen = new Map<number, Extent[]>()
  let seenBytes = 0
  // From the newest to the oldest: what is not covered yet is seen.
  for (const { chunk, window, extents } of [...placed].reverse()) {
    for (const extent of [...extents].reverse()) {
      const { fileOffset, lengthBytes, chunkOffset } = extent
      for (const { start, end } of covered.add(fileOffset, fileOffset + lengthBytes)) {
        if (chunk.named !== null) continue
        seenBytes += end - start
        const piece = { fileOffset: start, lengthBytes: end - start, chunkOffset: chunkOffset + start - fileOffset }
        listIn(seen, window).push({ ...piece, chunk: extent.chunk })
      }
    }
  }
  const all = new Map<number, Extent[]>()
  for (const { chunk, window, extents } of placed) if (chunk.named === null) listIn(all, window).push(...extents)
  return {
    windows: [...all.keys()]
      .sort((a, b) => a - b)
      .map((window) => ({ window, extents: listIn(all, window), seen: ascending(seen.get(window) ?? []) })),
    sizeBytes: covered.all.at(-1)?.end ?? 0,
    seenBytes,
    gaps: covered.gaps(),
    moved,
    senseless,
    newestUs: ordered.reduce((us, { named, header }) => (named !== null ? us : Math.max(us, header.origin.order)), 0),
  }
}

function listIn(map: Map<number, Extent[]>, window: number): Extent[] {
  const list = map.get(window) ?? []
  map.set(window, list)
  return list
}

function ascending(extents: readonly Extent[]): Extent[] {
  return [...extents].sort((a, b) => a.fileOffset - b.fileOffset)
}

function placeAll(ordered: readonly FoundChunk[]): { placed: Placed[]; moved: number; senseless: number[] } {
  const placed: Placed[] = []
  const senseless: number[] = []
  let moved = 0
  let appendedEnd = 0
  for (const chunk of ordered) {
    const appended = chunk.header.origin.appended === true
    const shift = appended && chunk.named === null ? shiftOf(chunk, appendedEnd) : 0
    const one = place(chunk, shift)
    if (one === null) {
      senseless.push(chunk.id)
      continue
    }
    placed.push(one)
    if (!appended) continue
    if (shift !== 0) moved++
    for (const { fileOffset, lengthBytes } of one.extents) appendedEnd = Math.max(appendedEnd, fileOffset + lengthBytes)
  }
  return { placed, moved, senseless }
}

/** How far behind its writer's guess appended data go: behind other appended data, and not across the border of two windows. */
function shiftOf({ header }: FoundChunk, appendedEnd: number): number {
  const { extents } = header.origin
  const guess = extents.reduce((least, { fileOffset }) => Math.min(least, fileOffset), Infinity)
  const end = extents.reduce((most, { fileOffset, lengthBytes }) => Math.max(most, fileOffset + lengthBytes), 0)
  if (extents.length === 0) return 0
  const at = Math.max(guess, appendedEnd)
  const border = (Math.floor(at / WINDOW_BYTES) + 1) * WINDOW_BYTES
  return (at + end - guess > border ? border : at) - guess
}

/** null: it cannot have been written like this. */
function place(chunk: FoundChunk, shift: number): Placed | null {
  const { header, id } = chunk
  const { lengthBytes, root, origin } = header
  const ref = { id, lengthBytes, root }
  const extents = (chunk.named ?? origin.extents).map((extent) => ({
    ...extent,
    fileOffset: extent.fileOffset + shift,
    chunk: ref,
  }))
  const [first] = extents
  if (first === undefined) return null
  const window = Math.floor(first.fileOffset / WINDOW_BYTES)
  const isInside = extents.every(
    ({ fileOffset, lengthBytes: length }) =>
      fileOffset >= window * WINDOW_BYTES && fileOffset + length <= (window + 1) * WINDOW_BYTES,
  )
  return isInside || chunk.named !== null ? { chunk, ref, window, extents } : null
}
