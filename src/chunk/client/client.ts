/** The chunk client: what the VFS writes to and reads from. One a mount. */
import { Budget } from '../../base/budget.js'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { CHUNK_MAX_BYTES, HASH_INLINE_MAX_BYTES, MIB } from '../../base/limits.js'
import { invariant } from '../../base/invariant.js'
import type { Log } from '../../base/log.js'
import { Metrics } from '../../base/metrics.js'
import {
  type ChunkClient,
  type ChunkNodeApi,
  type ChunkOrigin,
  type ChunkReadOptions,
  type ChunkRef,
  type ChunkWriteOptions,
  type LeafRef,
  type LentBytes,
  type LentLeaves,
  type TogetherPut,
} from '../contract.js'
import { originProblem } from '../format.js'
import { leafHashes, rootOf, sumBytes } from '../hash.js'
import { Hasher } from '../jobs.js'
import { NodeHealth } from '../node-health.js'
import type { WorkerPool } from '../pool.js'
import type { Enqueue } from '../replication.js'
import { sharePieces, type SharedBuffers } from '../shared-buffer.js'
import { writeAlone } from './alone.js'
import { Gathering } from './gather.js'
import { HedgeTimer } from './latency.js'
import { LeafCache } from './leaf-cache.js'
import type { PlacementSource } from './placement.js'
import { ChunkCounts } from './options.js'
import { ChunkRead, readNow, type ReadParts } from './reader.js'
import { ChunkSync, removeChunks } from './upkeep.js'
import { syncsAtOnce, writeChunk } from './together.js'
import { ChunkWrite } from './writer.js'

const IN_FLIGHT_DEFAULT_BYTES = 64 * MIB
const ATTEMPT_DEFAULT_MS = 3000
const DEADLINE_DEFAULT_MS = 30_000

export interface ChunkClientOptions {
  /** Volume uuid. */
  readonly volume: string
  readonly replicas: number
  readonly writeQuorum: number
  readonly placement: PlacementSource
  /** A node by its id: the one in this process directly, others over RPC. May throw when its address is not known. */
  readonly node: (id: string) => ChunkNodeApi
  /** The id of the node in this process, if it has one. */
  readonly localNode?: string
  readonly together?: () => TogetherPut | undefined
  readonly pool: WorkerPool
  readonly buffers: SharedBuffers
  readonly enqueue: Enqueue
  readonly clock: Clock
  readonly log: Log
  readonly metrics?: Metrics
  /** Bytes being written at once; more wait. Default 64 MiB. */
  readonly maxInFlightBytes?: number
  /** How long one node may take before another is asked instead. Default 3000. */
  readonly attemptMs?: number
  /** How long a call goes on trying unless it says so itself. Default 30,000. */
  readonly deadlineMs?: number
}

export class ChunkClientImpl implements ChunkClient {
  readonly #parts: ReadParts
  readonly #gathering: Gathering
  readonly #buffers: SharedBuffers
  /** Back-pressure: bytes under way. */
  readonly #budget: Budget

  constructor(options: ChunkClientOptions) {
    const { volume, replicas, writeQuorum, placement, node, localNode, pool, buffers, enqueue, clock, log } = options
    this.#buffers = buffers
    this.#budget = new Budget(options.maxInFlightBytes ?? IN_FLIGHT_DEFAULT_BYTES)
    this.#parts = {
      volume,
      replicas,
      writeQuorum,
      placement,
      node,
      localNode,
      together: options.together ?? (() => undefined),
      enqueue,
      clock,
      log,
      hasher: new Hasher(pool, buffers),
      health: new NodeHealth(clock),
      attemptMs: options.attemptMs ?? ATTEMPT_DEFAULT_MS,
      deadlineMs: options.deadlineMs ?? DEADLINE_DEFAULT_MS,
      leafCache: new LeafCache(),
      hedge: new HedgeTimer(),
      counts: new ChunkCounts(),
    }
    this.#gathering = new Gathering(this.#parts)
    this.#tell(options.metrics ?? new Metrics())
  }

  #tell(metrics: Metrics): void {
    const { counts } = this.#parts
    metrics.counter('chunk.hedges', () => counts.hedges)
    metrics.counter('chunk.retries', () => counts.retries)
    metrics.counter('chunk.failures', () => counts.failures)
    metrics.counter('chunk.bad', () => counts.bad)
  }

  syncsAtOnce(id: number, lengthBytes: number): boolean {
    return syncsAtOnce(this.#parts, id, lengthBytes)
  }

  async write(
    id: number,
    data: readonly Uint8Array[],
    origin: ChunkOrigin,
    options: ChunkWriteOptions,
  ): Promise<ChunkRef> {
    checkId(id)
    const lengthBytes = sumBytes(data)
    if (lengthBytes === 0 || lengthBytes > CHUNK_MAX_BYTES) {
      throw new PosixError('EINVAL', `chunk ${id}: ${lengthBytes} bytes are no chunk`)
    }
    const problem = originProblem(origin, lengthBytes)
    if (problem !== undefined) throw new PosixError('EINVAL', `chunk ${id}: ${problem}`)
    return await this.#budget.with(() => this.#write(id, data, lengthBytes, origin, options), lengthBytes)
  }

  async #write(
    id: number,
    data: readonly Uint8Array[],
    lengthBytes: number,
    origin: ChunkOrigin,
    options: ChunkWriteOptions,
  ): Promise<ChunkRef> {
    if (lengthBytes <= HASH_INLINE_MAX_BYTES) return await this.#send(id, data, lengthBytes, origin, options)
    // Shared once, for hashing here and for the disk worker of a node in this process.
    const shared = sharePieces(this.#buffers, data, lengthBytes)
    try {
      return await this.#send(id, shared.pieces, lengthBytes, origin, options)
    } finally {
      // An attempt that was left behind may still read this memory, and then others' bytes, or zeros: whoever stores it checks the
      // hashes, or whether it was given up, after the last byte was taken, and stores nothing.
      shared.release()
    }
  }

  async #send(
    id: number,
    data: readonly Uint8Array[],
    lengthBytes: number,
    origin: ChunkOrigin,
    options: ChunkWriteOptions,
  ): Promise<ChunkRef> {
    // Without a promise where that takes no time.
    if (lengthBytes > HASH_INLINE_MAX_BYTES) return await this.#sendLong(id, data, lengthBytes, origin, options)
    const leaves = leafHashes(data)
    const root = rootOf(leaves)
    await writeChunk(this.#parts, { id, root, leaves, data, origin }, lengthBytes, options)
    this.#parts.leafCache.set(id, root, leaves)
    return { id, lengthBytes, root }
  }

  async #sendLong(
    id: number,
    data: readonly Uint8Array[],
    lengthBytes: number,
    origin: ChunkOrigin,
    options: ChunkWriteOptions,
  ): Promise<ChunkRef> {
    const { clock, deadlineMs, hasher, placement, leafCache } = this.#parts
    const startMs = clock.monotonicMs()
    const { epoch } = placement.current().view
    const alone = await writeAlone(this.#parts, id, data, origin, options)
    const leaves = alone?.leaves ?? (await hasher.leaves(data))
    const root = rootOf(leaves)
    const chunk = { id, root, leaves, data, origin }
    const left = { ...options, deadlineMs: (options.deadlineMs ?? deadlineMs) - (clock.monotonicMs() - startMs) }
    if (alone === null) await writeChunk(this.#parts, chunk, lengthBytes, left)
    // A node that knows a newer ring may have walked for it already.
    else if (alone.epoch > epoch) await new ChunkWrite(this.#parts, chunk, left, alone).run()
    leafCache.set(id, root, leaves)
    return { id, lengthBytes, root }
  }

  async read(ref: ChunkRef, offset: number, lengthBytes: number, options: ChunkReadOptions = {}): Promise<Buffer> {
    const { bytes, release } = await this.lend(ref, offset, lengthBytes, options)
    try {
      return Buffer.from(bytes)
    } finally {
      release()
    }
  }

  async lend(ref: ChunkRef, offset: number, lengthBytes: number, options: ChunkReadOptions = {}): Promise<LentBytes> {
    checkId(ref.id)
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(lengthBytes) && offset >= 0 && lengthBytes >= 0
    if (!inside || offset + lengthBytes > ref.lengthBytes) {
      throw new PosixError('EINVAL', `chunk ${ref.id}: ${lengthBytes} bytes from ${offset} lie outside it`)
    }
    if (lengthBytes === 0) return { bytes: Buffer.alloc(0), release: () => undefined }
    const now = readNow(this.#parts, ref, offset, lengthBytes)
    return now ?? (await new ChunkRead(this.#parts, ref, offset, lengthBytes, options).run())
  }

  async origin(ref: ChunkRef, options: ChunkReadOptions = {}): Promise<ChunkOrigin> {
    checkId(ref.id)
    // With the first leaf, which tells that it is this chunk.
    const { origin, release } = await new ChunkRead(this.#parts, ref, 0, 1, { ...options, withOrigin: true }).run()
    release()
    invariant(origin !== undefined, 'what was asked for is there')
    return origin
  }

  nearNode(id: number): string | undefined {
    return this.#gathering.nearNode(id)
  }

  async lendLeaves(node: string, wants: readonly LeafRef[]): Promise<LentLeaves> {
    return await this.#gathering.lend(node, wants)
  }

  async sync(ids: readonly number[]): Promise<void> {
    for (const id of ids) checkId(id)
    if (ids.length > 0) await new ChunkSync(this.#parts, ids).run()
  }

  async remove(ids: readonly number[]): Promise<void> {
    for (const id of ids) checkId(id)
    if (ids.length > 0) await removeChunks(this.#parts, ids)
  }

  async space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    const { placement, replicas } = this.#parts
    let totalBytes = 0
    let freeBytes = 0
    for (const member of placement.current().view.members) {
      if (member.state === 'gone' || member.state === 'down') continue
      totalBytes += member.totalBytes
      freeBytes += member.freeBytes
    }
    return await Promise.resolve({
      totalBytes: Math.floor(totalBytes / replicas),
      freeBytes: Math.floor(freeBytes / replicas),
    })
  }
}

function checkId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 0) throw new PosixError('EINVAL', `${id} is no chunk id`)
}
