/**
 * One batch of written bytes of one file that will become one chunk: positional bytes of one window, or whole appended
 * writes whose place the store decides.
 *
 * Life: active (takes writes) -> sealed (fixed: its data is being uploaded) -> gone (committed or failed).
 * Invariants:
 * - A byte written is copied once, into a block of the batch; the bytes of a block that a piece names never move.
 * - After `seal` no block changes: the upload reads them without a copy.
 * - The live bytes never exceed the capacity (the chunk size), the extents never exceed `maxExtents`.
 * - Pieces of a positional batch never leave its window.
 */
import { KIB, WINDOW_BYTES } from '../base/limits.js'
import { invariant } from '../base/invariant.js'
import type { TimeSpec } from '../base/clock.js'
import type { ChunkOriginExtent, Durability } from '../chunk/contract.js'
import type { Block, BlockPool } from './blocks.js'
import { IntervalMap, type Interval } from './interval-map.js'

export interface BatchOptions {
  readonly mode: 'at' | 'append'
  /** Index of the window; 0 for appended data. */
  readonly window: number
  readonly capacityBytes: number
  readonly maxExtents: number
  readonly bornMs: number
  /** The writer is sequential: take the whole room at once, so that the chunk lies in one block. */
  readonly hot: boolean
  readonly blocks: BlockPool
}

/** What comes along with the bytes of a write. */
export interface WriteInfo {
  readonly mtime: TimeSpec
  /** The writer has no CAP_FSETID: suid and sgid go. */
  readonly clearSuid: boolean
  readonly durability: Durability
}

/** What a process knows of a file beyond what the store says. */
export interface DirtyView {
  readonly mtime: TimeSpec
  readonly bytes: number
  sizeOver(size: number): number
}

export interface SealedData {
  /** Pieces of blocks, joined in order they are the chunk. */
  readonly data: readonly Buffer[]
  readonly lengthBytes: number
}

const PAGE_BYTES = 4 * KIB
const STRENGTH: readonly Durability[] = ['async', 'quorum', 'all']

export class Batch {
  readonly mode: 'at' | 'append'
  readonly window: number
  readonly bornMs: number
  /** Time of the last write into it. */
  mtime: TimeSpec = { sec: 0, nsec: 0 }
  clearSuid = false
  readonly #options: BatchOptions
  readonly #pieces = new IntervalMap<Buffer>()
  /** Blocks with room, in the order in which they are filled. */
  readonly #open: { readonly block: Buffer; used: number }[] = []
  #blocks: Block[] = []
  #durability: Durability | undefined
  #usedBytes = 0
  #allocatedBytes = 0
  #sealed: SealedData | null = null
  readonly #extents: ChunkOriginExtent[] = []

  constructor(options: BatchOptions) {
    this.mode = options.mode
    this.window = options.window
    this.bornMs = options.bornMs
    this.#options = options
  }

  /** Memory of its blocks. */
  get allocatedBytes(): number {
    return this.#allocatedBytes
  }

  /** File offset behind its last byte; of an append batch its length. */
  get end(): number {
    return this.#pieces.end
  }

  /** Bytes that were taken, overwritten ones once. */
  get usedBytes(): number {
    return this.#usedBytes
  }

  get isEmpty(): boolean {
    return this.#pieces.size === 0
  }

  get isFull(): boolean {
    return this.#usedBytes >= this.#options.capacityBytes
  }

  /** How many bytes of a write at `start`, from its front, still fit. 0: seal it and take another. */
  takeable(start: number, lengthBytes: number): number {
    if (this.#sealed !== null || this.#pieces.size >= this.#options.maxExtents) return 0
    let room = this.#options.capacityBytes - this.#usedBytes
    for (const gap of this.#pieces.gaps(start, start + lengthBytes)) {
      const length = gap.end - gap.start
      if (length > room) return gap.start + room - start
      room -= length
    }
    return lengthBytes
  }

  /** Bytes of new block needed before `put` of this range, and what would be a good size for it. */
  blockNeed(start: number, lengthBytes: number): { readonly min: number; readonly want: number } {
    let need = -this.#freeBytes
    for (const gap of this.#pieces.gaps(start, start + lengthBytes)) need += gap.end - gap.start
    if (need <= 0) return { min: 0, want: 0 }
    const left = this.#options.capacityBytes - this.#allocatedBytes
    const rounded = Math.ceil(need / PAGE_BYTES) * PAGE_BYTES
    return { min: need, want: this.#options.hot ? left : Math.min(left, Math.max(rounded, 2 * this.#allocatedBytes)) }
  }

  /** Adds a block of at most `bytes`; answers what of them it took. The caller accounts for the memory. */
  addBlock(bytes: number): number {
    const length = Math.min(bytes, this.#options.capacityBytes - this.#allocatedBytes)
    const block = this.#options.blocks.take(length)
    this.#blocks.push(block)
    this.#open.push({ block: block.bytes, used: 0 })
    this.#allocatedBytes += length
    return length
  }

  get #freeBytes(): number {
    return this.#open.reduce((sum, { block, used }) => sum + block.length - used, 0)
  }

  /** Copies `data` in. `takeable` answered its whole length and there are blocks for it. */
  put(start: number, data: Uint8Array, info: WriteInfo): void {
    const end = start + data.length
    for (const { start: from, end: to, value, at } of this.#pieces.overlapping(start, end)) {
      value.set(data.subarray(from - start, to - start), at)
    }
    for (const gap of this.#pieces.gaps(start, end)) {
      this.#store(gap.start, data.subarray(gap.start - start, gap.end - start))
    }
    this.#note(info)
  }

  /** As put, if they lie behind all that is here, in the block that is being filled, with room to spare. false: nothing was done. */
  putBehind(start: number, data: Uint8Array, info: WriteInfo): boolean {
    const [open] = this.#open
    const { length } = data
    const { capacityBytes, maxExtents } = this.#options
    if (this.mode !== 'at' || this.#sealed !== null || open === undefined || start < this.end) return false
    if (open.block.length - open.used <= length || this.#usedBytes + length >= capacityBytes) return false
    if (start > this.end && this.#pieces.size >= maxExtents) return false
    if (start + length > (this.window + 1) * WINDOW_BYTES) return false
    this.#store(start, data)
    this.#note(info)
    return true
  }

  #note(info: WriteInfo): void {
    this.mtime = info.mtime
    this.clearSuid ||= info.clearSuid
    this.#durability = stronger(this.#durability, info.durability)
  }

  /** The strongest that was asked for any of its bytes. */
  get durability(): Durability {
    return this.#durability ?? 'quorum'
  }

  /** Gives the memory back: nobody shows or sends its bytes any more. */
  free(): void {
    for (const block of this.#blocks) this.#options.blocks.give(block)
    this.#blocks = []
    this.#pieces.clear()
  }

  #store(start: number, data: Uint8Array): void {
    invariant(this.#sealed === null, 'a sealed batch takes no writes')
    this.#usedBytes += data.length
    for (let done = 0; done < data.length;) {
      const first = this.#open[0]
      invariant(first !== undefined, 'a block was added for every byte')
      const part = data.subarray(done, done + first.block.length - first.used)
      first.block.set(part, first.used)
      this.#pieces.set(start + done, start + done + part.length, first.block, first.used)
      first.used += part.length
      done += part.length
      if (first.used === first.block.length) this.#open.shift()
    }
  }

  /** Fixes the contents and lays them out as a chunk, in file order. Again: the same answer. */
  seal(): SealedData {
    if (this.#sealed !== null) return this.#sealed
    const data: Buffer[] = []
    let lengthBytes = 0
    for (const { start, end, value, at } of this.#pieces) {
      data.push(value.subarray(at, at + end - start))
      const last = this.#extents.at(-1)
      if (last !== undefined && last.fileOffset + last.lengthBytes === start) {
        this.#extents[this.#extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + end - start }
      } else {
        this.#extents.push({ fileOffset: start, chunkOffset: lengthBytes, lengthBytes: end - start })
      }
      lengthBytes += end - start
    }
    invariant(lengthBytes <= this.#options.capacityBytes, 'a batch fits into a chunk')
    invariant(this.mode === 'append' || this.end <= (this.window + 1) * WINDOW_BYTES, 'a batch stays in its window')
    this.#sealed = { data, lengthBytes }
    return this.#sealed
  }

  /** Of a sealed batch: what of the chunk belongs where. */
  get extents(): readonly ChunkOriginExtent[] {
    return this.#extents
  }

  /** Its bytes inside [start, end). */
  overlapping(start: number, end: number): Interval<Buffer>[] {
    return this.#pieces.overlapping(start, end)
  }
}

function stronger(a: Durability | undefined, b: Durability): Durability {
  return a !== undefined && STRENGTH.indexOf(a) > STRENGTH.indexOf(b) ? a : b
}

/** Of a file of `size` bytes with the batch on top. */
export function sizeAfter(size: number, { mode, end }: Pick<Batch, 'mode' | 'end'>): number {
  return mode === 'append' ? size + end : Math.max(size, end)
}
