/**
 * The extents of one window of a file, flattened: where two overlap the later committed wins, and a hole hides what is
 * below it. Pure.
 */
import type { ChunkRef } from '../chunk/contract.js'
import type { BodyPiece, Extent } from '../meta/contract.js'
import { KIB } from '../base/limits.js'
import { ownIfSmall } from '../base/own-bytes.js'
import { IntervalMap } from './interval-map.js'

/** What a piece of a body takes beside its bytes. */
const PIECE_BYTES = KIB

/** A piece of a file: in a chunk, in memory, or (both null) zeros. `chunkOffset`: where it begins in either. */
export interface FilePiece {
  readonly start: number
  readonly end: number
  readonly chunk: ChunkRef | null
  readonly bytes: Buffer | null
  readonly chunkOffset: number
}

/** What the contents of a window are told by: changes add extents, or make a generation. */
export interface WindowMark {
  /** 0: it is not known. */
  readonly generation: number
  readonly extents: number
}

export function isHole({ chunk, bytes }: FilePiece): boolean {
  return chunk === null && bytes === null
}

export class ExtentMap {
  readonly #pieces = new IntervalMap<ChunkRef | Buffer>()
  /** Extents that the store holds, as far as known: against `pieces` it says how much of the window is dead. */
  #added = 0
  /** The same, for all time. */
  #held = 0
  #generation: number
  #bodyBytes = 0

  constructor(extents: readonly Extent[] = [], body: readonly BodyPiece[] = [], generation = 0) {
    this.#generation = generation
    this.addBody(body)
    this.add(extents)
  }

  get mark(): WindowMark {
    return { generation: this.#generation, extents: this.#held }
  }

  /** Adds what the store keeps itself, in commit order; before any extents. */
  addBody(body: readonly BodyPiece[]): void {
    for (const { fileOffset, lengthBytes, bytes } of body) {
      if (bytes === null) this.#pieces.delete(fileOffset, fileOffset + lengthBytes)
      else this.#pieces.set(fileOffset, fileOffset + lengthBytes, ownIfSmall(bytes), 0)
      this.#bodyBytes += bytes === null ? 0 : bytes.length + PIECE_BYTES
    }
  }

  /** Memory that the body takes, with what later pieces have hidden since the last recount. */
  get bodyBytes(): number {
    return this.#bodyBytes
  }

  recountBody(): void {
    const buffers = new Set<Buffer>()
    this.#bodyBytes = 0
    for (const { value } of this.#pieces) {
      if (!Buffer.isBuffer(value)) continue
      // What was written over in the middle is two pieces of one buffer.
      this.#bodyBytes += PIECE_BYTES + (buffers.has(value) ? 0 : value.length)
      buffers.add(value)
    }
  }

  /** Adds extents in commit order. */
  add(extents: readonly Extent[]): void {
    this.#added += extents.length
    this.#held += extents.length
    for (const { fileOffset, lengthBytes, chunk, chunkOffset } of extents) {
      if (chunk === null) this.#pieces.delete(fileOffset, fileOffset + lengthBytes)
      else this.#pieces.set(fileOffset, fileOffset + lengthBytes, chunk, chunkOffset)
    }
  }

  /** Of its last piece. */
  get end(): number {
    return this.#pieces.end
  }

  get pieces(): number {
    return this.#pieces.size
  }

  /** Most of what was added is hidden by now: worth a compaction. Says so once for the extents of now. */
  takeCrowded(crowding: Crowding): boolean {
    if (!isCrowded(this.#added, this.#pieces.size, crowding)) return false
    this.#added = this.#pieces.size
    return true
  }

  /** The store has what is seen, and nothing besides. */
  wasCompacted(generation: number): void {
    this.#generation = generation
    this.#added = this.#held = this.#pieces.size
  }

  /** [start, end) without gaps, in order; what no extent covers is a hole. */
  slice(start: number, end: number): FilePiece[] {
    const pieces: FilePiece[] = []
    let from = start
    for (const item of this.#pieces.overlapping(start, end)) {
      if (item.start > from) pieces.push(holeOf(from, item.start))
      const { start: itemStart, end: itemEnd, value, at: chunkOffset } = item
      const data = Buffer.isBuffer(value) ? { chunk: null, bytes: value } : { chunk: value, bytes: null }
      pieces.push({ start: itemStart, end: itemEnd, ...data, chunkOffset })
      from = item.end
    }
    if (from < end) pieces.push(holeOf(from, end))
    return pieces
  }

  /** What is seen in chunks, in the order of the file. */
  seen(): Extent[] {
    const extents: Extent[] = []
    for (const { start, end, value, at } of this.#pieces) {
      if (Buffer.isBuffer(value)) continue
      extents.push({ fileOffset: start, lengthBytes: end - start, chunk: value, chunkOffset: at })
    }
    return extents
  }

  /** Bytes of [start, end) that are stored, holes not counted. */
  storedBytes(start: number, end: number): number {
    return this.#pieces.covered(start, end)
  }
}

function holeOf(start: number, end: number): FilePiece {
  return { start, end, chunk: null, bytes: null, chunkOffset: 0 }
}

/** One extent of each chunk that only the old extents name. */
export function unusedChunks(old: readonly Extent[], extents: readonly Extent[]): Extent[] {
  const used = new Set(extents.map(({ chunk }) => chunk?.id))
  const unused = new Map<number, Extent>()
  for (const extent of old) {
    if (extent.chunk !== null && !used.has(extent.chunk.id)) unused.set(extent.chunk.id, extent)
  }
  return [...unused.values()]
}

/** When a window is worth a compaction: so many extents at least, and so many for each piece that is seen. */
export interface Crowding {
  readonly extents: number
  readonly ratio: number
}

/** While a file is in use, only what makes it slow; when it is closed, also a few large extents that nobody sees. */
export const CROWDED_IN_USE: Crowding = { extents: 256, ratio: 4 }
export const CROWDED_CLOSED: Crowding = { extents: 4, ratio: 2 }

export function isCrowded(extents: number, pieces: number, crowding: Crowding): boolean {
  return extents >= crowding.extents && extents >= crowding.ratio * pieces
}

/** Bytes newly allocated when `extents` are added to `map`, each byte counted once and overwritten ones not. */
export function allocatedDelta(map: ExtentMap, extents: readonly Extent[]): number {
  const written = new IntervalMap<true>()
  const freed = new IntervalMap<true>()
  for (const { fileOffset, lengthBytes, chunk } of extents) {
    const end = fileOffset + lengthBytes
    const [into, outOf] = chunk === null ? [freed, written] : [written, freed]
    into.set(fileOffset, end, true, fileOffset)
    outOf.delete(fileOffset, end)
  }
  let delta = 0
  for (const item of written) delta += item.end - item.start - map.storedBytes(item.start, item.end)
  for (const item of freed) delta -= map.storedBytes(item.start, item.end)
  return delta
}
