/**
 * What must hold at every step, whatever happens:
 *
 * - states of nodes move along the arrows of src/cluster/membership.ts only, and each change raises the epoch by one;
 * - two who know the same epoch know the same members;
 * - a chunk that was acknowledged has a good copy, and giving up surplus leaves all R;
 * - an entry leaves a queue only after its task was carried out, and none is left in the end;
 * - only an owner that lacks a chunk fetches it;
 * - no call takes for ever.
 */
import type { ChunkRef } from '../../src/chunk/contract.js'
import type { ClusterView } from '../../src/cluster/contract.js'
import type { SimulatedNode } from './node.js'
import type { MemberChange, RedisObserver } from './redis.js'
import type { World } from './world.js'

/** By script: from -> to. */
const ARROWS: Readonly<Record<string, ReadonlySet<string>>> = {
  register: new Set([
    '->joining',
    ...['joining', 'down', 'gone'].map((from) => `${from}->joining`),
    ...['up->suspect', 'suspect->suspect', 'down->suspect', 'draining->draining'],
  ]),
  beat: new Set(['joining->up', 'suspect->up', 'down->up']),
  leave: new Set([
    ...['joining', 'up', 'suspect', 'down'].map((from) => `${from}->down`),
    ...['draining->draining', 'gone->gone'],
  ]),
  transition: new Set([
    ...['joining', 'up', 'suspect', 'down'].map((from) => `${from}->draining`),
    ...['joining', 'up', 'suspect', 'down', 'draining'].map((from) => `${from}->gone`),
    'draining->up',
  ]),
  view: new Set(['up->suspect', 'up->down', 'suspect->down', 'joining->down', 'down->down']),
}

/** A copy that a fault took away may have been there when an owner was asked, so long ago; longer, if something was slow meanwhile. */
const HARM_MS = 5_000
const SLOW_HARM_MS = 60_000
/** Whoever looked at the ring so long ago may still act by it. */
const STALE_MS = 20_000

export class Checker implements RedisObserver {
  readonly faults: string[] = []
  readonly live = new Map<number, ChunkRef>()
  /** Chunks that may be acknowledged yet. */
  readonly writing = new Set<number>()
  reads = 0
  failedReads = 0
  /** Copies that were fetched, their bytes, and those of them that nobody needed. */
  moved = 0
  movedBytes = 0
  needless = 0
  queued = 0
  #ids = 0
  readonly #world: World
  readonly #views = new Map<number, string>()
  readonly #handled = new Set<string>()
  readonly #outstanding = new Map<string, number>()
  /** Chunk: when a fault last took copies of it. */
  readonly #harmed = new Map<number, number>()
  #needed = new Set<string>()
  #slowMs = -Infinity

  constructor(world: World) {
    this.#world = world
  }

  fault(text: string): void {
    if (this.faults.length < 20) this.faults.push(`at ${(this.#world.scheduler.nowMs / 1000).toFixed(3)} s: ${text}`)
  }

  nextId(): number {
    return ++this.#ids
  }

  acknowledged(ref: ChunkRef): void {
    this.live.set(ref.id, ref)
    if (this.copiesOf(ref.id) < 1) this.fault(`chunk ${ref.id} was acknowledged, and nobody has it`)
  }

  /** From now on nobody needs it. */
  forgets(id: number): void {
    this.live.delete(id)
  }

  pick(random: () => number): ChunkRef | undefined {
    const all = [...this.live.values()]
    return all[Math.floor(random() * all.length)]
  }

  /** Good ones, on disks that are not lost for ever. */
  copiesOf(id: number): number {
    let count = 0
    for (const { isLost, disk } of this.#world.nodes.values()) {
      const copy = disk.chunks.get(id)
      if (!isLost && copy !== undefined && !copy.isBad) count++
    }
    return count
  }

  harm(id: number): void {
    this.#harmed.set(id, this.#world.scheduler.nowMs)
  }

  /** Answers may be old from now on: somebody is paused, slow or late. */
  slows(): void {
    this.#slowMs = this.#world.scheduler.nowMs
  }

  removed(node: SimulatedNode, id: number, why: 'retired' | 'removed'): void {
    if (!this.live.has(id)) return
    const left = this.copiesOf(id)
    if (left < 1) this.fault(`the last good copy of chunk ${id} was ${why} by ${node.id}`)
    else if (why === 'removed') this.fault(`chunk ${id}, which nobody deleted, was removed by ${node.id}`)
    else if (left < this.#world.replicas && !this.#wasHarmed(id)) {
      this.fault(`${node.id} gave up chunk ${id}: ${left} good copies are left`)
    }
  }

  #wasHarmed(id: number): boolean {
    const atMs = this.#harmed.get(id)
    const { nowMs } = this.#world.scheduler
    const windowMs = nowMs - this.#slowMs < SLOW_HARM_MS ? SLOW_HARM_MS : HARM_MS
    return atMs !== undefined && nowMs - atMs < windowMs
  }

  // --- membership

  onMembers(script: string, changes: readonly MemberChange[], before: number, after: number): void {
    if (after !== before + 1) this.fault(`${script} changed members, and the epoch from ${before} to ${after}`)
    for (const { id, before: was, after: is } of changes) {
      const arrow = `${was?.state ?? ''}->${is.state}`
      if (ARROWS[script]?.has(arrow) !== true) this.fault(`${script} moved node ${id} ${arrow}`)
    }
  }

  sees(view: ClusterView): void {
    const text = JSON.stringify(
      view.members.map(({ id, state, isOut, address, incarnation }) => [id, state, isOut, address, incarnation]),
    )
    const known = this.#views.get(view.epoch)
    if (known === undefined) this.#views.set(view.epoch, text)
    else if (known !== text) this.fault(`two views of epoch ${view.epoch}: ${known} and ${text}`)
  }

  // --- queues

  onQueued(key: string, tasks: readonly string[]): void {
    for (const task of tasks) {
      this.queued++
      const name = `${key} ${task}`
      this.#outstanding.set(name, (this.#outstanding.get(name) ?? 0) + 1)
      this.#handled.delete(name)
    }
  }

  handled(nodeId: string, task: string): void {
    this.#handled.add(`${this.#world.queueOf(nodeId)} ${task}`)
  }

  onDone(key: string, tasks: readonly string[]): void {
    for (const task of tasks) {
      const name = `${key} ${task}`
      if (!this.#handled.has(name) && this.#outstanding.get(name) === 1) {
        this.fault(`an entry left ${key} before it was done: ${task}`)
      }
      const left = (this.#outstanding.get(name) ?? 0) - 1
      if (left > 0) this.#outstanding.set(name, left)
      else this.#outstanding.delete(name)
    }
  }

  /** Entries that are neither done nor in a queue. */
  lostEntries(): readonly string[] {
    const there = new Map<string, number>()
    for (const [key, { entries }] of this.#world.redis.queues.streams) {
      for (const task of entries.values()) there.set(`${key} ${task}`, (there.get(`${key} ${task}`) ?? 0) + 1)
    }
    return [...this.#outstanding].filter(([name, count]) => (there.get(name) ?? 0) !== count).map(([name]) => name)
  }

  /** The queue of a node that is gone for good. */
  dropped(nodeId: string): void {
    const key = this.#world.queueOf(nodeId)
    for (const name of this.#outstanding.keys()) if (name.startsWith(`${key} `)) this.#outstanding.delete(name)
  }

  // --- moving

  /** A node asks another one for a copy. */
  copies(machine: string, id: number): void {
    const node = this.#world.nodes.get(machine)
    if (node === undefined) return
    const copy = node.disk.chunks.get(id)
    const isNeeded = copy === undefined ? this.#isOwner(node, id) : copy.isBad
    if (isNeeded) this.#needed.add(`${machine} ${id}`)
    else this.#needed.delete(`${machine} ${id}`)
  }

  #isOwner(node: SimulatedNode, id: number): boolean {
    return this.#world.ringsSince(STALE_MS).some((ring) => ring.owners(id, this.#world.replicas).includes(node.id))
  }

  copied(machine: string, id: number, bytes: number): void {
    this.moved++
    this.movedBytes += bytes
    if (!this.#needed.delete(`${machine} ${id}`)) this.needless++
  }

  // --- time

  ended(what: string, tookMs: number, mostMs: number): void {
    if (tookMs > mostMs) this.fault(`${what} took ${Math.round(tookMs)} ms`)
  }
}
