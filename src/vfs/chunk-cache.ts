/**
 * Verified leaves of chunks. Chunks never change, so what is here is never stale, whatever happens to the files.
 *
 * Invariants:
 * - The memory that what is kept lies in stays below the limit (the chunk used longest ago goes first).
 * - A leaf is fetched once however many ask for it at the same time; a failed fetch leaves nothing behind.
 * - Leaves lie in memory lent by the chunk client. It is used only within one tick: whoever waits for a fetch copies what it
 *   needs in the tick in which the fetch ends, and an eviction may give the memory back in the next. It goes back once, when
 *   the last leaf in it was evicted; until then it stays whole, so that up to one read more is allocated than is counted.
 *   What fills at most half of it is copied and given back at once: small files would keep a multiple of themselves.
 */
import { Budget } from '../base/budget.js'
import { KIB, LEAF_BYTES, MIB } from '../base/limits.js'
import { allDone } from '../base/all-done.js'
import { invariant } from '../base/invariant.js'
import { ownBytes, ownIfSmall } from '../base/own-bytes.js'
import { LEAVES_TOGETHER_MAX, type ChunkClient, type ChunkRef, type LentBytes } from '../chunk/contract.js'

/** Longer chunks are not worth a copy at each write. */
const WRITTEN_MAX_BYTES = 256 * KIB
/** Longer runs are fetched in parts at once: they are verified by several workers, and the first bytes come sooner. */
const FETCH_LEAVES_MAX = MIB / LEAF_BYTES

/** Fewer leaves of different chunks are not fetched together. */
const GATHERED_MIN = 4
/** At once: each is a job for a worker. */
const GATHERS_MAX = 4

/** What is kept of a chunk takes so much beside its bytes: objects, maps, what malloc needs (measured: 0.9 KB). */
const ENTRY_BYTES = KIB

/** Memory that some kept leaves lie in. */
interface Loan {
  leaves: number
  /** Its part for each of the leaves that it began with. */
  readonly bytesOfLeaf: number
  readonly release: () => void
  /** Leaves of other chunks that lie in it, which go with the first of them: one that is used on and on would keep all of the memory. */
  readonly others?: readonly MissingLeaf[]
}

interface KeptLeaf {
  readonly data: Buffer
  readonly loan: Loan
}

/** Takes what it needs of a leaf, at once. */
type Taker = (leaf: number, data: Buffer) => void

/** A fetch of neighbouring leaves under way. */
interface Fetch {
  readonly done: Promise<void>
  readonly takers: Taker[]
}

interface CachedChunk {
  readonly id: number
  readonly leaves: Map<number, KeptLeaf>
  readonly pending: Map<number, Fetch>
}

/** A part of a chunk. */
export interface ChunkPart {
  readonly ref: ChunkRef
  readonly from: number
  readonly to: number
}

interface MissingLeaf {
  readonly ref: ChunkRef
  readonly chunk: CachedChunk
  readonly leaf: number
}

const nothing = (): void => undefined

export class ChunkCache {
  readonly #chunks: ChunkClient
  readonly #maxBytes: number
  readonly #slots: Budget
  readonly #gathers = new Budget(GATHERS_MAX)
  readonly #cached = new Map<number, CachedChunk>()
  #bytes = 0
  /** Leaves. */
  hits = 0
  misses = 0

  constructor(chunks: ChunkClient, maxBytes: number, reads: number) {
    this.#chunks = chunks
    this.#maxBytes = maxBytes
    this.#slots = new Budget(reads)
  }

  get usedBytes(): number {
    return this.#bytes
  }

  /** Copies [from, to) of the chunk to `target` at `at`. When it settles, also when it rejects, it writes there no more. */
  async copy(ref: ChunkRef, from: number, to: number, target: Buffer, at: number): Promise<void> {
    const { first, last } = leavesOf(from, to)
    // What is at hand is taken at once: it may be evicted while the rest is fetched.
    const missing: number[] = []
    const chunk = this.#use(ref.id)
    for (let leaf = first; leaf <= last; leaf++) {
      const kept = chunk.leaves.get(leaf)
      if (kept === undefined) missing.push(leaf)
      else copyLeaf(kept.data, leaf, from, to, target, at)
    }
    this.hits += last - first + 1 - missing.length
    this.misses += missing.length
    if (missing.length === 0) return
    await allDone(
      this.#fetch(ref, chunk, missing, (leaf, data) => {
        if (leaf >= first && leaf <= last) copyLeaf(data, leaf, from, to, target, at)
      }),
    )
  }

  /**
   * Fetches what is missing of the parts without handing it out; failures are left to the reader that needs it. Leaves that stand alone in
   * their chunks are fetched together. Who copies a part from now on finds its fetch under way.
   */
  async prefetch(parts: readonly ChunkPart[]): Promise<void> {
    const fetches: Promise<void>[] = []
    const alone = new Map<string, MissingLeaf[]>()
    for (const { ref, from, to } of parts) {
      const chunk = this.#use(ref.id)
      const { first, last } = leavesOf(from, to)
      const missing: number[] = []
      for (let leaf = first; leaf <= last; leaf++) if (!chunk.leaves.has(leaf)) missing.push(leaf)
      const [leaf] = missing
      const near = missing.length === 1 ? this.#chunks.nearNode?.(ref.id) : undefined
      if (near === undefined || leaf === undefined) {
        fetches.push(...this.#fetch(ref, chunk, missing, nothing))
        continue
      }
      const leaves = alone.get(near)
      if (leaves === undefined) alone.set(near, [{ ref, chunk, leaf }])
      else leaves.push({ ref, chunk, leaf })
    }
    for (const [near, leaves] of alone) {
      for (let at = 0; at < leaves.length; at += LEAVES_TOGETHER_MAX) {
        fetches.push(...this.#fetchAlone(near, leaves.slice(at, at + LEAVES_TOGETHER_MAX)))
      }
    }
    await Promise.allSettled(fetches)
  }

  /** Few are as quick by themselves, and take no more memory than they are long. */
  #fetchAlone(near: string, leaves: readonly MissingLeaf[]): Promise<void>[] {
    if (leaves.length >= GATHERED_MIN) return this.#gather(near, leaves)
    return leaves.flatMap(({ ref, chunk, leaf }) => this.#fetch(ref, chunk, [leaf], nothing))
  }

  /** Fetches those that nobody fetches yet, in one go. */
  #gather(near: string, leaves: readonly MissingLeaf[]): Promise<void>[] {
    const asked: MissingLeaf[] = []
    // Begins when all of them are noted.
    const lent = Promise.resolve()
      .then(() => this.#lendLeaves(near, asked))
      .catch(() => [])
    const fetches: Promise<void>[] = []
    for (const missing of leaves) {
      const { chunk, leaf } = missing
      if (chunk.pending.has(leaf)) continue
      const at = asked.push(missing) - 1
      const takers: Taker[] = []
      const done = lent.then((found) => this.#gathered(missing, found[at] ?? null, takers))
      chunk.pending.set(leaf, { done, takers })
      fetches.push(done)
    }
    return fetches
  }

  /** In the order asked for; what is null, or not there, is to be lent by itself. Each counts as a leaf of its loan that ends. */
  async #lendLeaves(near: string, asked: readonly MissingLeaf[]): Promise<readonly (KeptLeaf | null)[]> {
    if (asked.length === 0) return []
    const reply = await this.#gathers.with(async () => await this.#chunks.lendLeaves?.(near, asked))
    if (reply === undefined) return []
    const { leaves, release } = reply
    const found = leaves.filter((leaf) => leaf !== null)
    const memoryBytes = [...new Set(found.map(({ buffer }) => buffer))].reduce((sum, each) => sum + each.byteLength, 0)
    if (2 * sumOf(found) <= memoryBytes) {
      const own = leaves.map((leaf) => leaf && ownLeaf(leaf))
      release()
      return own
    }
    const bytesOfLeaf = Math.ceil(memoryBytes / found.length) + ENTRY_BYTES
    const loan: Loan = { leaves: found.length, bytesOfLeaf, release, others: asked }
    return leaves.map((data) => data && { data, loan })
  }

  async #gathered({ ref, chunk, leaf }: MissingLeaf, found: KeptLeaf | null, takers: readonly Taker[]): Promise<void> {
    chunk.pending.delete(leaf)
    if (found === null) {
      const fetch = this.#fetchRun(ref, chunk, leaf, 1)
      fetch.takers.push(...takers)
      await fetch.done
      return
    }
    const { data, loan } = found
    try {
      for (const taker of takers) taker(leaf, data)
      this.#keep(chunk, leaf, data, loan)
    } finally {
      endOfLeaf(loan)
    }
    this.#evict()
  }

  /** Keeps a small chunk that this process wrote: what was just written is often read next. `data` is copied. */
  put(ref: ChunkRef, data: readonly Buffer[]): void {
    if (ref.lengthBytes > WRITTEN_MAX_BYTES) return
    this.#keepAll(this.#use(ref.id), 0, { bytes: ownBytes(data, ref.lengthBytes), release: nothing }, [])
  }

  #use(id: number): CachedChunk {
    const chunk = this.#cached.get(id) ?? { id, leaves: new Map(), pending: new Map() }
    this.#cached.delete(id)
    this.#cached.set(id, chunk)
    return chunk
  }

  /** The fetches that bring `leaves`; neighbours that nobody fetches yet come with one read. */
  #fetch(ref: ChunkRef, chunk: CachedChunk, leaves: readonly number[], taker: Taker): Promise<void>[] {
    const fetches = new Set<Fetch>()
    let run: number[] = []
    const endRun = (): void => {
      const [first] = run
      if (first !== undefined) fetches.add(this.#fetchRun(ref, chunk, first, run.length))
      run = []
    }
    for (const leaf of leaves) {
      const pending = chunk.pending.get(leaf)
      if (run.at(-1) !== leaf - 1 || run.length === FETCH_LEAVES_MAX || pending !== undefined) endRun()
      if (pending !== undefined) fetches.add(pending)
      else run.push(leaf)
    }
    endRun()
    return [...fetches].map(({ done, takers }) => {
      takers.push(taker)
      return done
    })
  }

  #fetchRun(ref: ChunkRef, chunk: CachedChunk, first: number, count: number): Fetch {
    const from = first * LEAF_BYTES
    const lengthBytes = Math.min(ref.lengthBytes - from, count * LEAF_BYTES)
    const takers: Taker[] = []
    const forget = (): void => {
      for (let i = 0; i < count; i++) chunk.pending.delete(first + i)
    }
    const done = this.#slots
      .with(() => this.#chunks.lend(ref, from, lengthBytes))
      .then(
        (lent) => {
          forget()
          this.#keepAll(chunk, first, heldOf(lent), takers)
        },
        (error: unknown) => {
          forget()
          throw error
        },
      )
    const fetch = { done, takers }
    for (let i = 0; i < count; i++) chunk.pending.set(first + i, fetch)
    return fetch
  }

  /** Hands the leaves from `first` on to those who wait, and keeps them. */
  #keepAll(chunk: CachedChunk, first: number, { bytes, release }: LentBytes, takers: readonly Taker[]): void {
    const memoryBytes = bytes.buffer.byteLength + ENTRY_BYTES
    const loan: Loan = {
      leaves: 1,
      bytesOfLeaf: Math.ceil(memoryBytes / Math.ceil(bytes.length / LEAF_BYTES)),
      release,
    }
    for (let at = 0; at < bytes.length; at += LEAF_BYTES) {
      const leaf = first + at / LEAF_BYTES
      const data = bytes.subarray(at, at + LEAF_BYTES)
      for (const taker of takers) taker(leaf, data)
      this.#keep(chunk, leaf, data, loan)
    }
    endOfLeaf(loan)
    this.#evict()
  }

  #keep(chunk: CachedChunk, leaf: number, data: Buffer, loan: Loan): void {
    // The chunk may have been evicted meanwhile: who waited has its bytes.
    if (this.#cached.get(chunk.id) !== chunk || chunk.leaves.has(leaf)) return
    loan.leaves++
    chunk.leaves.set(leaf, { data, loan })
    this.#bytes += loan.bytesOfLeaf
  }

  /** The leaf that came first, of the chunk used longest ago: a chunk larger than the cache can be read through it. */
  #evict(): void {
    for (const [id, chunk] of this.#cached) {
      for (const [leaf, { loan }] of chunk.leaves) {
        if (this.#bytes <= this.#maxBytes) return
        this.#drop(chunk, leaf, loan)
        for (const other of loan.others ?? []) {
          if (other.chunk.leaves.get(other.leaf)?.loan === loan) this.#drop(other.chunk, other.leaf, loan)
        }
      }
      if (chunk.pending.size === 0) this.#cached.delete(id)
    }
  }

  #drop(chunk: CachedChunk, leaf: number, loan: Loan): void {
    chunk.leaves.delete(leaf)
    this.#bytes -= loan.bytesOfLeaf
    endOfLeaf(loan)
  }
}

function heldOf({ bytes, release }: LentBytes): LentBytes {
  const own = ownIfSmall(bytes)
  if (own === bytes) return { bytes, release }
  release()
  return { bytes: own, release: nothing }
}

function sumOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0)
}

/** What lies in memory that would mostly be kept in vain. */
function ownLeaf(leaf: Buffer): KeptLeaf {
  const data = ownBytes([leaf], leaf.length)
  return { data, loan: { leaves: 1, bytesOfLeaf: leaf.length + ENTRY_BYTES, release: nothing } }
}

function endOfLeaf(loan: Loan): void {
  loan.leaves--
  if (loan.leaves === 0) loan.release()
}

function leavesOf(from: number, to: number): { first: number; last: number } {
  return { first: Math.floor(from / LEAF_BYTES), last: Math.ceil(to / LEAF_BYTES) - 1 }
}

/** What the cache takes for [from, to) of a chunk. */
export function leafBytes(from: number, to: number): number {
  const { first, last } = leavesOf(from, to)
  return (last - first + 1) * LEAF_BYTES
}

function copyLeaf(data: Buffer, leaf: number, from: number, to: number, target: Buffer, at: number): void {
  const start = Math.max(from, leaf * LEAF_BYTES)
  const end = Math.min(to, (leaf + 1) * LEAF_BYTES)
  invariant(end - leaf * LEAF_BYTES <= data.length, 'a leaf is as long as its chunk says')
  data.copy(target, at + start - from, start - leaf * LEAF_BYTES, end - leaf * LEAF_BYTES)
}
