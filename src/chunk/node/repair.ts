/** Getting a good copy of a chunk from another node, and the work of this node's replication queue. */
import type { Clock } from '../../base/clock.js'
import type { PosixError } from '../../base/errno.js'
import { RingfsError, hasCode, messageOf } from '../../base/errors.js'
import { CHUNK_MAX_BYTES, LEAF_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import type { ChunkNodeApi, ChunkOrigin, GetReply } from '../contract.js'
import { lentWithDeadline, withDeadline } from '../deadline.js'
import { firstBadLeaf, rootOf } from '../hash.js'
import { toChunkError } from '../outcome.js'
import type { ReplicationTask } from '../replication.js'
import type { Pace } from './pace.js'
import type { ChunkDisk } from './disk.js'
import { RecentIds } from './recent-ids.js'
import { RemovedLately } from './removed-lately.js'

const FETCH_DEADLINE_MS = 15_000
const ASK_DEADLINE_MS = 5_000
const AWAITED_MAX = 10_000

export interface RepairOptions {
  readonly nodeId: string
  readonly volume: string
  readonly disk: ChunkDisk
  readonly peer: (nodeId: string) => ChunkNodeApi
  /** Every node that may have the chunk, likeliest first, those that are down included: the ring's preference. */
  readonly order: (chunkId: number) => readonly string[]
  readonly clock: Clock
  readonly log: Log
  readonly pace?: Pace
  /** By the ring of this epoch or a later one, is the chunk this node's? Default: yes. */
  readonly isOwner?: (chunkId: number, epoch: number) => boolean
  /** Was the node removed for good? Default: no. */
  readonly isGone?: (nodeId: string) => boolean
}

export class Repairer {
  readonly #options: RepairOptions
  readonly #running = new Map<number, Promise<void>>()
  readonly #removed: RemovedLately
  /** Reported, and in this node's queue. */
  readonly #awaited = new RecentIds(AWAITED_MAX)
  #copied = 0

  constructor(options: RepairOptions) {
    this.#options = options
    this.#removed = new RemovedLately(options.clock)
  }

  /** Deletes for good: no copy that is under way brings it back. Errors: what the disk says. */
  async remove(ids: readonly number[]): Promise<void> {
    this.#removed.note(ids)
    await this.#options.disk.remove(ids)
  }

  /** Its writer has put it here. */
  wasPut(id: number): void {
    this.#removed.forget(id)
  }

  /** What was reported is queued, once until it is good: who reads a bad copy reports it, each time. Errors: those of `enqueue`. */
  async later(id: number, enqueue: () => Promise<void>): Promise<void> {
    if (this.#awaited.has(id)) return
    this.#awaited.add(id)
    try {
      await enqueue()
    } catch (error) {
      this.#awaited.delete(id)
      throw error
    }
  }

  /** Chunks fetched from others since the start. */
  get copied(): number {
    return this.#copied
  }

  /**
   * One task of this node's replication queue. Resolves when the task is done for good: acknowledge it. Rejects: leave it in
   * the queue for another try. May be repeated at any time.
   */
  async handle(task: ReplicationTask): Promise<void> {
    if (task.kind === 'remove') return await this.remove([task.chunk])
    const { isOwner } = this.#options
    // The ring has changed since: who owns it now is told by whoever walks for that ring.
    if (task.epoch !== undefined && isOwner?.(task.chunk, task.epoch) === false) return
    await this.ensure(task.chunk, task.root, task.sources)
  }

  /**
   * A good copy of the chunk is here and on disk afterwards, or nobody has the chunk any more. One at a time for each chunk.
   * Errors: NODE_UNREACHABLE (somebody who may have it did not answer), CHUNK_MISSING (it was deleted here lately, and somebody still has
   * it), CHUNK_CORRUPT, ENOSPC, EIO.
   */
  ensure(id: number, root: Buffer | null, sources: readonly string[]): Promise<void> {
    const running = this.#running.get(id)
    if (running !== undefined) return running
    const work = this.#ensure(id, root, sources)
      .then(() => this.#awaited.delete(id))
      .finally(() => this.#running.delete(id))
    this.#running.set(id, work)
    return work
  }

  async #ensure(id: number, root: Buffer | null, sources: readonly string[]): Promise<void> {
    const { disk, log } = this.#options
    // A bad copy stays until a good one takes its place (put sets it aside): its other leaves may be the last good ones.
    const verdict = await disk.verify(id)
    if (verdict.state === 'missing' && this.#removed.has(id)) return await this.#isGone(id, sources)
    if (verdict.state !== 'good') {
      const known = root ?? (verdict.state === 'bad' && verdict.root !== null ? Buffer.from(verdict.root) : null)
      const found = await this.#fetch(id, known, sources)
      if (!found) return log.info({ chunk: id }, 'no node has the chunk any more: nothing to copy')
    }
    await disk.sync([id])
  }

  /**
   * Deleted here lately: who has it still is to delete it, too, or it is another chunk of that id by now, to be copied when that is sure. Errors:
   * CHUNK_MISSING, NODE_UNREACHABLE: not known yet.
   */
  async #isGone(id: number, sources: readonly string[]): Promise<void> {
    const { peer, volume, clock } = this.#options
    const request = { volume, ids: [id], verify: false }
    for (const source of this.#candidates(id, sources)) {
      const missing = await withDeadline(
        ASK_DEADLINE_MS,
        (signal) => peer(source).lacks(request, { deadlineMs: ASK_DEADLINE_MS, signal }),
        `whether node ${source} has chunk ${id}`,
        undefined,
        clock,
      )
      if (missing.includes(id)) continue
      throw new RingfsError(
        'CHUNK_MISSING',
        `chunk ${id} was deleted here, and node ${source} has it still: looked at later`,
      )
    }
    this.#options.log.debug({ chunk: id }, 'deleted everywhere: nothing to copy')
  }

  /** Who may have it, those that are named first. */
  #candidates(id: number, sources: readonly string[]): ReadonlySet<string> {
    const { nodeId, order, isGone } = this.#options
    // Who has left for good will not answer, and what it had counts for nothing: waiting for it would never end.
    const there = sources.filter((source) => isGone?.(source) !== true)
    const candidates = new Set([...there, ...order(id)])
    candidates.delete(nodeId)
    return candidates
  }

  /** false: every node answered that it does not have it. */
  async #fetch(id: number, root: Buffer | null, sources: readonly string[]): Promise<boolean> {
    const { log } = this.#options
    let failure: RingfsError | PosixError | undefined
    const bad: string[] = []
    for (const source of this.#candidates(id, sources)) {
      try {
        await this.#copyFrom(source, id, root)
        return true
      } catch (error) {
        // A full or broken disk here will not be better with the next source.
        if (isLocal(error)) throw error.failure
        if (hasCode(error, 'CHUNK_MISSING')) continue
        log.debug({ chunk: id, source, err: messageOf(error) }, 'copy from this node failed')
        failure = toChunkError(error)
        if (hasCode(error, 'CHUNK_CORRUPT')) bad.push(source)
      }
    }
    if (failure === undefined) return false
    if (bad.length > 0 && (await this.#joinCopies(id, root, bad))) return true
    if (hasCode(failure, 'CHUNK_CORRUPT')) throw failure
    throw new RingfsError('NODE_UNREACHABLE', `chunk ${id}: no copy yet: ${messageOf(failure)}`, { cause: failure })
  }

  /** Those of `sources` are bad, and what is here, but each may be so in another place. false: they do not make a whole one. Errors: what this node's disk says. */
  async #joinCopies(id: number, root: Buffer | null, sources: readonly string[]): Promise<boolean> {
    const { disk, nodeId, log } = this.#options
    const joined = new JoinedCopy(id, root)
    for (const source of [nodeId, ...sources]) {
      if (joined.isWhole) break
      try {
        if (source !== nodeId) await this.#readFrom(source, id, (reply) => Promise.resolve(joined.add(reply)))
        else joined.add(await disk.read(id, 0, CHUNK_MAX_BYTES, true))
      } catch (error) {
        log.debug({ chunk: id, source, err: messageOf(error) }, 'nothing good of a chunk from this node')
      }
    }
    const whole = joined.whole()
    if (whole === null) return false
    await this.#store(whole, nodeId, id, root).catch((error: unknown) => {
      throw isLocal(error) ? error.failure : error
    })
    log.info({ chunk: id }, 'a good copy was made of several bad ones')
    return true
  }

  async #copyFrom(source: string, id: number, root: Buffer | null): Promise<void> {
    await this.#readFrom(source, id, async (reply) => {
      await this.#store(reply, source, id, root)
      this.#copied++
    })
  }

  /** The bytes are given back when `use` has ended. */
  async #readFrom(source: string, id: number, use: (reply: GetReply) => Promise<void>): Promise<void> {
    const { peer, volume, pace, clock } = this.#options
    const spent = await pace?.ready()
    let bytes = 0
    try {
      const request = { volume, id, offset: 0, lengthBytes: CHUNK_MAX_BYTES, withOrigin: true }
      const reply = await lentWithDeadline(
        FETCH_DEADLINE_MS,
        (signal) => peer(source).get(request, { deadlineMs: FETCH_DEADLINE_MS, signal }),
        `get of chunk ${id} from node ${source}`,
        undefined,
        clock,
      )
      bytes = reply.data.length
      try {
        await use(reply)
      } finally {
        reply.release()
      }
    } finally {
      spent?.(bytes)
    }
  }

  async #store(reply: WholeCopy, source: string, id: number, root: Buffer | null): Promise<void> {
    const { disk } = this.#options
    const { origin } = reply
    if (origin === undefined || origin === null) throw new RingfsError('FRAME_BAD', `node ${source} sent no origin`)
    const actual = checkedRoot(reply, id, root)
    try {
      await disk.put({ id, root: actual, leaves: reply.leaves, origin }, [reply.data])
    } catch (error) {
      // The disk checks data against leaves: what is corrupt came from the source.
      if (hasCode(error, 'CHUNK_CORRUPT')) throw error
      throw new LocalFailure(toChunkError(error))
    }
    // Behind it: a removal that came before it found nothing to remove.
    if (!this.#removed.has(id)) return
    await disk.remove([id])
    throw new LocalFailure(new RingfsError('CHUNK_MISSING', `chunk ${id} was deleted while it was copied`))
  }
}

function checkedRoot(reply: WholeCopy, id: number, root: Buffer | null): Buffer {
  const actual = rootOf(reply.leaves)
  if (reply.data.length !== reply.chunkLengthBytes || reply.firstLeaf !== 0) {
    throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: the copy is not whole`)
  }
  if (root !== null && !actual.equals(root)) {
    throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: the copy has another root hash`)
  }
  return actual
}

/** All of a chunk, as somebody has it; the bytes may be bad. */
interface WholeCopy {
  readonly chunkLengthBytes: number
  readonly leaves: Buffer
  readonly firstLeaf: number
  readonly data: Buffer
  readonly origin?: ChunkOrigin | null
}

/** What is good in any of several copies. Its hashes are those that belong to the root, or else to that of the first copy. */
class JoinedCopy {
  readonly #id: number
  #root: Buffer | null
  #first: (WholeCopy & { readonly origin: ChunkOrigin }) | null = null
  #data = Buffer.alloc(0)
  /** Leaves of which no good one was found. */
  readonly #bad = new Set<number>()

  constructor(id: number, root: Buffer | null) {
    this.#id = id
    this.#root = root
  }

  get isWhole(): boolean {
    return this.#first !== null && this.#bad.size === 0
  }

  whole(): WholeCopy | null {
    return this.#first !== null && this.isWhole ? { ...this.#first, data: this.#data } : null
  }

  /** Copies what it needs. Errors: RingfsError CHUNK_CORRUPT. */
  add({ release, ...copy }: WholeCopy & { readonly release: () => void }): void {
    try {
      this.#root = checkedRoot(copy, this.#id, this.#root)
      this.#begin(copy)
      for (const leaf of [...this.#bad]) {
        const data = copy.data.subarray(leaf * LEAF_BYTES, (leaf + 1) * LEAF_BYTES)
        if (firstBadLeaf([data], copy.leaves, leaf) >= 0) continue
        data.copy(this.#data, leaf * LEAF_BYTES)
        this.#bad.delete(leaf)
      }
    } finally {
      release()
    }
  }

  #begin(copy: WholeCopy): void {
    if (this.#first !== null || copy.origin === undefined || copy.origin === null) return
    this.#first = { ...copy, leaves: Buffer.from(copy.leaves), data: EMPTY, origin: copy.origin }
    this.#data = Buffer.alloc(copy.data.length)
    for (let leaf = 0; leaf * LEAF_BYTES < copy.data.length; leaf++) this.#bad.add(leaf)
  }
}

const EMPTY = Buffer.alloc(0)

/** Wraps what this node's own disk says, so that it is not taken for a failure of the source. */
class LocalFailure extends Error {
  readonly failure: RingfsError | PosixError

  constructor(failure: RingfsError | PosixError) {
    super(failure.message)
    this.failure = failure
  }
}

function isLocal(error: unknown): error is LocalFailure {
  return error instanceof LocalFailure
}
