/** All that a schedule has: time, Redis, network, nodes, clients, and who watches over them. Everything comes from one seed. */
import type { HealTimes } from '../../src/chunk/node/healer.js'
import type { RingContract } from '../../src/cluster/contract.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { buildRing, type RingMember } from '../../src/cluster/ring.js'
import { randomFrom } from '../helpers/random.js'
import { Checker } from './checker.js'
import { SimulatedClient } from './client.js'
import { SimulatedNetwork } from './network.js'
import { SimulatedNode } from './node.js'
import { OpenCalls } from './peers.js'
import { SimulatedRedis } from './redis.js'
import { parseMember } from './redis-members.js'
import { EPOCH_MS, Scheduler } from './scheduler.js'

export const VOLUME = 'v'
export const UUID = '00000000-0000-4000-8000-000000000000'
export const WRITE_QUORUM = 2

/** Shorter than in life, so that a schedule of a minute sees all of them. The comparison of all with all never comes, as a rule: it must not be needed. */
export const HEAL_TIMES: Partial<HealTimes> = { graceMs: 1_000, repeatMs: 10_000, pollMs: 1_000 }
/** Where it does come, and scrubbing with it: then copies vanish and rot, and nobody says so. */
export const AUDIT_MS = 40_000
export const SCRUB_MS = 60_000
export const SCRUB_FOLDERS = 512
export const QUEUE_TIMES = { takeoverMs: 10_000, pollMs: 1_500 }
const MEMBER_TIMES = { suspectMs: 4_000, downMs: 10_000, outMs: 25_000, surplusMs: 5_000 }

export interface WorldOptions {
  readonly seed: number
  readonly nodes: number
  readonly replicas: number
  readonly zones: number
  readonly clients: number
  /** Clocks of nodes are wrong by up to so much. */
  readonly wrongMs?: number
  /** Nodes compare all that they have, and scrub it, from time to time. */
  readonly isAudited?: boolean
}

export class World {
  readonly seed: number
  readonly replicas: number
  readonly random: () => number
  readonly scheduler = new Scheduler()
  readonly network: SimulatedNetwork
  readonly redis: SimulatedRedis
  readonly nodes = new Map<string, SimulatedNode>()
  readonly clients: readonly SimulatedClient[]
  readonly checker: Checker
  readonly peers = new OpenCalls()
  readonly sightMs: number
  readonly isAudited: boolean
  /** Between two calls of a client, at most. */
  paceMs = 1_500
  readonly #zones: number
  readonly #wrongMs: number
  readonly #keys = new ClusterKeys(VOLUME)
  #ring: () => RingContract = () => buildRing([])
  /** Until when each ring before this one was the true one. */
  #formerRings: { readonly ring: () => RingContract; readonly untilMs: number }[] = []

  constructor({ seed, nodes, replicas, zones, clients, wrongMs = 0, isAudited = false }: WorldOptions) {
    this.seed = seed
    this.isAudited = isAudited
    this.replicas = replicas
    this.random = randomFrom(seed)
    this.#zones = zones
    this.#wrongMs = wrongMs
    this.network = new SimulatedNetwork(this.scheduler, this.random)
    this.checker = new Checker(this)
    this.redis = new SimulatedRedis(() => EPOCH_MS + Math.floor(this.scheduler.nowMs), {
      onMembers: (...change) => {
        this.checker.onMembers(...change)
        this.#noteRing()
      },
      onQueued: (key, tasks) => this.checker.onQueued(key, tasks),
      onDone: (key, tasks) => this.checker.onDone(key, tasks),
    })
    this.redis.command('HSET', this.#keys.options, Object.entries(MEMBER_TIMES).flat())
    // Probes grow with the square of the nodes.
    this.sightMs = nodes > 20 ? 20_000 : 8_000
    for (let index = 0; index < nodes; index++) this.addNode()
    this.clients = Array.from({ length: clients }, (_, index) => new SimulatedClient(this, `c${index}`))
  }

  addNode(): SimulatedNode {
    const number = this.nodes.size
    const wrongMs = (this.random() * 2 - 1) * this.#wrongMs
    const node = new SimulatedNode(this, `n${number}`, `z${number % this.#zones}`, wrongMs)
    this.nodes.set(node.id, node)
    return node
  }

  get membersKey(): string {
    return this.#keys.members
  }

  queueOf(nodeId: string): string {
    return this.#keys.queue(nodeId)
  }

  // --- what is true, whoever knows it

  get members(): readonly { readonly id: string; readonly state: string; readonly isOut: boolean }[] {
    return [...this.redis.hash(this.#keys.members)].map(([id, text]) => {
      const { state, out } = parseMember(text)
      return { id, state, isOut: out === '1' }
    })
  }

  stateOf(id: string): string {
    return this.members.find((one) => one.id === id)?.state ?? ''
  }

  /** Of the members of this moment; built only when somebody asks for it. */
  #noteRing(): void {
    this.#formerRings.push({ ring: this.#ring, untilMs: this.scheduler.nowMs })
    if (this.#formerRings.length > 100) this.#formerRings = this.#formerRings.slice(50)
    const placed = this.#placed()
    this.#ring = lazily(() => buildRing(placed))
  }

  #placed(): readonly RingMember[] {
    const members = [...this.redis.hash(this.#keys.members)].map(([id, text]) => {
      const { state, out, zone } = parseMember(text)
      return { id, zone, weight: 1, hasPlace: ['up', 'suspect', 'down'].includes(state) && out !== '1' }
    })
    const placed = members.filter(({ hasPlace }) => hasPlace).map(({ id, zone, weight }) => ({ id, zone, weight }))
    return placed.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  get ring(): RingContract {
    return this.#ring()
  }

  /** The true ring, and those that were true so long ago. */
  ringsSince(ms: number): readonly RingContract[] {
    const fromMs = this.scheduler.nowMs - ms
    return [this.ring, ...this.#formerRings.filter(({ untilMs }) => untilMs >= fromMs).map(({ ring }) => ring())]
  }

  // --- what an operator does

  /** `ringfs node drain`, and taking it back. */
  transition(id: string, to: string, from: readonly string[]): void {
    this.redis.run('transition', this.#keys.membership, [id, to, ...from])
  }

  /** `ringfs node remove` of one that will never come back. */
  remove(id: string): void {
    this.transition(id, 'gone', ['joining', 'up', 'suspect', 'down', 'draining'])
    this.redis.command('UNLINK', this.queueOf(id), [])
    this.checker.dropped(id)
  }

  /** `ringfs node settings --surplus` */
  keepSurplus(ms: number): void {
    this.redis.command('HSET', this.#keys.options, ['surplusMs', Math.round(ms)])
  }

  /** `ringfs node settings --out` */
  outAfter(ms: number): void {
    this.redis.command('HSET', this.#keys.options, ['outMs', ms])
  }

  /** `ringfs rebalance` */
  rebalance(): void {
    this.redis.command('HINCRBY', this.#keys.options, ['walks', 1])
  }

  /** Copies that are not where they belong. */
  get surplus(): number {
    let count = 0
    for (const id of this.checker.live.keys()) count += Math.max(0, this.checker.copiesOf(id) - this.replicas)
    return count
  }

  // --- as a whole

  /** Why not, or '': all that lives is on its owners, if `isExact` nowhere else; queues are empty, and every node says that it is done. */
  unwhole(isExact: boolean): string {
    const { ring, replicas } = this
    const queue = [...this.redis.queues.streams].find(([, { entries }]) => entries.size > 0)
    if (queue !== undefined) return `${queue[1].entries.size} entries in ${queue[0]}`
    for (const node of this.nodes.values()) {
      const done = node.isLost || node.running?.healer?.report().isDone === true
      if (!done) {
        const report = JSON.stringify(node.running?.healer?.report())
        return `node ${node.id}, ${this.stateOf(node.id)}, is not done: ${report}`
      }
    }
    for (const id of this.checker.live.keys()) {
      for (const owner of ring.owners(id, replicas)) {
        const copy = this.nodes.get(owner)?.disk.chunks.get(id)
        if (copy === undefined) return `owner ${owner} lacks chunk ${id}`
        if (copy.isBad) return `the copy of chunk ${id} on its owner ${owner} is bad`
      }
      const copies = this.checker.copiesOf(id)
      if (isExact && copies !== replicas)
        return `${copies} copies of chunk ${id}, owned by ${ring.owners(id, replicas).join(' ')}: ${this.#holders(id)}`
    }
    return ''
  }

  #holders(id: number): string {
    const holders = [...this.nodes.values()].filter(({ disk }) => disk.chunks.has(id))
    const told = holders.map(
      (node) => `${node.id} ${this.stateOf(node.id)} ${JSON.stringify(node.running?.healer?.report())}`,
    )
    return told.join(', ')
  }

  /** Resolves true when it is whole before the time is over. */
  async becomesWhole(mostMs: number, isExact: boolean): Promise<boolean> {
    const endMs = this.scheduler.nowMs + mostMs
    while (this.scheduler.nowMs < endMs) {
      await this.scheduler.run(this.scheduler.nowMs + 1_000)
      if (this.unwhole(isExact) === '') return true
    }
    return false
  }

  async start(): Promise<void> {
    for (const node of this.nodes.values()) node.start()
    const isUp = (): boolean =>
      this.members.length === this.nodes.size && this.members.every((one) => one.state === 'up')
    await this.scheduler.run(60_000, isUp)
    for (const client of this.clients) client.start()
    await this.scheduler.run(this.scheduler.nowMs + 3_000)
  }

  end(): void {
    for (const node of this.nodes.values()) if (node.running !== null) node.kill()
    for (const client of this.clients) client.kill()
  }
}

function lazily<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}
