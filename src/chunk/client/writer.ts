/**
 * One chunk on its way to its owners.
 *
 * Invariants:
 * - Every attempt has the same id, root and bytes: repeating one can only add copies.
 * - It succeeds only when as many distinct nodes as asked have confirmed the chunk (on disk, if `sync`), and every owner that
 *   did not is in the replication queue, with a node that has it as its source.
 * - A write that fails may leave copies behind: whoever gives up the id removes it.
 */
import { Cancellation, type CancelSignal } from '../../base/cancel.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import { SMALL_CHUNK_BYTES } from '../../base/limits.js'
import type { ChunkOrigin, ChunkWriteOptions, PutReply, PutRequest, StoredTogether } from '../contract.js'
import { Gate, settledWithin, withDeadline } from '../deadline.js'
import { sumBytes } from '../hash.js'
import { isNoAnswer } from '../node-health.js'
import { retryMs, type ClientParts } from './options.js'
import { candidatesOf, writeOrder, type Candidate } from './placement.js'

/** The data is safe by then: a deadline that has just passed must not make it a failure. */
const QUEUE_MIN_MS = 2000
/** Once enough have a small chunk, the rest may take this long before they are left to the queue. */
const GRACE_MS = 250
const TROUBLED_GRACE_MS = 20

export interface HashedChunk {
  readonly id: number
  readonly root: Buffer
  readonly leaves: Buffer
  readonly data: readonly Uint8Array[]
  readonly origin: ChunkOrigin
}

export class ChunkWrite {
  readonly #parts: ClientParts
  readonly #chunk: HashedChunk
  readonly #options: ChunkWriteOptions
  readonly #endMs: number
  readonly #stored = new Set<string>()
  readonly #queued = new Set<string>()
  readonly #failures = new Map<string, unknown>()
  /** Of the ring that was asked last, and the newest that a node knew. */
  #epoch = 0
  #newestEpoch = 0

  /** `before`: nodes that have it already. */
  constructor(parts: ClientParts, chunk: HashedChunk, options: ChunkWriteOptions, before?: StoredTogether) {
    for (const id of before?.stored ?? []) this.#stored.add(id)
    this.#newestEpoch = before?.epoch ?? 0
    this.#parts = parts
    this.#chunk = chunk
    this.#options = options
    this.#endMs = parts.clock.monotonicMs() + (options.deadlineMs ?? parts.deadlineMs)
  }

  /** Errors: PosixError ENOSPC (nobody has room), RingfsError NO_QUORUM, or a refusal that no other node would take back. */
  async run(): Promise<void> {
    for (let round = 0; ; round++) {
      const candidates = this.#candidates()
      await this.#round(candidates, this.#parts.attemptMs * 2 ** round)
      if (this.#isEnough(candidates)) {
        const today = await this.#today(candidates)
        if (this.#isEnough(today)) return await this.#queueTheRest(today)
      }
      this.#checkHopeless(candidates)
      const leftMs = this.#leftMs()
      if (leftMs <= 0) throw this.#noQuorum(candidates)
      this.#parts.counts.retries++
      await this.#parts.clock.sleep(retryMs(round, leftMs))
    }
  }

  #candidates(): readonly Candidate[] {
    const { localNode } = this.#parts
    const placement = this.#parts.placement.current()
    this.#epoch = placement.view.epoch
    return writeOrder(candidatesOf(this.#chunk.id, placement, this.#parts), localNode)
  }

  /** A node that took the chunk knows a newer ring, by which it may have walked already: so its owners are ours to tell. */
  async #today(candidates: readonly Candidate[]): Promise<readonly Candidate[]> {
    if (this.#newestEpoch <= this.#epoch) return candidates
    const { placement, log, clock } = this.#parts
    try {
      const leftMs = Math.max(QUEUE_MIN_MS, this.#leftMs())
      await withDeadline(leftMs, async () => await placement.refresh?.(), 'membership', undefined, clock)
    } catch (error) {
      // The comparison of everything with everything, hours later, finds it.
      log.warn({ err: messageOf(error) }, 'a newer ring is known to others, and cannot be had')
    }
    return this.#candidates()
  }

  #leftMs(): number {
    return this.#endMs - this.#parts.clock.monotonicMs()
  }

  #required(candidates: readonly Candidate[]): number {
    const { writeQuorum } = this.#parts
    if (this.#options.durability === 'async') return 1
    if (this.#options.durability === 'quorum') return writeQuorum
    return Math.max(writeQuorum, candidates.filter(({ owner }) => owner).length)
  }

  #isEnough(candidates: readonly Candidate[]): boolean {
    return this.#stored.size >= this.#required(candidates)
  }

  /** Tries every node once, in order, until enough of them have the chunk. */
  async #round(candidates: readonly Candidate[], attemptMs: number): Promise<void> {
    const untried = new Set(candidates.filter(({ id }) => !this.#stored.has(id)))
    if (this.#isSmall || this.#isBeside(untried, candidates)) await this.#fanOut(untried, candidates, attemptMs)
    for (const lead of candidates) {
      if (this.#isEnough(candidates) || this.#leftMs() <= 0) return
      if (!untried.delete(lead)) continue
      const forward = this.#forward([...untried], candidates)
      const reply = await this.#attempt(lead.id, this.#request(lead, forward, candidates), attemptMs)
      if (reply === null) continue
      // Who was passed the chunk and did not confirm has had its turn: it is queued.
      for (const other of forward) untried.delete(other)
    }
  }

  get #isSmall(): boolean {
    return this.#options.durability !== 'async' && sumBytes(this.#chunk.data) <= SMALL_CHUNK_BYTES
  }

  /** All that it would go to are on this machine, and the bytes go into their folders from here. */
  #isBeside(untried: ReadonlySet<Candidate>, candidates: readonly Candidate[]): boolean {
    if (this.#options.durability === 'async') return false
    try {
      return this.#forward([...untried], candidates, 0).every(({ id }) => this.#parts.node(id).isBeside === true)
    } catch {
      // One without an address: the attempt tells.
      return false
    }
  }

  /**
   * A small chunk, and one that is written beside its owners, goes to them at once: passing it on would save a little of our network and cost two more hops. Ends when
   * enough have it, and the rest had their grace. Takes those it asked out of `untried`.
   */
  async #fanOut(untried: Set<Candidate>, candidates: readonly Candidate[], attemptMs: number): Promise<void> {
    const chosen = this.#forward([...untried], candidates, 0)
    for (const one of chosen) untried.delete(one)
    const pending = new Set(chosen)
    const stop = new Cancellation()
    const enough = new Gate()
    const note = (): void => {
      if (pending.size === 0 || this.#isEnough(candidates)) enough.open()
    }
    const refusals: Error[] = []
    const attempts = chosen.map(async (one) => {
      try {
        await this.#attempt(one.id, { ...this.#request(one, [], candidates), copies: 1, absent: [] }, attemptMs, stop)
      } catch (error) {
        refusals.push(error instanceof Error ? error : new Error(String(error)))
      }
      pending.delete(one)
      note()
    })
    note()
    await enough.opened
    if (pending.size > 0) await settledWithin(Promise.all(attempts), this.#graceMs(pending), this.#parts.clock)
    // Who has not confirmed by now is queued. The data may change after that: a node that still receives them finds that they
    // do not match their hashes.
    stop.cancel()
    const [refusal] = refusals
    if (refusal !== undefined) throw refusal
  }

  #graceMs(pending: ReadonlySet<Candidate>): number {
    return [...pending].some(({ rank }) => rank === 0) ? GRACE_MS : TROUBLED_GRACE_MS
  }

  /** Whom the lead passes the chunk on to: owners that may answer, and stand-ins where those are fewer than needed. */
  #forward(untried: readonly Candidate[], candidates: readonly Candidate[], leads = 1): readonly Candidate[] {
    if (this.#options.durability === 'async') return []
    const owners = untried.filter(({ owner, rank }) => owner && rank < 2)
    const wanted = this.#required(candidates) - this.#stored.size - leads
    const standIns = untried.filter(({ owner, rank }) => !owner && rank === 0)
    return [...owners, ...standIns.slice(0, Math.max(0, wanted - owners.length))]
  }

  /** Errors: refusals that every node would repeat. null: it was not stored there; why is in #failures. */
  async #attempt(
    nodeId: string,
    request: PutRequest,
    attemptMs: number,
    stop?: CancelSignal,
  ): Promise<PutReply | null> {
    const { node, health, clock } = this.#parts
    const startMs = clock.monotonicMs()
    try {
      const deadlineMs = Math.max(1, Math.min(attemptMs, this.#leftMs()))
      const reply = await withDeadline(
        deadlineMs,
        (signal) => node(nodeId).put(request, this.#chunk.data, { deadlineMs, signal }),
        `put of chunk ${request.id} to node ${nodeId}`,
        stop,
        clock,
      )
      health.succeeded(nodeId, clock.monotonicMs() - startMs)
      this.#note(reply)
      return reply
    } catch (error) {
      this.#noteFailure(nodeId, error)
      return null
    }
  }

  #request(lead: Candidate, forward: readonly Candidate[], candidates: readonly Candidate[]): PutRequest {
    const { id, root, leaves, origin } = this.#chunk
    const taken = new Set([lead.id, ...forward.map((node) => node.id), ...this.#stored, ...this.#queued])
    return {
      volume: this.#parts.volume,
      id,
      root,
      leaves,
      origin,
      sync: this.#options.sync,
      forward: forward.map((node) => node.id),
      copies: Math.max(1, this.#required(candidates) - this.#stored.size),
      absent: candidates.filter(({ id: other, owner }) => owner && !taken.has(other)).map((node) => node.id),
      ...(this.#epoch > 0 ? { epoch: this.#epoch } : {}),
    }
  }

  #note(reply: PutReply): void {
    for (const id of reply.stored) this.#stored.add(id)
    for (const id of reply.queued) this.#queued.add(id)
    this.#newestEpoch = Math.max(this.#newestEpoch, reply.epoch ?? 0)
  }

  /** Errors: what every node would say to this chunk: going on would only repeat it. */
  #noteFailure(nodeId: string, error: unknown): void {
    const code = codeOf(error)
    if (code === 'EINVAL' || code === 'CHUNK_CONFLICT') throw error
    if (isNoAnswer(code)) this.#parts.health.failed(nodeId)
    this.#parts.counts.failures++
    this.#failures.set(nodeId, error)
    this.#parts.log.debug({ chunk: this.#chunk.id, node: nodeId, err: messageOf(error) }, 'chunk not written here')
  }

  /** Everyone has answered, and too many are full: waiting would not help. */
  #checkHopeless(candidates: readonly Candidate[]): void {
    const able = candidates.filter(({ id }) => !this.#isFull(id))
    const full = candidates.length - able.length
    if (full > 0 && able.every(({ id }) => this.#stored.has(id))) throw this.#noSpace(full)
  }

  #isFull(nodeId: string): boolean {
    return !this.#stored.has(nodeId) && codeOf(this.#failures.get(nodeId)) === 'ENOSPC'
  }

  #noSpace(full: number): PosixError {
    return new PosixError('ENOSPC', `${full} of the chunk nodes are full, ${this.#stored.size} could store the chunk`)
  }

  #noQuorum(candidates: readonly Candidate[]): Error {
    const full = candidates.filter(({ id }) => this.#isFull(id)).length
    if (full > 0) return this.#noSpace(full)
    const why = [...this.#failures].map(([id, error]) => `${id}: ${messageOf(error)}`).join('; ')
    const required = this.#required(candidates)
    const counts = `${this.#stored.size} of ${required} copies`
    return new RingfsError(
      'NO_QUORUM',
      `chunk ${this.#chunk.id}: only ${counts} before the deadline (${why || 'no nodes'})`,
    )
  }

  /** Owners that have the chunk neither by now nor through the queue of whoever passed it on. */
  async #queueTheRest(candidates: readonly Candidate[]): Promise<void> {
    const lacking = candidates.filter(({ id, owner }) => owner && !this.#stored.has(id) && !this.#queued.has(id))
    const { id, root } = this.#chunk
    const { enqueue, clock } = this.#parts
    const epoch = this.#epoch > 0 ? { epoch: this.#epoch } : {}
    const task = { kind: 'copy', chunk: id, root, sources: [...this.#stored], ...epoch } as const
    for (const owner of lacking) {
      const leftMs = Math.max(QUEUE_MIN_MS, this.#leftMs())
      await withDeadline(leftMs, () => enqueue(owner.id, [task]), 'replication queue', undefined, clock)
    }
  }
}
