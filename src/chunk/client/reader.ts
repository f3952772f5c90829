/**
 * One range of a chunk, from whoever has a good copy.
 *
 * Invariant: every byte answered belongs to a leaf that matched its hash in a table that matched ref.root, in this process.
 * Nodes, disks and wires are not trusted with that.
 */
import { Cancellation, type CancelSignal } from '../../base/cancel.js'
import type { Timer } from '../../base/clock.js'
import { RingfsError, codeOf, hasCode, messageOf } from '../../base/errors.js'
import { HASH_BYTES, HASH_INLINE_MAX_BYTES, LEAF_BYTES } from '../../base/limits.js'
import type { ChunkOrigin, ChunkReadOptions, ChunkRef, GetReply, GetRequest, LentBytes } from '../contract.js'
import { lentWithDeadline, withDeadline } from '../deadline.js'
import { leafCount } from '../format.js'
import { firstBadLeaf, rootOf } from '../hash.js'
import { isNoAnswer } from '../node-health.js'
import type { HedgeTimer } from './latency.js'
import type { LeafCache } from './leaf-cache.js'
import { retryMs, type ClientParts } from './options.js'
import { candidatesOf, readOrder, type Candidate, type Placement } from './placement.js'

const REPORT_DEADLINE_MS = 30_000
/** Who waits so long is asked beside, whatever it costs. */
const HEDGE_FREE_MS = 250

export interface ReadParts extends ClientParts {
  readonly leafCache: LeafCache
  readonly hedge: HedgeTimer
}

/**
 * Bytes that a node of this machine has at hand, in this tick: without a promise, a timer or another thread. The first owner
 * that can do so is asked, always the same, so that its copy alone takes room in the page cache. null: whatever is wrong, ChunkRead finds out.
 */
export function readNow(parts: ReadParts, ref: ChunkRef, offset: number, lengthBytes: number): LentBytes | null {
  if (lengthBytes > HASH_INLINE_MAX_BYTES) return null
  const request = { volume: parts.volume, id: ref.id, offset, lengthBytes }
  for (const owner of parts.placement.current().ring.owners(ref.id, parts.replicas)) {
    const reply = replyNow(parts, owner, request)
    if (reply === null) continue
    const bytes = verifiedNow(parts.leafCache, ref, request, reply)
    if (bytes !== null) return { bytes, release: reply.release }
    reply.release()
    return null
  }
  return null
}

function replyNow({ node }: ReadParts, owner: string, request: GetRequest): GetReply | null {
  try {
    return node(owner).getNow?.(request) ?? null
  } catch {
    // Its address is not known.
    return null
  }
}

function verifiedNow(
  leafCache: LeafCache,
  ref: ChunkRef,
  { offset, lengthBytes }: GetRequest,
  reply: GetReply,
): Buffer | null {
  const { firstLeaf, from, to } = leavesOver(ref, offset, lengthBytes)
  const { data } = reply
  if (reply.chunkLengthBytes !== ref.lengthBytes || reply.firstLeaf !== firstLeaf || data.length !== to - from)
    return null
  const leaves = leafTable(leafCache, ref, reply.leaves)
  if (leaves === null || firstBadLeaf([data], leaves, firstLeaf) >= 0) return null
  return data.subarray(offset - from, offset + lengthBytes - from)
}

/** Whole leaves over a range that is inside the chunk. */
function leavesOver(
  ref: ChunkRef,
  offset: number,
  lengthBytes: number,
): { firstLeaf: number; from: number; to: number } {
  const firstLeaf = Math.floor(offset / LEAF_BYTES)
  const to = Math.min(Math.ceil((offset + lengthBytes) / LEAF_BYTES) * LEAF_BYTES, ref.lengthBytes)
  return { firstLeaf, from: firstLeaf * LEAF_BYTES, to }
}

/** The chunk's leaf table, once it has matched its root; null if `offered` does not. */
export function leafTable(leafCache: LeafCache, { id, root, lengthBytes }: ChunkRef, offered: Buffer): Buffer | null {
  const known = leafCache.get(id, root)
  if (known !== undefined) return known
  if (offered.length !== leafCount(lengthBytes) * HASH_BYTES || !rootOf(offered).equals(root)) return null
  leafCache.set(id, root, offered)
  return offered
}

export interface FoundBytes extends LentBytes {
  /** Only if asked for. */
  readonly origin?: ChunkOrigin
}

export interface ChunkReadChoice extends ChunkReadOptions {
  readonly withOrigin?: boolean
}

export class ChunkRead {
  readonly #parts: ReadParts
  readonly #ref: ChunkRef
  readonly #offset: number
  readonly #lengthBytes: number
  readonly #endMs: number
  readonly #withOrigin: boolean
  readonly #failures = new Map<string, unknown>()

  /** The range is inside the chunk, and not empty. */
  constructor(parts: ReadParts, ref: ChunkRef, offset: number, lengthBytes: number, options: ChunkReadChoice) {
    this.#parts = parts
    this.#ref = ref
    this.#offset = offset
    this.#lengthBytes = lengthBytes
    this.#endMs = parts.clock.monotonicMs() + (options.deadlineMs ?? parts.deadlineMs)
    this.#withOrigin = options.withOrigin === true
  }

  /** Errors: RingfsError CHUNK_MISSING, CHUNK_CORRUPT when every node has answered, DEADLINE when not. */
  async run(): Promise<FoundBytes> {
    try {
      return await this.#fromOne()
    } catch (error) {
      const { firstLeaf, to } = leavesOver(this.#ref, this.#offset, this.#lengthBytes)
      if (!hasCode(error, 'CHUNK_CORRUPT') || to <= (firstLeaf + 1) * LEAF_BYTES) throw error
      return await this.#leafByLeaf()
    }
  }

  /** Each copy may be bad in another place. Errors: as run(). */
  async #leafByLeaf(): Promise<LentBytes> {
    const bytes = Buffer.allocUnsafeSlow(this.#lengthBytes)
    const end = this.#offset + this.#lengthBytes
    for (let from = this.#offset; from < end;) {
      const to = Math.min(end, (Math.floor(from / LEAF_BYTES) + 1) * LEAF_BYTES)
      const one = new ChunkRead(this.#parts, this.#ref, from, to - from, { deadlineMs: Math.max(1, this.#leftMs()) })
      const part = await one.run()
      part.bytes.copy(bytes, from - this.#offset)
      part.release()
      from = to
    }
    return { bytes, release: () => undefined }
  }

  async #fromOne(): Promise<FoundBytes> {
    for (let round = 0; ; round++) {
      const placement = this.#parts.placement.current()
      const order = this.#order(placement)
      const data = await this.#round(order, this.#parts.attemptMs * 2 ** round)
      if (data !== null) {
        this.#reportMissing(order)
        return data
      }
      const leftMs = this.#leftMs()
      // Members may have changed while we asked: only the answers of all of today's are the last word.
      const changed = this.#parts.placement.current().view.epoch !== placement.view.epoch
      if (!changed) this.#checkConclusive(order)
      if (leftMs <= 0) throw this.#tooLate()
      this.#parts.counts.retries++
      await this.#parts.clock.sleep(retryMs(round, leftMs))
    }
  }

  #order(placement: Placement): readonly Candidate[] {
    const { localNode, health } = this.#parts
    return readOrder(candidatesOf(this.#ref.id, placement, this.#parts), localNode, health)
  }

  #leftMs(): number {
    return this.#endMs - this.#parts.clock.monotonicMs()
  }

  /**
   * Asks one node after the other: the next one as soon as one has failed, and also when none has answered for a while (the
   * hedge; the wait doubles, so that a node that hangs cannot hold up the rest). The first good copy wins.
   */
  #round(order: readonly Candidate[], attemptMs: number): Promise<FoundBytes | null> {
    return new Promise((resolve) => {
      const stop = new Cancellation()
      let next = 0
      let running = 0
      let hedgeMs = this.#parts.hedge.hedgeMs(this.#lengthBytes)
      let timer: Timer | undefined
      const finish = (data: FoundBytes | null): void => {
        timer?.close()
        stop.cancel()
        resolve(data)
      }
      const startMs = this.#parts.clock.monotonicMs()
      const watch = (): void => {
        timer = this.#parts.clock.after(hedgeMs, overdue)
        hedgeMs *= 2
      }
      const overdue = (): void => {
        const waitedMs = this.#parts.clock.monotonicMs() - startMs
        if (waitedMs < HEDGE_FREE_MS && !this.#parts.hedge.spend()) {
          watch()
          return
        }
        if (next < order.length) this.#parts.counts.hedges++
        launch()
      }
      const launch = (): void => {
        timer?.close()
        const candidate = order[next++]
        if (candidate === undefined || this.#leftMs() <= 0) {
          if (running === 0) finish(null)
          return
        }
        running++
        watch()
        void this.#ask(candidate, attemptMs, stop).then((data) => {
          running--
          if (stop.aborted) {
            data?.release()
            return
          }
          if (data !== null) finish(data)
          else launch()
        })
      }
      launch()
    })
  }

  /** null: this node did not give a good copy; why is in #failures. */
  async #ask(candidate: Candidate, attemptMs: number, stop: CancelSignal): Promise<FoundBytes | null> {
    const { volume, node, health, clock, hedge } = this.#parts
    const request = {
      ...{ volume, id: this.#ref.id, offset: this.#offset, lengthBytes: this.#lengthBytes, check: true },
      ...(this.#withOrigin ? { withOrigin: true } : {}),
    }
    const startMs = clock.monotonicMs()
    const deadlineMs = Math.max(1, Math.min(attemptMs, this.#leftMs()))
    const ended = health.began(candidate.id)
    try {
      const reply = await lentWithDeadline(
        deadlineMs,
        (signal) => node(candidate.id).get(request, { deadlineMs, signal }),
        `get of chunk ${request.id} from node ${candidate.id}`,
        stop,
        clock,
      )
      const tookMs = clock.monotonicMs() - startMs
      health.succeeded(candidate.id, tookMs)
      hedge.note(this.#lengthBytes, tookMs)
      return await this.#verified(reply)
    } catch (error) {
      // Somebody else's copy may have been faster. That this one is bad is to be known all the same.
      if (!stop.aborted) this.#noteFailure(candidate.id, error)
      else if (hasCode(error, 'CHUNK_CORRUPT')) this.#noteBad(candidate.id)
      return null
    } finally {
      ended()
    }
  }

  #noteFailure(nodeId: string, error: unknown): void {
    const { health, log } = this.#parts
    this.#parts.counts.failures++
    this.#failures.set(nodeId, error)
    log.debug({ chunk: this.#ref.id, node: nodeId, err: messageOf(error) }, 'chunk not read here')
    if (isNoAnswer(codeOf(error))) health.failed(nodeId)
    if (hasCode(error, 'CHUNK_CORRUPT')) this.#noteBad(nodeId)
  }

  #noteBad(nodeId: string): void {
    this.#parts.counts.bad++
    this.#report(nodeId)
  }

  /** Errors: RingfsError CHUNK_CORRUPT, FRAME_BAD. */
  async #verified(reply: GetReply): Promise<FoundBytes> {
    const { origin, release } = reply
    try {
      const bytes = await this.#checked(reply)
      if (!this.#withOrigin) return { bytes, release }
      if (origin === undefined) throw new RingfsError('FRAME_BAD', `chunk ${this.#ref.id} came without its origin`)
      return { bytes, release, origin }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Errors: RingfsError CHUNK_CORRUPT. */
  async #checked(reply: GetReply): Promise<Buffer> {
    const leaves = this.#verifiedLeaves(reply)
    const { firstLeaf, from, to } = leavesOver(this.#ref, this.#offset, this.#lengthBytes)
    if (reply.firstLeaf !== firstLeaf || reply.data.length !== to - from)
      throw this.#corrupt('other bytes than asked for')
    // What was compared with the table that came with it is good if that table is.
    const done = reply.matches === true && leaves.equals(reply.leaves)
    const bad = done ? -1 : await this.#parts.hasher.check([reply.data], leaves, firstLeaf)
    if (bad >= 0) throw this.#corrupt(`leaf ${bad} does not match its hash`)
    return reply.data.subarray(this.#offset - from, this.#offset + this.#lengthBytes - from)
  }

  #verifiedLeaves(reply: GetReply): Buffer {
    const { lengthBytes } = this.#ref
    if (reply.chunkLengthBytes !== lengthBytes) throw this.#corrupt(`${reply.chunkLengthBytes} bytes long`)
    const leaves = leafTable(this.#parts.leafCache, this.#ref, reply.leaves)
    if (leaves === null) throw this.#corrupt('leaf table does not match the root hash')
    return leaves
  }

  #corrupt(why: string): RingfsError {
    return new RingfsError('CHUNK_CORRUPT', `chunk ${this.#ref.id}: ${why}`)
  }

  /** Owners that should have it by now get it; not awaited: the reader has its data. */
  #reportMissing(order: readonly Candidate[]): void {
    for (const { id, owner } of order) {
      if (owner && hasCode(this.#failures.get(id), 'CHUNK_MISSING')) this.#report(id)
    }
  }

  #report(nodeId: string): void {
    const { node, volume, log, clock } = this.#parts
    const { id } = this.#ref
    const work = withDeadline(
      REPORT_DEADLINE_MS,
      (signal) => node(nodeId).reportBad(volume, id, { deadlineMs: REPORT_DEADLINE_MS, signal }),
      `report of chunk ${id} to node ${nodeId}`,
      undefined,
      clock,
    )
    work.catch((error: unknown) => {
      log.warn({ chunk: id, node: nodeId, err: messageOf(error) }, 'bad chunk copy could not be reported')
    })
  }

  /** When every node has answered, and none has a good copy, waiting does not help. */
  #checkConclusive(order: readonly Candidate[]): void {
    const answers = order.map(({ id }) => this.#failures.get(id))
    const final = answers.every((error) => hasCodeOf(error, ['CHUNK_MISSING', 'CHUNK_CORRUPT']))
    if (!final || order.length === 0) return
    const corrupt = answers.some((error) => hasCode(error, 'CHUNK_CORRUPT'))
    const { id } = this.#ref
    if (corrupt) throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: no good copy on any of ${order.length} nodes`)
    throw new RingfsError('CHUNK_MISSING', `chunk ${id}: on none of ${order.length} nodes`)
  }

  #tooLate(): RingfsError {
    const why = [...this.#failures].map(([id, error]) => `${id}: ${messageOf(error)}`).join('; ')
    return new RingfsError('DEADLINE', `chunk ${this.#ref.id}: no good copy before the deadline (${why || 'no nodes'})`)
  }
}

function hasCodeOf(error: unknown, codes: readonly string[]): boolean {
  return codes.includes(codeOf(error))
}
