/**
 * Verified leaves of chunks. Chunks never change, so what is here is never stale, whatever happens to the files.
 *
 * Invariants: the sum of kept bytes stays below the limit (the chunk used longest ago goes first); a leaf is fetched
 * once however many ask for it at the same time; a failed fetch leaves nothing behind. Leaves that came with one read
 * share its memory, so that up to one read more may stay allocated than is counted.
 */
import { KIB, LEAF_BYTES } from '../base/limits.js'
import { invariant } from '../base/invariant.js'
import type { ChunkClient, ChunkRef } from '../chunk/contract.js'
import { Budget } from './budget.js'

/** Longer chunks are not worth a copy at each write. */
const WRITTEN_MAX_BYTES = 256 * KIB

interface CachedChunk {
  readonly id: number
  readonly leaves: Map<number, Buffer>
  readonly pending: Map<number, Promise<Buffer>>
}

export class ChunkCache {
  readonly #chunks: ChunkClient
  readonly #maxBytes: number
  readonly #slots: Budget
  readonly #cached = new Map<number, CachedChunk>()
  #bytes = 0

  constructor(chunks: ChunkClient, maxBytes: number, reads: number) {
    this.#chunks = chunks
    this.#maxBytes = maxBytes
    this.#slots = new Budget(reads)
  }

  get usedBytes(): number {
    return this.#bytes
  }

  /** Copies [from, to) of the chunk to `target` at `at`. */
  async copy(ref: ChunkRef, from: number, to: number, target: Buffer, at: number): Promise<void> {
    const { first, last } = leavesOf(from, to)
    // What is at hand is taken at once: it may be evicted while the rest is fetched.
    const missing: number[] = []
    const chunk = this.#use(ref.id)
    for (let leaf = first; leaf <= last; leaf++) {
      const data = chunk.leaves.get(leaf)
      if (data === undefined) missing.push(leaf)
      else copyLeaf(data, leaf, from, to, target, at)
    }
    const fetched = missing.length === 0 ? [] : this.#fetch(ref, chunk, missing)
    await Promise.all(fetched.map(async ({ leaf, data }) => copyLeaf(await data, leaf, from, to, target, at)))
  }

  /** Fetches what is missing of [from, to) without handing it out; failures are left to the reader that needs it. */
  async prefetch(ref: ChunkRef, from: number, to: number): Promise<void> {
    const chunk = this.#use(ref.id)
    const { first, last } = leavesOf(from, to)
    const missing: number[] = []
    for (let leaf = first; leaf <= last; leaf++) if (!chunk.leaves.has(leaf)) missing.push(leaf)
    await Promise.allSettled(this.#fetch(ref, chunk, missing).map(({ data }) => data))
  }

  /** Keeps a small chunk that this process wrote: what was just written is often read next. `data` is copied. */
  put(ref: ChunkRef, data: readonly Buffer[]): void {
    if (ref.lengthBytes > WRITTEN_MAX_BYTES) return
    const bytes = Buffer.concat(data, ref.lengthBytes)
    const chunk = this.#use(ref.id)
    for (let at = 0; at < bytes.length; at += LEAF_BYTES) {
      this.#keep(chunk, at / LEAF_BYTES, bytes.subarray(at, at + LEAF_BYTES))
    }
  }

  #use(id: number): CachedChunk {
    const chunk = this.#cached.get(id) ?? { id, leaves: new Map(), pending: new Map() }
    this.#cached.delete(id)
    this.#cached.set(id, chunk)
    return chunk
  }

  /** One promise for each leaf; neighbours that nobody fetches yet come with one read. */
  #fetch(ref: ChunkRef, chunk: CachedChunk, leaves: readonly number[]): { leaf: number; data: Promise<Buffer> }[] {
    const found: { leaf: number; data: Promise<Buffer> }[] = []
    let run: number[] = []
    const endRun = (): void => {
      const [first] = run
      if (first !== undefined) found.push(...this.#fetchRun(ref, chunk, first, run.length))
      run = []
    }
    for (const leaf of leaves) {
      const pending = chunk.pending.get(leaf)
      if (run.at(-1) !== leaf - 1 || pending !== undefined) endRun()
      if (pending !== undefined) found.push({ leaf, data: pending })
      else run.push(leaf)
    }
    endRun()
    return found
  }

  #fetchRun(
    ref: ChunkRef,
    chunk: CachedChunk,
    first: number,
    count: number,
  ): { leaf: number; data: Promise<Buffer> }[] {
    const from = first * LEAF_BYTES
    const length = Math.min(ref.lengthBytes - from, count * LEAF_BYTES)
    const read = this.#slots.with(() => this.#chunks.read(ref, from, length))
    return Array.from({ length: count }, (_, i) => {
      const leaf = first + i
      const data = read.then(
        (bytes) => this.#keep(chunk, leaf, bytes.subarray(i * LEAF_BYTES, (i + 1) * LEAF_BYTES)),
        (error: unknown) => {
          chunk.pending.delete(leaf)
          throw error
        },
      )
      chunk.pending.set(leaf, data)
      return { leaf, data }
    })
  }

  #keep(chunk: CachedChunk, leaf: number, data: Buffer): Buffer {
    chunk.pending.delete(leaf)
    // The chunk may have been evicted meanwhile: the leaf is still good for who waits, but not kept.
    if (this.#cached.get(chunk.id) !== chunk || chunk.leaves.has(leaf)) return data
    chunk.leaves.set(leaf, data)
    this.#bytes += data.length
    this.#evict()
    return data
  }

  /** The leaf that came first, of the chunk used longest ago: a chunk larger than the cache can be read through it. */
  #evict(): void {
    for (const [id, chunk] of this.#cached) {
      for (const [leaf, data] of chunk.leaves) {
        if (this.#bytes <= this.#maxBytes) return
        chunk.leaves.delete(leaf)
        this.#bytes -= data.length
      }
      if (chunk.pending.size === 0) this.#cached.delete(id)
    }
  }
}

function leavesOf(from: number, to: number): { first: number; last: number } {
  return { first: Math.floor(from / LEAF_BYTES), last: Math.ceil(to / LEAF_BYTES) - 1 }
}

function copyLeaf(data: Buffer, leaf: number, from: number, to: number, target: Buffer, at: number): void {
  const start = Math.max(from, leaf * LEAF_BYTES)
  const end = Math.min(to, (leaf + 1) * LEAF_BYTES)
  invariant(end - leaf * LEAF_BYTES <= data.length, 'a leaf is as long as its chunk says')
  data.copy(target, at + start - from, start - leaf * LEAF_BYTES, end - leaf * LEAF_BYTES)
}
