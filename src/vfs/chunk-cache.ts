/**
 * Verified leaves of chunks. Chunks never change, so what is here is never stale, whatever happens to the files. Leaves that came together
 * are kept, waited for and handed out together: as a run.
 *
 * Invariants:
 * - The runs of a chunk do not overlap: a leaf is fetched once however many ask for it at the same time. A failed fetch leaves nothing behind.
 * - The memory that what is kept lies in, with what readers hold beside it, stays below the limit (of the chunk used longest ago the first run
 *   goes first) unless readers alone hold more.
 * - Runs lie in memory lent by the chunk client. It goes back once: when what lies in it was evicted, and no reader holds a slice of it. Who
 *   holds none uses it only within one tick: whoever waits for a fetch takes what it needs in the tick in which the fetch ends.
 *   What fills at most half of its memory is copied, and that given back at once: small files would keep a multiple of themselves.
 */
import { Budget } from '../base/budget.js'
import { KIB, LEAF_BYTES, MIB } from '../base/limits.js'
import { allDone } from '../base/all-done.js'
import { invariant } from '../base/invariant.js'
import { giveBack, lend } from '../base/lent.js'
import { ownBytes, ownIfSmall } from '../base/own-bytes.js'
import {
  LEAVES_TOGETHER_MAX,
  type ChunkClient,
  type ChunkRef,
  type LeafRef,
  type LentBytes,
} from '../chunk/contract.js'
import { IntervalMap, type Interval } from './interval-map.js'

/** Longer chunks are not worth a copy at each write. */
const WRITTEN_MAX_BYTES = 256 * KIB
/** Longer runs are fetched in parts at once: they are verified by several workers, and the first bytes come sooner. */
const FETCH_LEAVES_MAX = MIB / LEAF_BYTES

/** Fewer leaves of different chunks are not fetched together. */
const GATHERED_MIN = 4
/** At once: each is a job for a worker. */
const GATHERS_MAX = 4

/** What is kept takes so much beside its bytes: objects, maps, what malloc needs (measured: 0.9 KB for a chunk). */
const ENTRY_BYTES = KIB

/** Memory that runs lie in. It is counted until the last of those who hold it has let go: runs that are kept, slices, who brings it. */
interface Loan {
  holds: number
  readonly countedBytes: number
  readonly release: () => void
  /** Runs of other chunks that lie in it, which go with the first of them: one that is used on and on would keep all of the memory. */
  readonly others?: readonly LoneLeaf[]
}

/** Bytes of a chunk, and the memory that they lie in. */
interface Kept {
  readonly data: Buffer
  readonly loan: Loan
}

/** Takes what it needs of `kept`, whose first byte is `from` of the chunk, at once. */
type Taker = (kept: Kept, from: number) => void

/** Neighbouring leaves, from `first` up to `end` (not included), that are kept or on their way. */
interface Run {
  readonly first: number
  readonly end: number
  /** null: on their way. */
  kept: Kept | null
  /** Settles when they are there, and handed to the takers. */
  arrival: Promise<void>
  readonly takers: Taker[]
}

interface CachedChunk {
  readonly id: number
  /** By leaves. */
  readonly runs: IntervalMap<Run>
}

/** A part of a chunk. */
export interface ChunkPart {
  readonly ref: ChunkRef
  readonly from: number
  readonly to: number
}

/** A leaf that stands alone in its chunk. */
interface LoneLeaf extends LeafRef {
  readonly chunk: CachedChunk
  readonly run: Run
}

const nothing = (): void => undefined
const arrived = Promise.resolve()

export class ChunkCache {
  readonly #chunks: ChunkClient
  readonly #maxBytes: number
  readonly #slots: Budget
  readonly #gathers = new Budget(GATHERS_MAX)
  /** Used longest ago first. Who has a run is here. */
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
    const arrivals = this.#take(ref, from, to, ({ data }, start) => {
      const begin = Math.max(from, start)
      data.copy(target, at + begin - from, begin - start, Math.min(to - start, data.length))
    })
    if (arrivals.length > 0) await allDone(arrivals)
  }

  /**
   * [from, to) of the chunk as it lies in the cache, in order: slices that stay as they are until they are given back (base/lent.ts), which
   * whoever has them must do. Nobody writes there.
   */
  async slices(ref: ChunkRef, from: number, to: number): Promise<readonly Buffer[]> {
    const taken: { readonly start: number; readonly slice: Buffer }[] = []
    const arrivals = this.#take(ref, from, to, ({ data, loan }, start) => {
      const slice = data.subarray(Math.max(0, from - start), to - start)
      loan.holds++
      lend(slice, () => this.#letGo(loan))
      taken.push({ start, slice })
    })
    try {
      if (arrivals.length > 0) await allDone(arrivals)
    } catch (error) {
      for (const { slice } of taken) giveBack(slice)
      throw error
    }
    return taken.sort((a, b) => a.start - b.start).map(({ slice }) => slice)
  }

  /**
   * Fetches what is missing of the parts without handing it out; failures are left to the reader that needs it. Leaves that stand alone in
   * their chunks are fetched together. Who copies a part from now on finds its fetch under way.
   */
  async prefetch(parts: readonly ChunkPart[]): Promise<void> {
    const arrivals: Promise<void>[] = []
    const alone = new Map<string, LeafRef[]>()
    for (const { ref, from, to } of parts) {
      const leaf = this.#loneLeaf(ref, from, to)
      const near = leaf === null ? undefined : this.#chunks.nearNode?.(ref.id)
      if (near === undefined || leaf === null) {
        arrivals.push(...this.#ask(ref, from, to))
        continue
      }
      const leaves = alone.get(near)
      if (leaves === undefined) alone.set(near, [{ ref, leaf }])
      else leaves.push({ ref, leaf })
    }
    for (const [near, leaves] of alone) {
      for (let at = 0; at < leaves.length; at += LEAVES_TOGETHER_MAX) {
        arrivals.push(...this.#askAlone(near, leaves.slice(at, at + LEAVES_TOGETHER_MAX)))
      }
    }
    await Promise.allSettled(arrivals)
  }

  /** Keeps a small chunk that this process wrote: what was just written is often read next. `data` is copied. */
  put(ref: ChunkRef, data: readonly Buffer[]): void {
    if (ref.lengthBytes > WRITTEN_MAX_BYTES) return
    const { runs } = this.#use(ref.id)
    if (runs.size > 0) return
    const { end } = leavesOf(0, ref.lengthBytes)
    const kept = this.#owned(ownBytes(data, ref.lengthBytes))
    runs.set(0, end, { first: 0, end, kept, arrival: arrived, takers: [] }, 0)
    this.#evict()
  }

  #use(id: number): CachedChunk {
    const chunk = this.#cached.get(id) ?? { id, runs: new IntervalMap() }
    this.#cached.delete(id)
    this.#cached.set(id, chunk)
    return chunk
  }

  /** The only leaf of the range that is in no run, if it is only one. */
  #loneLeaf(ref: ChunkRef, from: number, to: number): number | null {
    const { first, end } = leavesOf(from, to)
    const [gap, other] = this.#use(ref.id).runs.gaps(first, end)
    return gap !== undefined && other === undefined && gap.end === gap.start + 1 ? gap.start : null
  }

  /**
   * Hands out what is kept of [from, to) at once, for it may be evicted while the rest is fetched, and the rest as it comes; answers the
   * arrivals to wait for.
   */
  #take(ref: ChunkRef, from: number, to: number, taker: Taker): Promise<void>[] {
    const arrivals: Promise<void>[] = []
    let missing = 0
    for (const { start, end, value: run } of this.#runs(ref, from, to)) {
      if (run.kept !== null) {
        taker(run.kept, run.first * LEAF_BYTES)
        continue
      }
      missing += end - start
      run.takers.push(taker)
      arrivals.push(run.arrival)
    }
    this.hits += leafBytes(from, to) / LEAF_BYTES - missing
    this.misses += missing
    return arrivals
  }

  #ask(ref: ChunkRef, from: number, to: number): Promise<void>[] {
    return this.#runs(ref, from, to).flatMap(({ value: { kept, arrival } }) => (kept === null ? [arrival] : []))
  }

  /** All runs over [from, to), without gaps: what was in none is on its way now, neighbours with one read. */
  #runs(ref: ChunkRef, from: number, to: number): readonly Interval<Run>[] {
    const { first, end } = leavesOf(from, to)
    const chunk = this.#use(ref.id)
    for (const gap of chunk.runs.gaps(first, end)) {
      for (let at = gap.start; at < gap.end; at += FETCH_LEAVES_MAX) {
        this.#begin(chunk, at, Math.min(gap.end, at + FETCH_LEAVES_MAX), (run) => this.#fetch(ref, chunk, run))
      }
    }
    return chunk.runs.overlapping(first, end)
  }

  #begin(chunk: CachedChunk, first: number, end: number, fetch: (run: Run) => Promise<void>): Run {
    const run: Run = { first, end, kept: null, arrival: arrived, takers: [] }
    chunk.runs.set(first, end, run, first)
    run.arrival = fetch(run)
    return run
  }

  async #fetch(ref: ChunkRef, chunk: CachedChunk, run: Run): Promise<void> {
    const { from, lengthBytes } = bytesOf(ref, run)
    let lent: LentBytes
    try {
      lent = await this.#slots.with(() => this.#chunks.lend(ref, from, lengthBytes))
    } catch (error) {
      this.#forget(chunk, run)
      throw error
    }
    this.#arrive(ref, chunk, run, this.#borrowed(lent))
  }

  /** Hands the bytes on to those who wait, and keeps them. Whoever brings them has a hold, which ends. */
  #arrive(ref: ChunkRef, chunk: CachedChunk, run: Run, kept: Kept): void {
    const { from, lengthBytes } = bytesOf(ref, run)
    try {
      invariant(kept.data.length === lengthBytes, 'a run is as long as its leaves')
      for (const taker of run.takers) taker(kept, from)
      run.takers.length = 0
      kept.loan.holds++
      run.kept = kept
    } catch (error) {
      this.#forget(chunk, run)
      throw error
    } finally {
      this.#letGo(kept.loan)
    }
    this.#evict()
  }

  /** Few are as quick by themselves, and take no more memory than they are long. */
  #askAlone(near: string, leaves: readonly LeafRef[]): Promise<void>[] {
    if (leaves.length >= GATHERED_MIN) return this.#gather(near, leaves)
    return leaves.flatMap(({ ref, leaf }) => this.#ask(ref, leaf * LEAF_BYTES, leaf * LEAF_BYTES + 1))
  }

  /** Fetches those that nobody fetches yet, in one go. */
  #gather(near: string, leaves: readonly LeafRef[]): Promise<void>[] {
    const asked: LoneLeaf[] = []
    // Begins when all of them are noted.
    const lent = Promise.resolve()
      .then(() => this.#lendLeaves(near, asked))
      .catch(() => [])
    return leaves.map(({ ref, leaf }) => {
      const chunk = this.#use(ref.id)
      const [there] = chunk.runs.overlapping(leaf, leaf + 1)
      if (there !== undefined) return there.value.arrival
      return this.#begin(chunk, leaf, leaf + 1, (run) => {
        const lone = { ref, leaf, chunk, run }
        const place = asked.push(lone) - 1
        return lent.then((found) => this.#gathered(lone, found[place] ?? null))
      }).arrival
    })
  }

  /** In the order asked for; what is null, or not there, is to be lent by itself. Each has a hold on its loan. */
  async #lendLeaves(near: string, asked: readonly LoneLeaf[]): Promise<readonly (Kept | null)[]> {
    if (asked.length === 0) return []
    const reply = await this.#gathers.with(async () => await this.#chunks.lendLeaves?.(near, asked))
    if (reply === undefined) return []
    const { leaves, release } = reply
    const found = leaves.filter((leaf) => leaf !== null)
    const memoryBytes = [...new Set(found.map(({ buffer }) => buffer))].reduce((sum, each) => sum + each.byteLength, 0)
    if (2 * sumOf(found) <= memoryBytes) {
      const own = leaves.map((leaf) => leaf && this.#owned(ownBytes([leaf], leaf.length)))
      release()
      return own
    }
    const loan = this.#loan(memoryBytes + found.length * ENTRY_BYTES, release, found.length, asked)
    return leaves.map((data) => data && { data, loan })
  }

  async #gathered({ ref, chunk, run }: LoneLeaf, found: Kept | null): Promise<void> {
    if (found === null) await this.#fetch(ref, chunk, run)
    else this.#arrive(ref, chunk, run, found)
  }

  #borrowed({ bytes, release }: LentBytes): Kept {
    const own = ownIfSmall(bytes)
    if (own !== bytes) {
      release()
      return this.#owned(own)
    }
    return { data: bytes, loan: this.#loan(bytes.buffer.byteLength + ENTRY_BYTES, release) }
  }

  #owned(data: Buffer): Kept {
    return { data, loan: this.#loan(data.length + ENTRY_BYTES, nothing) }
  }

  #loan(countedBytes: number, release: () => void, holds = 1, others?: readonly LoneLeaf[]): Loan {
    this.#bytes += countedBytes
    return { holds, countedBytes, release, ...(others === undefined ? {} : { others }) }
  }

  #letGo(loan: Loan): void {
    loan.holds--
    if (loan.holds > 0) return
    this.#bytes -= loan.countedBytes
    loan.release()
  }

  /** The run that comes first, of the chunk used longest ago: a chunk larger than the cache can be read through it. What is on its way stays. */
  #evict(): void {
    for (const chunk of this.#cached.values()) {
      if (this.#bytes <= this.#maxBytes) return
      for (const { value: run } of [...chunk.runs]) {
        if (this.#bytes <= this.#maxBytes) return
        if (run.kept !== null) this.#drop(chunk, run, run.kept)
      }
    }
  }

  #drop(chunk: CachedChunk, run: Run, { loan }: Kept): void {
    this.#dropOne(chunk, run, loan)
    for (const other of loan.others ?? []) {
      if (other.run.kept?.loan === loan) this.#dropOne(other.chunk, other.run, loan)
    }
  }

  #dropOne(chunk: CachedChunk, run: Run, loan: Loan): void {
    this.#forget(chunk, run)
    run.kept = null
    this.#letGo(loan)
  }

  #forget({ id, runs }: CachedChunk, { first, end }: Run): void {
    runs.delete(first, end)
    if (runs.size === 0) this.#cached.delete(id)
  }
}

function sumOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0)
}

/** `end` is not one of them. */
function leavesOf(from: number, to: number): { readonly first: number; readonly end: number } {
  return { first: Math.floor(from / LEAF_BYTES), end: Math.ceil(to / LEAF_BYTES) }
}

function bytesOf(
  { lengthBytes }: ChunkRef,
  { first, end }: Run,
): { readonly from: number; readonly lengthBytes: number } {
  const from = first * LEAF_BYTES
  return { from, lengthBytes: Math.min(lengthBytes, end * LEAF_BYTES) - from }
}

/** What the cache takes for [from, to) of a chunk. */
export function leafBytes(from: number, to: number): number {
  const { first, end } = leavesOf(from, to)
  return (end - first) * LEAF_BYTES
}
