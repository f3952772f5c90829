/** Getting a good copy of a chunk from another node, and the work of this node's replication queue. */
import type { Clock } from '../../base/clock.js'
import type { PosixError } from '../../base/errno.js'
import { RingfsError, hasCode, messageOf } from '../../base/errors.js'
import { CHUNK_MAX_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import type { ChunkNodeApi, GetReply } from '../contract.js'
import { lentWithDeadline } from '../deadline.js'
import { rootOf } from '../hash.js'
import { toChunkError } from '../outcome.js'
import type { ReplicationTask } from '../replication.js'
import type { Pace } from './pace.js'
import type { ChunkDisk } from './disk.js'

const FETCH_DEADLINE_MS = 15_000

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
  #copied = 0

  constructor(options: RepairOptions) {
    this.#options = options
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
    if (task.kind === 'remove') return await this.#options.disk.remove([task.chunk])
    const { isOwner } = this.#options
    // The ring has changed since: who owns it now is told by whoever walks for that ring.
    if (task.epoch !== undefined && isOwner?.(task.chunk, task.epoch) === false) return
    await this.ensure(task.chunk, task.root, task.sources)
  }

  /**
   * A good copy of the chunk is here and on disk afterwards, or nobody has the chunk any more. One at a time for each chunk.
   * Errors: NODE_UNREACHABLE (somebody who may have it did not answer), CHUNK_CORRUPT, ENOSPC, EIO.
   */
  ensure(id: number, root: Buffer | null, sources: readonly string[]): Promise<void> {
    const running = this.#running.get(id)
    if (running !== undefined) return running
    const work = this.#ensure(id, root, sources).finally(() => this.#running.delete(id))
    this.#running.set(id, work)
    return work
  }

  async #ensure(id: number, root: Buffer | null, sources: readonly string[]): Promise<void> {
    const { disk, log } = this.#options
    // A bad copy stays until a good one takes its place (put sets it aside): its other leaves may be the last good ones.
    const verdict = await disk.verify(id)
    if (verdict.state !== 'good') {
      const known = root ?? (verdict.state === 'bad' && verdict.root !== null ? Buffer.from(verdict.root) : null)
      const found = await this.#fetch(id, known, sources)
      if (!found) return log.info({ chunk: id }, 'no node has the chunk any more: nothing to copy')
    }
    await disk.sync([id])
  }

  /** false: every node answered that it does not have it. */
  async #fetch(id: number, root: Buffer | null, sources: readonly string[]): Promise<boolean> {
    const { nodeId, order, log, isGone } = this.#options
    // Who has left for good will not answer, and what it had counts for nothing: waiting for it would never end.
    const there = sources.filter((source) => isGone?.(source) !== true)
    const candidates = new Set([...there, ...order(id)])
    candidates.delete(nodeId)
    let failure: RingfsError | PosixError | undefined
    for (const source of candidates) {
      try {
        await this.#copyFrom(source, id, root)
        return true
      } catch (error) {
        // A full or broken disk here will not be better with the next source.
        if (isLocal(error)) throw error.failure
        if (hasCode(error, 'CHUNK_MISSING')) continue
        log.debug({ chunk: id, source, err: messageOf(error) }, 'copy from this node failed')
        failure = toChunkError(error)
      }
    }
    if (failure === undefined) return false
    if (hasCode(failure, 'CHUNK_CORRUPT')) throw failure
    throw new RingfsError('NODE_UNREACHABLE', `chunk ${id}: no copy yet: ${messageOf(failure)}`, { cause: failure })
  }

  async #copyFrom(source: string, id: number, root: Buffer | null): Promise<void> {
    const { peer, volume, pace, clock } = this.#options
    await pace?.ready()
    const request = { volume, id, offset: 0, lengthBytes: CHUNK_MAX_BYTES, withOrigin: true }
    const reply = await lentWithDeadline(
      FETCH_DEADLINE_MS,
      (signal) => peer(source).get(request, { deadlineMs: FETCH_DEADLINE_MS, signal }),
      `get of chunk ${id} from node ${source}`,
      undefined,
      clock,
    )
    try {
      await this.#store(reply, source, id, root)
      pace?.spent(reply.data.length)
      this.#copied++
    } finally {
      reply.release()
    }
  }

  async #store(reply: GetReply, source: string, id: number, root: Buffer | null): Promise<void> {
    const { disk } = this.#options
    const { origin } = reply
    if (origin === undefined) throw new RingfsError('FRAME_BAD', `node ${source} sent no origin`)
    const actual = checkedRoot(reply, id, root)
    try {
      await disk.put({ id, root: actual, leaves: reply.leaves, origin }, [reply.data])
    } catch (error) {
      // The disk checks data against leaves: what is corrupt came from the source.
      if (hasCode(error, 'CHUNK_CORRUPT')) throw error
      throw new LocalFailure(toChunkError(error))
    }
  }
}

function checkedRoot(reply: GetReply, id: number, root: Buffer | null): Buffer {
  const actual = rootOf(reply.leaves)
  if (reply.data.length !== reply.chunkLengthBytes || reply.firstLeaf !== 0) {
    throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: the copy is not whole`)
  }
  if (root !== null && !actual.equals(root)) {
    throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: the copy has another root hash`)
  }
  return actual
}

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
