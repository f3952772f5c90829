/**
 * Healers of many nodes over simulated disks, queues, network and time, driven by a seed: every schedule is repeatable.
 *
 * A node that is off keeps its chunks and hears nothing; what asks it gets no answer. Calls take simulated time, so that walks,
 * tasks and changes of the ring interleave in ways that differ with each seed.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { RingfsError } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import type { ChunkNodeApi, LacksRequest, ListReply, ListRequest } from '../../src/chunk/contract.js'
import { Healer } from '../../src/chunk/node/healer.js'
import { Pace } from '../../src/chunk/node/pace.js'
import type { ReplicationTask } from '../../src/chunk/replication.js'
import type { ClusterView, Member, NodeState, RingContract } from '../../src/cluster/contract.js'
import { buildRing, chunkPosition } from '../../src/cluster/ring.js'
import { ringMembers } from '../../src/cluster/watcher.js'
import { ManualClock } from './manual-clock.js'

const VOLUME = 'v'
const CHUNK_BYTES = 1000
const BUCKET_BITS = 20

export interface SimulationOptions {
  readonly nodes: number
  readonly replicas: number
  /** 0 to 1. */
  readonly random: () => number
}

export class SimulatedNode {
  readonly id: string
  readonly chunks = new Set<number>()
  readonly retiring = new Set<number>()
  readonly queue: ReplicationTask[] = []
  state: NodeState = 'up'
  isOut = false
  /** Its process runs and can be reached. */
  isOn = true
  /** The view that this node has: others may know a newer one. */
  current: { readonly view: ClusterView; readonly ring: RingContract } = { view: NO_VIEW, ring: buildRing([]) }
  copied = 0
  stop = new AbortController()
  healer: Healer | null = null

  constructor(id: string) {
    this.id = id
  }
}

const NO_VIEW: ClusterView = { epoch: 0, members: [] }

export class HealSimulation {
  readonly clock = new ManualClock()
  readonly nodes: SimulatedNode[] = []
  readonly replicas: number
  readonly #random: () => number
  readonly #work: Promise<void>[] = []
  #epoch = 0
  #isOver = false
  /** Chunks that were acknowledged. */
  readonly acknowledged = new Set<number>()
  /** What went wrong with an invariant. */
  readonly faults: string[] = []

  constructor({ nodes, replicas, random }: SimulationOptions) {
    this.replicas = replicas
    this.#random = random
    for (let index = 0; index < nodes; index++) this.#add()
    this.change(() => undefined)
    for (const node of this.nodes) node.current = this.truth()
  }

  #add(): SimulatedNode {
    const node = new SimulatedNode(`n${this.nodes.length}`)
    this.nodes.push(node)
    this.#start(node)
    return node
  }

  join(): SimulatedNode {
    const node = this.#add()
    this.change(() => undefined)
    return node
  }

  /** Changes members: a new epoch, of which every node hears some time later. */
  change(work: () => void): void {
    work()
    this.#epoch++
    const truth = this.truth()
    for (const node of this.nodes) {
      void this.clock.sleep(this.#random() * 3_000).then(() => {
        if (truth.view.epoch > node.current.view.epoch) node.current = truth
      })
    }
  }

  truth(): { readonly view: ClusterView; readonly ring: RingContract } {
    const view = { epoch: this.#epoch, members: this.nodes.map(memberOf) }
    return { view, ring: buildRing(ringMembers(view)) }
  }

  owners(id: number): readonly SimulatedNode[] {
    const ids = this.truth().ring.owners(id, this.replicas)
    return this.nodes.filter((node) => ids.includes(node.id))
  }

  /** Acknowledged with a quorum of two: by the ring that the writer knows, with hints for those that are off. */
  write(id: number): boolean {
    const { ring } = this.truth()
    const order = ring.preference(id).map((one) => this.#of(one))
    const stored = order.filter((node) => node.isOn).slice(0, Math.min(this.replicas, order.length))
    if (stored.length < 2) return false
    for (const node of stored) node.chunks.add(id)
    for (const node of order.slice(0, this.replicas)) {
      if (!node.chunks.has(id))
        this.#enqueue(node.id, [{ kind: 'copy', chunk: id, root: null, sources: idsOf(stored) }])
    }
    this.acknowledged.add(id)
    return true
  }

  /** Its process ends: its walk with it. */
  switchOff(node: SimulatedNode): void {
    node.isOn = false
    node.stop.abort()
    node.retiring.clear()
  }

  switchOn(node: SimulatedNode): void {
    node.isOn = true
    this.#start(node)
  }

  #start(node: SimulatedNode): void {
    node.stop = new AbortController()
    const { signal } = node.stop
    const healer = new Healer({
      nodeId: node.id,
      volume: VOLUME,
      replicas: this.replicas,
      disk: {
        list: (request) => this.#slowly(() => listOf(node, request)),
        retire: (ids, confirm) => this.#retire(node, ids, confirm, signal),
      },
      peer: (id) => this.#peer(node, id),
      current: () => node.current,
      enqueue: (id, tasks) => this.#slowly(() => this.#enqueue(id, tasks)),
      queueLength: (id) => this.#slowly(() => this.#of(id).queue.length),
      caughtUp: () => Promise.resolve(true),
      pace: new Pace(this.clock, () => 0),
      copied: () => node.copied,
      clock: this.clock,
      log: silentLog,
      random: this.#random,
      times: { retireAfterMs: 5_000, repeatMs: 10_000, auditMs: 600_000 },
    })
    node.healer = healer
    this.#work.push(healer.run(signal), this.#consume(node, signal))
  }

  #of(id: string): SimulatedNode {
    const node = this.nodes.find((one) => one.id === id)
    if (node === undefined) throw new RingfsError('NODE_UNREACHABLE', `no node ${id}`)
    return node
  }

  async #slowly<T>(work: () => T): Promise<T> {
    await this.clock.sleep(this.#random() * 50)
    return work()
  }

  /** Only what the healer asks of others. */
  #peer(from: SimulatedNode, id: string): ChunkNodeApi {
    const refused = (): Promise<never> => Promise.reject(new RingfsError('NODE_UNREACHABLE', 'not simulated'))
    const lacks = async ({ ids }: LacksRequest): Promise<readonly number[]> => {
      await this.clock.sleep(this.#random() * 50)
      const node = this.#of(id)
      if (!node.isOn || !from.isOn) throw new RingfsError('CONNECTION_LOST', `node ${id} is off`)
      const missing = ids.filter((one) => !node.chunks.has(one) || node.retiring.has(one))
      // The answer is on its way for a while, too.
      await this.clock.sleep(this.#random() * 50)
      return missing
    }
    const others = { reportBad: refused, list: refused, scrub: refused, info: refused }
    return { put: refused, get: refused, sync: refused, remove: refused, ...others, lacks }
  }

  async #retire(
    node: SimulatedNode,
    ids: readonly number[],
    confirm: (ids: readonly number[]) => Promise<readonly number[]>,
    signal: AbortSignal,
  ): Promise<number> {
    for (const id of ids) node.retiring.add(id)
    const safe = await confirm(ids)
    if (signal.aborted) return 0
    for (const id of safe) {
      node.chunks.delete(id)
      if (this.acknowledged.has(id) && !this.nodes.some((one) => one.chunks.has(id))) {
        this.faults.push(`the last copy of chunk ${id} was removed by ${node.id}`)
      }
    }
    for (const id of ids) node.retiring.delete(id)
    return safe.length
  }

  #enqueue(id: string, tasks: readonly ReplicationTask[]): void {
    this.#of(id).queue.push(...tasks)
  }

  async #consume(node: SimulatedNode, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#isOver) {
      await this.clock.sleep(20 + this.#random() * 100)
      for (const task of node.queue.slice(0, 8)) {
        await this.clock.sleep(this.#random() * 5)
        if (isOver(signal)) return
        if (this.#carryOut(node, task)) node.queue.splice(node.queue.indexOf(task), 1)
        else node.queue.push(...node.queue.splice(node.queue.indexOf(task), 1))
      }
    }
  }

  /** As Repairer does: what is here stays, else any other may have it. */
  #carryOut(node: SimulatedNode, task: ReplicationTask): boolean {
    if (task.kind === 'remove' || node.chunks.has(task.chunk)) return !node.retiring.has(task.chunk)
    const { view, ring } = node.current
    const isOwner = ring.owners(task.chunk, this.replicas).includes(node.id)
    if (task.epoch !== undefined && view.epoch >= task.epoch && !isOwner) return true
    const source = this.nodes.find((one) => one.isOn && one.chunks.has(task.chunk))
    if (source === undefined) return false
    node.chunks.add(task.chunk)
    node.copied++
    return true
  }

  /** Lets time pass. */
  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await turn()
  }

  /** Everything on, and every acknowledged chunk on all its owners. */
  isWhole(): boolean {
    for (const id of this.acknowledged) {
      const owners = this.owners(id)
      if (owners.length < Math.min(this.replicas, this.nodes.length) || !owners.every((one) => one.chunks.has(id))) {
        return false
      }
    }
    return true
  }

  /** For whoever looks for the reason. */
  describe(): string {
    const nodes = this.nodes.map(({ id, state, isOn, isOut, chunks, queue, healer, current }) => {
      const epoch = current.view.epoch
      return { id, state, isOn, isOut, chunks: chunks.size, queue: queue.length, epoch, report: healer?.report() }
    })
    const holes = [...this.acknowledged].filter((id) => !this.owners(id).every((one) => one.chunks.has(id)))
    return JSON.stringify({ epoch: this.#epoch, replicas: this.replicas, holes: holes.slice(0, 5), nodes })
  }

  async end(): Promise<void> {
    this.#isOver = true
    for (const node of this.nodes) node.stop.abort()
    await this.clock.pass(60_000)
    await Promise.all(this.#work)
  }
}

function isOver(signal: AbortSignal): boolean {
  return signal.aborted
}

function idsOf(nodes: readonly SimulatedNode[]): string[] {
  return nodes.map(({ id }) => id)
}

function listOf(node: SimulatedNode, { fromBucket, fromId, limit }: ListRequest): ListReply {
  const places = [...node.chunks]
    .map((id) => ({ bucket: chunkPosition(id) >>> BUCKET_BITS, id }))
    .filter(({ bucket, id }) => bucket > fromBucket || (bucket === fromBucket && id >= fromId))
    .sort((a, b) => a.bucket - b.bucket || a.id - b.id)
  return { chunks: places.slice(0, limit).map(({ id }) => ({ id })), next: places[limit] ?? null }
}

function memberOf({ id, state, isOut, isOn }: SimulatedNode): Member {
  return {
    ...{ id, address: id, zone: '', weight: 1, state, pid: 1, incarnation: '1' },
    ...{ totalBytes: CHUNK_BYTES, freeBytes: 1, chunks: 0, silentMs: isOn ? 0 : 60_000, queueLength: 0, isOut },
  }
}
