/**
 * A chunk node: stores, passes on, answers. In the same process it is called directly; over RPC by node/server.ts.
 *
 * Invariants:
 * - `stored` in a put's reply names only nodes that have the whole, verified chunk; with `sync`, on disk.
 * - Before the reply goes out, every owner asked for is stored, queued (the queue has acknowledged it) or named in `missing`.
 * - A put may be repeated in whole or in part, here or at another owner, at any time.
 */
import { Cancellation, type CancelSignal } from '../../base/cancel.js'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import { CHUNK_MAX_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import {
  CHUNK_BUCKETS,
  type CallOptions,
  type ChunkNodeApi,
  type DigestRequest,
  type RangeDigest,
  type GetReply,
  type GetRequest,
  type LeafPlace,
  type LeavesReply,
  type ListReply,
  type ListRequest,
  type NodeInfo,
  type PutReply,
  type PutRequest,
  type LacksRequest,
  type ScrubRequest,
  type ScrubState,
  type UnhashedPut,
  type UnhashedReply,
} from '../contract.js'
import { Gate, settledWithin, withDeadline } from '../deadline.js'
import { sumBytes } from '../hash.js'
import { NodeHealth, isNoAnswer } from '../node-health.js'
import { toChunkError } from '../outcome.js'
import type { Enqueue } from '../replication.js'
import type { Pace } from './pace.js'
import { Repairer } from './repair.js'
import { Scrubber } from './scrub.js'
import { digestsOfDisk } from './digest.js'
import type { ChunkDisk } from './disk.js'
import { noLeaves } from './leaf-reads.js'

const GRACE_MS = 250
const SUSPECT_GRACE_MS = 20
const ENQUEUE_MAX_MS = 2000
/** The caller waits for deadlineMs and no longer: passing on and queueing must leave time for the reply. */
const PASS_ON_SHARE = 0.6
const ENQUEUE_SHARE = 0.3
/** Owners are few; a request that names more is nonsense. */
const NODES_MAX = 64

export interface Epochs {
  /** Of the ring that this node knows. */
  readonly current: () => number
  /** Somebody knows a newer one. */
  readonly onNewer: () => void
}

export interface ChunkServiceOptions {
  readonly nodeId: string
  /** Volume uuid. */
  readonly volume: string
  /** Of ringfs, for info(). */
  readonly version: string
  readonly disk: ChunkDisk
  /** Another node, by its id. May throw when its address is not known. */
  readonly peer: (nodeId: string) => ChunkNodeApi
  /** Every node that may have the chunk, likeliest first: the ring's preference, this node included or not. */
  readonly order: (chunkId: number) => readonly string[]
  /** Does membership say that the node does not answer? Then it gets less grace. */
  readonly isSuspect: (nodeId: string) => boolean
  readonly enqueue: Enqueue
  readonly epochs?: Epochs
  readonly clock: Clock
  readonly log: Log
  /** How fast copies are fetched. Default: as fast as it goes. */
  readonly pace?: Pace
  /** By the ring of this epoch or a later one, is the chunk this node's? Default: yes. */
  readonly isOwner?: (chunkId: number, epoch: number) => boolean
  /** Was the node removed for good? Default: no. */
  readonly isGone?: (nodeId: string) => boolean
  /** Once enough copies are there, the rest may take this long before they are left to the queue. Default 250. */
  readonly graceMs?: number
  /** Where the position of scrubbing is kept, and how long a round takes: scrub.ts. */
  readonly scrubFile?: () => string | undefined
  readonly scrubPeriodMs?: () => number | undefined
  readonly scrubFolders?: number
  /** Ids of the disks that are in use now, for info(). */
  readonly disks?: () => readonly string[]
}

export class ChunkService implements ChunkNodeApi {
  readonly #options: ChunkServiceOptions
  readonly #health: NodeHealth
  /** Also handles this node's replication queue. */
  readonly repairer: Repairer
  readonly scrubber: Scrubber

  constructor(options: ChunkServiceOptions) {
    this.#options = options
    this.#health = new NodeHealth(options.clock)
    this.repairer = new Repairer(options)
    this.scrubber = new Scrubber(options, this.repairer)
  }

  async put(request: PutRequest, data: readonly Uint8Array[], options: CallOptions): Promise<PutReply> {
    this.#checkVolume(request.volume)
    const lengthBytes = sumBytes(data)
    if (request.prepared !== undefined) this.#checkPrepared(request, lengthBytes)
    else checkLength(request.id, lengthBytes)
    if (request.forward.length + request.absent.length > NODES_MAX) {
      throw new PosixError('EINVAL', `chunk ${request.id}: too many owners`)
    }
    const { epochs } = this.#options
    this.#noteEpoch(request.epoch)
    const stored = new Set<string>()
    const newer = { epoch: 0 }
    const local = await this.#spread(request, data, options, stored, newer)
    if (local !== null && stored.size < request.copies) throw local
    const { nodeId } = this.#options
    const lacking = new Set([...request.forward, ...request.absent, nodeId].filter((id) => !stored.has(id)))
    // After it was stored: whoever walks this node for a newer ring than this one meets the chunk.
    const told = epochs === undefined ? {} : { epoch: Math.max(newer.epoch, epochs.current()) }
    if (lacking.size === 0) return { stored: [...stored], queued: [], missing: [], ...told }
    const queued = await this.#enqueue(request, lacking, [...stored], options.deadlineMs * ENQUEUE_SHARE)
    return { stored: [...stored], queued, missing: [...lacking].filter((id) => !queued.includes(id)), ...told }
  }

  async putUnhashed(
    { volume, id, origin, sync, epoch }: UnhashedPut,
    data: readonly Uint8Array[],
    { signal }: CallOptions,
  ): Promise<UnhashedReply> {
    const { disk, nodeId, epochs } = this.#options
    this.#checkVolume(volume)
    checkLength(id, sumBytes(data))
    if (disk.putUnhashed === undefined) throw new PosixError('EINVAL', `chunk ${id} is not hashed here`)
    this.#noteEpoch(epoch)
    this.repairer.wasPut(id)
    try {
      const leaves = await disk.putUnhashed({ id, origin }, data, { sync, signal })
      // After it was stored, as in put.
      const told = epochs === undefined ? {} : { epoch: epochs.current() }
      return { stored: [nodeId], queued: [], missing: [], leaves, ...told }
    } catch (error) {
      throw toChunkError(error)
    }
  }

  #noteEpoch(epoch = 0): void {
    const { epochs } = this.#options
    if (epoch > (epochs?.current() ?? Infinity)) epochs?.onNewer()
  }

  #checkPrepared({ id, forward }: PutRequest, lengthBytes: number): void {
    if (lengthBytes === 0 && forward.length === 0 && this.#options.disk.putPrepared !== undefined) return
    throw new PosixError('EINVAL', `chunk ${id} cannot be taken: with data, to be passed on, or not here`)
  }

  /** Fills `stored`, and `newer` with the newest epoch that others told; answers why this node could not store it, or null. */
  async #spread(
    request: PutRequest,
    data: readonly Uint8Array[],
    options: CallOptions,
    stored: Set<string>,
    newer: { epoch: number },
  ): Promise<RingfsError | PosixError | null> {
    const { nodeId } = this.#options
    const pending = new Set<string>(request.forward)
    pending.delete(nodeId)
    if (pending.size === 0) {
      const failure = await this.#storeHere(request, data)
      if (failure === null) stored.add(nodeId)
      return failure
    }
    const stop = new Cancellation()
    const cancel = (): void => stop.cancel()
    options.signal?.addEventListener('abort', cancel, { once: true })
    const enough = new Gate()
    const note = (): void => {
      if (stored.size >= request.copies || pending.size === 0) enough.open()
    }
    const passedOn = [...pending].map(async (peerId) => {
      const epoch = await this.#passOn(peerId, request, data, options, stop)
      pending.delete(peerId)
      if (epoch !== null) {
        stored.add(peerId)
        newer.epoch = Math.max(newer.epoch, epoch)
      }
      note()
    })
    const failure = await this.#storeHere(request, data)
    if (failure === null) stored.add(nodeId)
    note()
    await enough.opened
    await settledWithin(Promise.all(passedOn), this.#graceMs(pending), this.#options.clock)
    // Whoever has not confirmed by now gets it through the queue. The data may change after the reply: a peer that still
    // receives it finds that it does not match its hashes, and stores nothing.
    options.signal?.removeEventListener('abort', cancel)
    stop.cancel()
    return failure
  }

  async #storeHere(request: PutRequest, data: readonly Uint8Array[]): Promise<RingfsError | PosixError | null> {
    const { id, root, leaves, origin, sync, prepared } = request
    const { disk, log } = this.#options
    this.repairer.wasPut(id)
    try {
      if (prepared === undefined) await disk.put({ id, root, leaves, origin }, data, sync)
      else await disk.putPrepared?.({ id, root, leaves, origin }, prepared, sync)
      return null
    } catch (error) {
      log.debug({ chunk: id, err: messageOf(error) }, 'chunk not stored here')
      return toChunkError(error)
    }
  }

  /** The peer's epoch, 0 if it told none; null: it has not stored it. */
  async #passOn(
    peerId: string,
    request: PutRequest,
    data: readonly Uint8Array[],
    options: CallOptions,
    stop: CancelSignal,
  ): Promise<number | null> {
    const single: PutRequest = { ...request, forward: [], absent: [], copies: 1 }
    const startMs = this.#options.clock.monotonicMs()
    const deadlineMs = options.deadlineMs * PASS_ON_SHARE
    try {
      const reply = await withDeadline(
        deadlineMs,
        (signal) => this.#options.peer(peerId).put(single, data, { deadlineMs, signal }),
        `put of chunk ${request.id} to node ${peerId}`,
        stop,
        this.#options.clock,
      )
      this.#health.succeeded(peerId, this.#options.clock.monotonicMs() - startMs)
      return reply.epoch ?? 0
    } catch (error) {
      // Stopped after its grace counts too: the next put need not wait for it as long.
      if (isNoAnswer(codeOf(error))) this.#health.failed(peerId)
      this.#options.log.debug({ chunk: request.id, peer: peerId, err: messageOf(error) }, 'chunk not passed on')
      return null
    }
  }

  #graceMs(pending: ReadonlySet<string>): number {
    const graceMs = this.#options.graceMs ?? GRACE_MS
    const trusted = [...pending].some((id) => !this.#options.isSuspect(id) && !this.#health.isTroubled(id))
    return trusted ? graceMs : Math.min(graceMs, SUSPECT_GRACE_MS)
  }

  /** Answers who is in the queue now. */
  async #enqueue(
    request: PutRequest,
    lacking: ReadonlySet<string>,
    sources: readonly string[],
    maxMs: number,
  ): Promise<string[]> {
    const { id: chunk, root, epoch } = request
    // Who is no owner by a newer ring, or was only a stand-in, needs no copy.
    const task = { kind: 'copy', chunk, root, sources, ...(epoch === undefined ? {} : { epoch }) } as const
    const queued: string[] = []
    const { enqueue, log, clock } = this.#options
    await Promise.all(
      [...lacking].map(async (id) => {
        try {
          const timeMs = Math.min(ENQUEUE_MAX_MS, maxMs)
          await withDeadline(timeMs, () => enqueue(id, [task]), 'replication queue', undefined, clock)
          queued.push(id)
        } catch (error) {
          log.warn({ chunk: request.id, node: id, err: messageOf(error) }, 'replication queue not reached')
        }
      }),
    )
    return queued
  }

  getNow(request: GetRequest): GetReply | null {
    const { volume, id, offset, lengthBytes, withOrigin = false } = request
    if (volume !== this.#options.volume || withOrigin || !isRange(request)) return null
    return this.#options.disk.readNow(id, offset, Math.min(lengthBytes, CHUNK_MAX_BYTES))
  }

  async getLeaves(volume: string, places: readonly LeafPlace[]): Promise<LeavesReply> {
    return volume === this.#options.volume ? await this.#options.disk.readLeaves(places) : noLeaves(places)
  }

  async get(request: GetRequest): Promise<GetReply> {
    this.#checkVolume(request.volume)
    const { id, offset, lengthBytes, withOrigin = false, check } = request
    if (!isRange(request)) {
      throw new PosixError('EINVAL', `chunk ${id}: no such range`)
    }
    const range = await this.#options.disk.read(id, offset, Math.min(lengthBytes, CHUNK_MAX_BYTES), withOrigin, check)
    const { origin, ...reply } = range
    return origin === null ? reply : { ...reply, origin }
  }

  async sync(volume: string, ids: readonly number[]): Promise<{ readonly missing: readonly number[] }> {
    this.#checkVolume(volume)
    checkIds(ids)
    return { missing: await this.#options.disk.sync(ids) }
  }

  async remove(volume: string, ids: readonly number[]): Promise<void> {
    this.#checkVolume(volume)
    checkIds(ids)
    await this.repairer.remove(ids)
  }

  async reportBad(volume: string, id: number): Promise<void> {
    this.#checkVolume(volume)
    checkIds([id])
    const { log, nodeId, enqueue } = this.#options
    try {
      await this.repairer.ensure(id, null, [])
    } catch (error) {
      log.warn({ chunk: id, err: messageOf(error) }, 'bad chunk copy not repaired yet')
      await this.repairer.later(id, () => enqueue(nodeId, [{ kind: 'copy', chunk: id, root: null, sources: [] }]))
    }
  }

  async list(request: ListRequest): Promise<ListReply> {
    this.#checkVolume(request.volume)
    const { fromBucket, toBucket, fromId, limit } = request
    const isRange = isCount(fromBucket) && isCount(toBucket) && toBucket <= CHUNK_BUCKETS && isCount(fromId)
    if (!isRange || !isCount(limit) || limit === 0) throw new PosixError('EINVAL', 'no such range of chunks')
    return await this.#options.disk.list(request)
  }

  async lacks({ volume, ids, verify }: LacksRequest): Promise<readonly number[]> {
    this.#checkVolume(volume)
    checkIds(ids)
    return await this.#options.disk.lacks(ids, verify)
  }

  /** Errors: EIO also when a disk fails meanwhile: what was read of it is not here any more. */
  async digest({ volume, groups }: DigestRequest, { signal }: CallOptions): Promise<readonly RangeDigest[]> {
    this.#checkVolume(volume)
    const { disk, disks, nodeId } = this.#options
    const before = disks?.() ?? []
    const digests = await digestsOfDisk(disk, volume, groups, signal)
    const after = new Set(disks?.() ?? [])
    if (before.some((id) => !after.has(id))) throw new PosixError('EIO', `a disk of node ${nodeId} failed meanwhile`)
    return digests
  }

  async scrub(request: ScrubRequest): Promise<ScrubState> {
    this.#checkVolume(request.volume)
    return await Promise.resolve(this.scrubber.control(request))
  }

  async info(): Promise<NodeInfo> {
    const { nodeId, volume, version, disk } = this.#options
    const { totalBytes, freeBytes } = disk.space()
    const { chunks } = disk
    const disks = this.#options.disks?.() ?? []
    return await Promise.resolve({
      id: nodeId,
      volume,
      pid: process.pid,
      totalBytes,
      freeBytes,
      chunks,
      version,
      disks,
    })
  }

  #checkVolume(volume: string): void {
    if (volume === this.#options.volume) return
    const { nodeId, volume: own } = this.#options
    throw new RingfsError('NODE_WRONG_VOLUME', `node ${nodeId} belongs to volume ${own}, not to ${volume}`)
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function isRange({ id, offset, lengthBytes }: GetRequest): boolean {
  return isCount(id) && isCount(offset) && isCount(lengthBytes) && offset < CHUNK_MAX_BYTES
}

function checkIds(ids: readonly number[]): void {
  const wrong = ids.find((id) => !isCount(id))
  if (wrong !== undefined) throw new PosixError('EINVAL', `${wrong} is no chunk id`)
}

function checkLength(id: number, lengthBytes: number): void {
  if (lengthBytes > 0 && lengthBytes <= CHUNK_MAX_BYTES) return
  throw new PosixError('EINVAL', `chunk ${id}: ${lengthBytes} bytes are no chunk`)
}
