/**
 * One volume as a process sees it: Redis, settings, membership and peers (openVolume), and on top of it, for those who
 * use its files, metadata session, chunk client and VFS (openFiles).
 */
import { systemClock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { Metrics } from '../base/metrics.js'
import { sweepOrphans } from '../check/sweep.js'
import { ChunkClientImpl } from '../chunk/client/client.js'
import type { Durability } from '../chunk/contract.js'
import { WorkerPool } from '../chunk/pool.js'
import { SharedBuffers } from '../chunk/shared-buffer.js'
import { SharedClock } from '../cluster/clock-offset.js'
import type { RedisStore, VolumeSettings } from '../cluster/contract.js'
import { ReplicationQueue } from '../cluster/queue.js'
import { connectRedis } from '../cluster/redis.js'
import type { MetaUrl } from '../cluster/url.js'
import { watchView, type ClusterWatcher } from '../cluster/watcher.js'
import type { MetaStore } from '../meta/contract.js'
import { openMeta } from '../meta/engine.js'
import { loadVolume } from '../meta/format.js'
import { VolumeKeys } from '../meta/keys.js'
import type { VfsContract } from '../vfs/contract.js'
import type { KeyRing } from '../rpc/key-ring.js'
import { createVfs, type VfsLimits, type VfsOptions } from '../vfs/vfs.js'
import { Closer } from './closer.js'
import { Janitor } from './janitor.js'
import { Peers } from './peers.js'
import { RoomKeeper } from './room-keeper.js'

export interface VolumeOptions {
  readonly log: Log
  /** The cluster keys, for nodes on other machines. */
  readonly key?: KeyRing | undefined
  readonly threads?: number
  /** Default: those on Redis. */
  readonly settings?: VolumeSettings
  /** See ConnectOptions. */
  readonly firstAnswerMs?: number
  /** See WatchOptions. */
  readonly figuresMs?: number
}

export interface Volume {
  readonly url: MetaUrl
  readonly settings: VolumeSettings
  readonly redis: RedisStore
  readonly watcher: ClusterWatcher
  readonly peers: Peers
  readonly queue: ReplicationQueue
  readonly pool: WorkerPool
  readonly buffers: SharedBuffers
  readonly metrics: Metrics
  readonly log: Log
  close(): Promise<void>
}

/** Errors: those of connectRedis and loadVolume. */
export async function openVolume(url: MetaUrl, options: VolumeOptions): Promise<Volume> {
  const { log, key, threads, firstAnswerMs = 0, figuresMs = 0 } = options
  const metrics = new Metrics()
  const closer = new Closer()
  return closer.orClose(async () => {
    const redis = await connectRedis(url, { log, metrics, firstAnswerMs })
    closer.add(() => redis.close())
    const settings = options.settings ?? (await loadVolume(redis, url.volume))
    const watcher = await watchView(redis, { volume: settings.name, log, figuresMs })
    closer.add(() => watcher.close())
    const buffers = new SharedBuffers()
    metrics.gauge('buffers.lentBytes', () => buffers.lentBytes)
    const peers = new Peers(watcher, buffers, key, metrics)
    closer.add(() => peers.close())
    const pool = new WorkerPool(threads === undefined ? {} : { threads })
    closer.add(() => pool.close())
    const queue = new ReplicationQueue(redis, { volume: settings.name, log })
    const shared = { url, settings, redis, watcher, peers, queue, pool, log }
    return { ...shared, buffers, metrics, close: () => closer.close() }
  })
}

/** `localNode`: the node in this process, if there is one. */
export function chunkClientOf(volume: Volume, localNode?: string): ChunkClientImpl {
  const { settings, log, watcher, peers, pool, buffers, queue, metrics } = volume
  return new ChunkClientImpl({
    volume: settings.uuid,
    replicas: settings.replicas,
    writeQuorum: settings.writeQuorum,
    placement: watcher,
    node: (id) => peers.get(id),
    together: () => peers.together,
    ...(localNode === undefined ? {} : { localNode }),
    pool,
    buffers,
    enqueue: (nodeId, tasks) => queue.enqueue(nodeId, tasks),
    clock: systemClock,
    log,
    metrics,
  })
}

/** How long after the end of their writer's session orphans are freed: time for noticing that a failover has lost metadata. */
const ORPHAN_GRACE_MS = 24 * 3_600_000

async function sweep({ redis, settings, watcher, peers }: Volume, chunks: ChunkClientImpl): Promise<number> {
  const keys = new VolumeKeys(settings.name, settings.partitions)
  const nodes = { volume: settings.uuid, view: () => watcher.current().view, node: (id: string) => peers.get(id) }
  return await sweepOrphans({ ...nodes, store: redis, keys, chunks, graceMs: ORPHAN_GRACE_MS })
}

export interface FilesOptions {
  /** The node in this process, if there is one: it is called without a socket. */
  readonly localNode?: string | undefined
  readonly durability?: Durability | undefined
  readonly readOnly?: boolean
  /** Asked before anything is tidied up: the mount may have become read-only. */
  readonly mayTidyUp?: () => boolean
  readonly durableChanges?: VfsOptions['durableChanges']
  readonly atime?: VfsOptions['atime']
  readonly nodiratime?: boolean
  readonly limits?: Partial<VfsLimits>
  readonly sessionTtlMs?: number | undefined
}

export interface VolumeFiles {
  readonly meta: MetaStore
  readonly vfs: VfsContract
  /** Writes what is buffered, ends the session. Rejects when something could not be written. */
  close(): Promise<void>
}

export async function openFiles(volume: Volume, options: FilesOptions = {}): Promise<VolumeFiles> {
  const { redis, settings, log, watcher, metrics } = volume
  const { localNode, durability, readOnly = false, durableChanges = 'none', limits = {}, sessionTtlMs } = options
  const ttl = sessionTtlMs === undefined ? {} : { sessionTtlMs }
  // File times and the order of chunks are the same whichever machine writes.
  const clock = new SharedClock(systemClock, watcher.clockOffset)
  const meta = await openMeta(redis, settings, { log, clock, reaps: !readOnly, ...ttl })
  const chunks = chunkClientOf(volume, localNode)
  const { atime = 'relatime', nodiratime = false, mayTidyUp = () => true } = options
  const mounted = {
    readOnly,
    mayTidyUp,
    durableChanges,
    atime,
    nodiratime,
    limits,
    ...(durability === undefined ? {} : { durability }),
  }
  const vfs = createVfs({ meta, chunks, clock, log, metrics, ...mounted })
  // Who is to change nothing leaves tidying up to others.
  const janitor = readOnly ? undefined : new Janitor(meta, chunks, log, () => sweep(volume, chunks), mayTidyUp)
  const areNodesWell = (): boolean =>
    watcher.current().view.members.every(({ state }) => state === 'up' || state === 'gone')
  const roomKeeper = readOnly ? undefined : new RoomKeeper({ mover: vfs.bodyMover, areNodesWell, mayTidyUp, log })
  const close = async (): Promise<void> => {
    try {
      await Promise.all([janitor?.stop(), roomKeeper?.stop()])
      await vfs.shutdown()
    } finally {
      await meta.shutdown().catch((error: unknown) => log.warn({ err: messageOf(error) }, 'session not ended'))
    }
  }
  return { meta, vfs, close }
}
