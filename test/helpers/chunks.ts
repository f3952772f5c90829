/** Chunks, stores and whole clusters of chunk nodes inside the test's process. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { RingfsError } from '../../src/base/errors.js'
import { silentLog, type Log } from '../../src/base/log.js'
import { ChunkClientImpl } from '../../src/chunk/client/client.js'
import type { Placement, PlacementSource } from '../../src/chunk/client/placement.js'
import type { CallOptions, ChunkNodeApi, ChunkOrigin, PutRequest, TogetherPut } from '../../src/chunk/contract.js'
import { leafHashes, rootOf, sumBytes } from '../../src/chunk/hash.js'
import { ChunkService, type Epochs } from '../../src/chunk/node/service.js'
import type { ChunkDisk } from '../../src/chunk/node/disk.js'
import { ChunkStore } from '../../src/chunk/node/store.js'
import { WorkerPool } from '../../src/chunk/pool.js'
import type { ReplicationTask } from '../../src/chunk/replication.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import { chunkPosition } from '../../src/cluster/ring.js'
import type { Member, NodeState } from '../../src/cluster/contract.js'

/** A test, or whoever else cleans up at its end. */
export interface Teardown {
  readonly teardown: (end: () => unknown) => void
}

export const VOLUME = '6f1a2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b2c'

export function originOf(lengthBytes: number, ino = 42): ChunkOrigin {
  return { ino, order: 1_700_000_000_000_000, extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes }] }
}

export function temporaryFolder(t: Teardown): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringfs-test-'))
  // Retried: a copy that was left to its grace may still be arriving.
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }))
  return folder
}

export function poolOf(t: Teardown, threads = 1): WorkerPool {
  const pool = new WorkerPool({ threads })
  t.teardown(() => pool.close())
  return pool
}

/** What it is to do later it never does: small chunks stay in their logs until a test has them given files, however slow the disk is. */
export const LATER_NEVER: Clock = {
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs(),
  wallMs: () => systemClock.wallMs(),
  sleep: (ms) => systemClock.sleep(ms),
  after: () => ({ close: () => undefined, unref: () => undefined }),
}

interface StoreOptions {
  readonly inlineMaxBytes?: number
  readonly reserveBytes?: number
  /** Default: LATER_NEVER. */
  readonly clock?: Clock
  readonly log?: Log
}

export async function openStore(folder: string, pool: WorkerPool, options: StoreOptions = {}): Promise<ChunkStore> {
  const buffers = new SharedBuffers()
  return await ChunkStore.open({
    folder,
    volume: VOLUME,
    pool,
    buffers,
    clock: LATER_NEVER,
    log: silentLog,
    ...options,
  })
}

export interface TestChunk {
  readonly id: number
  readonly root: Buffer
  readonly leaves: Buffer
  readonly origin: ChunkOrigin
  readonly data: readonly Uint8Array[]
  readonly bytes: Buffer
}

export function chunkOf(id: number, bytes: Buffer, pieces: readonly Uint8Array[] = [bytes]): TestChunk {
  const leaves = leafHashes([bytes])
  return { id, root: rootOf(leaves), leaves, origin: originOf(sumBytes([bytes])), data: pieces, bytes }
}

export function randomChunk(id: number, lengthBytes: number): TestChunk {
  return chunkOf(id, randomBytes(lengthBytes))
}

export function putRequest(chunk: TestChunk, change: Partial<PutRequest> = {}): PutRequest {
  const { id, root, leaves, origin } = chunk
  return {
    volume: VOLUME,
    id,
    root,
    leaves,
    origin,
    sync: false,
    forward: [],
    copies: 1,
    absent: [],
    ...change,
  }
}

export const CALL: CallOptions = { deadlineMs: 60_000 }

/** What a test can do to a node. */
export interface Faults {
  /** Every call fails as a lost connection. */
  killed: boolean
  /** Calls never answer. */
  hung: boolean
  /** Each call waits for this first. */
  before: Promise<unknown>
  /** Bad copies that are reported stay as they are. */
  unreported: boolean
  /** Thrown by put instead of storing. */
  putError: Error | null
  state: NodeState
}

export interface TestNode {
  readonly id: string
  readonly folder: string
  readonly service: ChunkService
  readonly store: ChunkStore
  readonly faults: Faults
  /** What others get: the service behind its faults. */
  readonly api: ChunkNodeApi
  /** Its replication queue. */
  readonly queue: ReplicationTask[]
  readonly calls: string[]
}

export interface TestCluster {
  readonly nodes: readonly TestNode[]
  readonly client: ChunkClientImpl
  readonly pool: WorkerPool
  /** Fails the replication queue when false. */
  queueWorks: boolean
  node(id: string): TestNode
  owners(chunkId: number): readonly TestNode[]
  placement(): Placement
  clientWith(options: {
    readonly localNode?: string
    readonly node?: (id: string) => ChunkNodeApi
    readonly together?: () => TogetherPut | undefined
    readonly attemptMs?: number
    readonly deadlineMs?: number
    readonly placement?: PlacementSource
  }): ChunkClientImpl
  /** Delivers every queue of a living node, once. */
  drain(): Promise<void>
}

/** Of owners that are well: none is left out on a machine that is busy with other things. */
const GRACE_MS = 10_000
/** Of nodes that answer: none is asked twice on such a machine. */
const ATTEMPT_MS = 10_000

export interface ClusterOptions {
  readonly nodes: number
  readonly replicas?: number
  readonly writeQuorum?: number
  readonly graceMs?: number
  readonly attemptMs?: number
  readonly disk?: (store: ChunkStore, id: string) => ChunkDisk
  /** Default: nodes know no ring. */
  readonly epochs?: (id: string) => Epochs
}

/** A ring that a test can foresee: the owners of chunk c are nodes c, c + 1, … modulo their number. */
function rotate(ids: readonly string[], chunkId: number): readonly string[] {
  const start = chunkId % ids.length
  return [...ids.slice(start), ...ids.slice(0, start)]
}

export async function startCluster(t: Teardown, options: ClusterOptions): Promise<TestCluster> {
  const pool = poolOf(t, 2)
  const ids = Array.from({ length: options.nodes }, (_, index) => `node-${index}`)
  const nodes: TestNode[] = []
  const byId = (id: string): TestNode => {
    const node = nodes.find((candidate) => candidate.id === id)
    if (node === undefined) throw new RingfsError('NODE_UNREACHABLE', `no node ${id}`)
    return node
  }
  const enqueue = async (id: string, tasks: readonly ReplicationTask[]): Promise<void> => {
    await Promise.resolve()
    if (!cluster.queueWorks) throw new RingfsError('REDIS_UNREACHABLE', 'the queue is away')
    byId(id).queue.push(...tasks)
  }
  for (const id of ids) {
    const folder = temporaryFolder(t)
    const store = await openStore(folder, pool)
    const service = new ChunkService({
      nodeId: id,
      volume: VOLUME,
      version: '0.0.0',
      disk: options.disk?.(store, id) ?? store,
      peer: (peerId) => byId(peerId).api,
      order: (chunkId) => rotate(ids, chunkId),
      isSuspect: (peerId) => byId(peerId).faults.state !== 'up',
      enqueue,
      clock: systemClock,
      log: silentLog,
      graceMs: options.graceMs ?? GRACE_MS,
      disks: () => ['d'],
      ...(options.epochs && { epochs: options.epochs(id) }),
    })
    const faults: Faults = {
      killed: false,
      hung: false,
      before: Promise.resolve(),
      unreported: false,
      putError: null,
      state: 'up',
    }
    const calls: string[] = []
    nodes.push({ id, folder, service, store, faults, calls, api: faulty(service, faults, calls), queue: [] })
  }
  // Before the folders are removed: small chunks may be getting their files.
  t.teardown(async () => {
    for (const { store } of nodes) store.abandon()
    await pool.close()
  })
  const placement = (): Placement => ({
    ring: {
      owners: (chunkId, count) => rotate(ids, chunkId).slice(0, count),
      preference: (chunkId) => rotate(ids, chunkId),
    },
    view: { epoch: 1, members: nodes.map(memberOf) },
  })
  const clientWith: TestCluster['clientWith'] = (change) =>
    new ChunkClientImpl({
      volume: VOLUME,
      replicas: options.replicas ?? 3,
      writeQuorum: options.writeQuorum ?? 2,
      placement: { current: placement },
      node: (id) => byId(id).api,
      pool,
      buffers: new SharedBuffers(),
      enqueue,
      clock: systemClock,
      log: silentLog,
      attemptMs: options.attemptMs ?? ATTEMPT_MS,
      ...change,
    })
  const drain = async (): Promise<void> => {
    for (const node of nodes) {
      if (node.faults.killed) continue
      for (const task of node.queue.splice(0)) await node.service.repairer.handle(task)
    }
  }
  const cluster: TestCluster = {
    nodes,
    client: clientWith({}),
    pool,
    queueWorks: true,
    node: byId,
    owners: (chunkId) =>
      rotate(ids, chunkId)
        .slice(0, options.replicas ?? 3)
        .map(byId),
    placement,
    clientWith,
    drain,
  }
  return cluster
}

function memberOf({ id, faults }: TestNode): Member {
  return {
    id,
    address: id,
    zone: '',
    weight: 1,
    state: faults.state,
    pid: 1,
    incarnation: '1',
    totalBytes: 3_000_000_000,
    freeBytes: 1_500_000_000,
    chunks: 0,
    silentMs: 0,
    queueLength: 0,
  }
}

function faulty(api: ChunkNodeApi & Pick<ChunkService, 'putUnhashed'>, faults: Faults, calls: string[]): ChunkNodeApi {
  const through = async <T>(name: string, options: CallOptions, call: () => Promise<T>): Promise<T> => {
    calls.push(name)
    if (faults.hung) await hang(options)
    await faults.before
    if (faults.killed) throw new RingfsError('CONNECTION_LOST', 'killed by the test')
    const reply = await call()
    // Killed while it worked: whatever it did, its answer is lost.
    if (isKilled(faults)) throw new RingfsError('CONNECTION_LOST', 'killed by the test')
    return reply
  }
  return {
    put: (request, data, options) =>
      through('put', options, () => {
        if (faults.putError !== null) throw faults.putError
        return api.put(request, data, options)
      }),
    putUnhashed: (request, data, options) =>
      through('putUnhashed', options, () => {
        if (faults.putError !== null) throw faults.putError
        return api.putUnhashed(request, data, options)
      }),
    get: (request, options) => through('get', options, () => api.get(request, options)),
    sync: (volume, ids, options) => through('sync', options, () => api.sync(volume, ids, options)),
    remove: (volume, ids, options) => through('remove', options, () => api.remove(volume, ids, options)),
    reportBad: (volume, id, options) =>
      through('reportBad', options, () => (faults.unreported ? Promise.resolve() : api.reportBad(volume, id, options))),
    list: (request, options) => through('list', options, () => api.list(request, options)),
    lacks: (request, options) => through('lacks', options, () => api.lacks(request, options)),
    digest: (request, options) => through('digest', options, () => api.digest(request, options)),
    scrub: (request, options) => through('scrub', options, () => api.scrub(request, options)),
    info: (options) => through('info', options, () => api.info(options)),
  }
}

/** Apart, because the test changes it while a call is under way. */
function isKilled(faults: Faults): boolean {
  return faults.killed
}

/** Until the caller gives up. */
function hang(options: CallOptions): Promise<never> {
  return new Promise((_, reject) => {
    const end = (): void => reject(new RingfsError('CANCELLED', 'hung by the test'))
    if (options.signal?.aborted === true) end()
    options.signal?.addEventListener('abort', end, { once: true })
  })
}

/** The file of a chunk in a store's folder. */
export function chunkFile(folder: string, id: number): string {
  const digits = chunkPosition(id).toString(16).padStart(8, '0')
  const name = id.toString(16).padStart(14, '0')
  return join(folder, 'chunks', digits.slice(0, 2), digits.slice(2, 3), name)
}

/** The rejection's code; '' if it did not reject. */
export async function failureOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return ''
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}

/** A client with the only node in this process, as `ringfs up` alone has it. */
export async function startLocalNode(t: Teardown): Promise<ChunkClientImpl> {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  return cluster.clientWith({ localNode: 'node-0' })
}

/** By the test cluster's ring, `turned` places further on. */
export function placementOf(cluster: TestCluster, epoch: number, turned: number): Placement {
  const { ring, view } = cluster.placement()
  return {
    view: { ...view, epoch },
    ring: {
      owners: (chunk, count) => ring.owners(chunk + turned, count),
      preference: (chunk) => ring.preference(chunk + turned),
    },
  }
}
