/** Nodes with their healers in one process, as they compare what they have; every question among them is counted as it would be sent. */
import { systemClock } from '../../src/base/clock.js'
import { RingfsError } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import type { ChunkNodeApi } from '../../src/chunk/contract.js'
import type { ChunkDisk } from '../../src/chunk/node/disk.js'
import { Healer } from '../../src/chunk/node/healer.js'
import { Pace } from '../../src/chunk/node/pace.js'
import { ChunkService } from '../../src/chunk/node/service.js'
import type { ReplicationTask } from '../../src/chunk/replication.js'
import type { ClusterView, HealReport, Member, RangedRing } from '../../src/cluster/contract.js'
import { planOf } from '../../src/cluster/plan.js'
import { buildRing } from '../../src/cluster/ring.js'
import { PREAMBLE_BYTES } from '../../src/rpc/frame.js'
import { CHUNK_DIGEST, CHUNK_LACKS } from '../../src/rpc/messages-chunk.js'
import { VOLUME, type Teardown } from './chunks.js'

export const REPLICAS = 3
const HOUR_MS = 3_600_000

export interface Asked {
  /** Questions and answers. */
  messages: number
  bytes: number
  digests: number
  /** Ids that were sent. */
  ids: number
}

/** Called when a node has answered, before the one that asked hears of it. */
export type OnAnswered = (node: string, method: 'digest' | 'lacks', ids: readonly number[]) => unknown

export interface AuditClusterOptions {
  readonly disks: ReadonlyMap<string, ChunkDisk>
  /** false: nodes of a version that had lists only. */
  readonly hasDigests?: boolean
  readonly graceMs?: number
  /** What nodes are to remove, as their queues say, of which nothing is handed out. */
  readonly removals?: ReadonlyMap<string, ReadonlySet<number>>
}

export class AuditCluster {
  readonly ring: RangedRing
  readonly services: ReadonlyMap<string, ChunkService>
  /** Everything that was ever put into a queue. */
  readonly queued: { readonly node: string; readonly task: ReplicationTask }[] = []
  asked: Asked = { messages: 0, bytes: 0, digests: 0, ids: 0 }
  onAnswered: OnAnswered = () => undefined
  #view: ClusterView
  readonly #pending = new Map<string, number>()
  readonly #healers: ReadonlyMap<string, Healer>
  #runs: readonly Promise<void>[] = []
  readonly #stop = new AbortController()
  readonly #options: AuditClusterOptions

  constructor(t: Teardown, options: AuditClusterOptions) {
    this.#options = options
    const ids = [...options.disks.keys()]
    this.ring = buildRing(ids.map((id) => ({ id, weight: 1, zone: '' })))
    this.#view = { epoch: 1, members: ids.map(memberOf) }
    this.services = new Map([...options.disks].map(([id, disk]) => [id, this.#serviceOf(id, disk)]))
    this.#healers = new Map([...options.disks].map(([id, disk]) => [id, this.#healerOf(id, disk)]))
    t.teardown(async () => {
      this.#stop.abort()
      await Promise.all(this.#runs)
    })
  }

  /**
   * Everybody compares all with all, once more. Resolves when all are whole. Before the first time nobody looks: what is being put on the
   * disks is not found lacking.
   */
  async audit(): Promise<Asked> {
    this.asked = { messages: 0, bytes: 0, digests: 0, ids: 0 }
    const settings = {
      suspectMs: HOUR_MS,
      downMs: HOUR_MS,
      outMs: HOUR_MS,
      healBytesPerS: 0,
      surplusMs: HOUR_MS,
      rings: 0,
      scrubMs: HOUR_MS,
    }
    this.#view = { ...this.#view, settings: { ...settings, walks: (this.#view.settings?.walks ?? 0) + 1 } }
    const healers = [...this.#healers.values()]
    if (this.#runs.length === 0) this.#runs = healers.map((healer) => healer.run(this.#stop.signal))
    const plan = planOf(this.#view)
    const isDone = (healer: Healer): boolean => healer.report().plan === plan && healer.report().isDone
    while (!healers.every(isDone)) await systemClock.sleep(5)
    return this.asked
  }

  report(id: string): HealReport | undefined {
    return this.#healers.get(id)?.report()
  }

  #serviceOf(nodeId: string, disk: ChunkDisk): ChunkService {
    return new ChunkService({
      ...{ nodeId, volume: VOLUME, version: 'test', disk, clock: systemClock, log: silentLog },
      peer: (id) => this.#peer(id),
      order: (chunk) => this.ring.preference(chunk),
      isSuspect: () => false,
      enqueue: (id, tasks) => this.#enqueue(id, tasks),
      disks: () => ['d'],
    })
  }

  #healerOf(nodeId: string, disk: ChunkDisk): Healer {
    return new Healer({
      ...{ nodeId, volume: VOLUME, replicas: REPLICAS, disk, clock: systemClock, log: silentLog },
      peer: (id) => this.#peer(id),
      current: () => ({ view: this.#view, ring: this.ring }),
      enqueue: (id, tasks) => this.#enqueue(id, tasks),
      queueLength: async (id) => this.#pending.get(id) ?? 0,
      caughtUp: async () => this.#options.removals?.has(nodeId) !== true,
      removals: async () => this.#options.removals?.get(nodeId) ?? new Set(),
      pace: new Pace(systemClock, () => 0),
      copied: () => 0,
      times: {
        settleMs: 10,
        graceMs: this.#options.graceMs ?? 50,
        repeatMs: 500,
        auditMs: HOUR_MS,
        pollMs: 10,
        caughtUpMs: 50,
      },
    })
  }

  async #enqueue(node: string, tasks: readonly ReplicationTask[]): Promise<void> {
    for (const task of tasks) {
      this.queued.push({ node, task })
      this.#pending.set(node, (this.#pending.get(node) ?? 0) + 1)
      const done = (): unknown => this.#pending.set(node, (this.#pending.get(node) ?? 0) - 1)
      void this.#service(node).repairer.handle(task).finally(done)
    }
    await Promise.resolve()
  }

  #service(id: string): ChunkService {
    const service = this.services.get(id)
    if (service === undefined) throw new RingfsError('NODE_UNREACHABLE', `no node ${id}`)
    return service
  }

  /** As others reach it. */
  #peer(id: string): ChunkNodeApi {
    const service = this.#service(id)
    const count = (request: Uint8Array, reply: Uint8Array): void => {
      this.asked.messages += 2
      this.asked.bytes += 2 * PREAMBLE_BYTES + request.length + reply.length
    }
    const digest: ChunkNodeApi['digest'] = async (request, options) => {
      if (this.#options.hasDigests === false) throw new RingfsError('METHOD_UNKNOWN', 'no such method')
      const digests = await service.digest(request, options)
      count(CHUNK_DIGEST.request.encode(request), CHUNK_DIGEST.reply.encode({ digests: [...digests] }))
      this.asked.digests += digests.length
      await this.onAnswered(id, 'digest', [])
      return digests
    }
    const lacks: ChunkNodeApi['lacks'] = async (request) => {
      const missing = await service.lacks(request)
      count(CHUNK_LACKS.request.encode(request), CHUNK_LACKS.reply.encode({ missing }))
      this.asked.ids += request.ids.length
      await this.onAnswered(id, 'lacks', request.ids)
      return missing
    }
    return { ...refusing, get: (request) => service.get(request), digest, lacks }
  }
}

/** Who compares asks for nothing else. */
const refused = (): Promise<never> => Promise.reject(new RingfsError('INTERNAL', 'not asked for'))
const refusing = {
  ...{ put: refused, sync: refused, remove: refused, reportBad: refused, list: refused, scrub: refused, info: refused },
}

function memberOf(id: string): Member {
  return {
    ...{ id, address: id, zone: '', weight: 1, state: 'up', pid: 1, incarnation: '1' },
    ...{ totalBytes: 1e12, freeBytes: 1e12, chunks: 0, silentMs: 0, queueLength: 0 },
  }
}
