/** What may happen to a world, each of it undone after a while. */
import type { SimulatedNode } from './node.js'
import { FAIR } from './network.js'
import { REDIS } from './redis-link.js'
import { UUID, type World } from './world.js'

/** More nodes than this are not added. */
const JOINED_MAX = 3
const LONGEST_MS = 40_000

export class Faults {
  readonly #world: World
  readonly #random: () => number
  readonly counts = new Map<string, number>()
  #joined = 0
  #isOver = false

  constructor(world: World) {
    this.#world = world
    this.#random = world.random
  }

  /** One of them, at random; some find nothing to do. */
  inject(): void {
    const all = [
      ...[this.#kill, this.#kill, this.#powerOff, this.#pause, this.#pause, this.#cutPeers, this.#cutRedis],
      ...[this.#isolate, this.#weather, this.#redisAway, this.#full, this.#slow, this.#broken, this.#lose, this.#rot],
      ...(this.#world.isAudited ? [this.#vanish, this.#rot] : []),
      ...[this.#join, this.#drain, this.#undrain, this.#rebalance, this.#killClient],
    ]
    const one = all[Math.floor(this.#random() * all.length)]
    if (one?.call(this) !== true) return
    const name = one.name.replace('#', '')
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1)
  }

  #undo(work: () => void): true {
    // Mostly short, so that it ends in the middle of what it began.
    const ms = this.#random() ** 2 * LONGEST_MS
    this.#world.scheduler.later(ms, () => {
      if (!this.#isOver) work()
    })
    return true
  }

  #pick(fits: (node: SimulatedNode) => boolean): SimulatedNode | undefined {
    const all = [...this.#world.nodes.values()].filter((node) => !node.isLost && fits(node))
    return all[Math.floor(this.#random() * all.length)]
  }

  #kill(): boolean {
    const node = this.#pick(({ running }) => running !== null)
    if (node === undefined) return false
    node.kill()
    return this.#undo(() => node.start())
  }

  #powerOff(): boolean {
    const node = this.#pick(({ isPowered }) => isPowered)
    if (node === undefined) return false
    node.powerOff()
    return this.#undo(() => node.start())
  }

  #pause(): boolean {
    const process = this.#pick(({ running }) => running?.process.isPaused === false)?.running?.process
    if (process === undefined) return false
    process.pause()
    return this.#undo(() => {
      this.#world.checker.slows()
      process.resume()
    })
  }

  #cutPeers(): boolean {
    const { network } = this.#world
    const [a, b] = [this.#pick(() => true), this.#pick(() => true)]
    if (a === undefined || b === undefined || a === b) return false
    const isOneWay = this.#random() < 0.5
    network.cut(a.id, b.id)
    if (!isOneWay) network.cut(b.id, a.id)
    return this.#undo(() => {
      network.mend(a.id, b.id)
      network.mend(b.id, a.id)
    })
  }

  #cutRedis(): boolean {
    const { network } = this.#world
    const node = this.#pick(() => true)
    if (node === undefined) return false
    const ways = [[node.id, REDIS] as const, [REDIS, node.id] as const]
    const cut = this.#random() < 0.5 ? ways : ways.slice(this.#random() < 0.5 ? 0 : 1).slice(0, 1)
    for (const [from, to] of cut) network.cut(from, to)
    return this.#undo(() => {
      for (const [from, to] of cut) network.mend(from, to)
    })
  }

  #isolate(): boolean {
    const { network } = this.#world
    const node = this.#pick(() => true)
    if (node === undefined) return false
    network.isolate(node.id)
    return this.#undo(() => network.rejoin(node.id))
  }

  #weather(): boolean {
    const { network } = this.#world
    network.weather = { loss: this.#random() * 0.2, doubled: this.#random() * 0.2, late: this.#random() * 0.1 }
    this.#world.checker.slows()
    return this.#undo(() => {
      this.#world.checker.slows()
      network.weather = FAIR
    })
  }

  #redisAway(): boolean {
    const { network } = this.#world
    network.isolate(REDIS)
    return this.#undo(() => network.rejoin(REDIS))
  }

  #full(): boolean {
    const node = this.#pick(({ disk }) => !disk.isFull)
    if (node === undefined) return false
    node.disk.isFull = true
    return this.#undo(() => (node.disk.isFull = false))
  }

  #slow(): boolean {
    const node = this.#pick(({ disk }) => disk.slowMs === 0)
    if (node === undefined) return false
    node.disk.slowMs = 2_000
    this.#world.checker.slows()
    return this.#undo(() => {
      this.#world.checker.slows()
      node.disk.slowMs = 0
    })
  }

  #broken(): boolean {
    const node = this.#pick(({ disk }) => !disk.isBroken)
    if (node === undefined) return false
    node.disk.isBroken = true
    return this.#undo(() => (node.disk.isBroken = false))
  }

  /** A disk that is never seen again: only where no chunk's last good copy is on it, and enough nodes are left. */
  #lose(): boolean {
    const { nodes, replicas } = this.#world
    const left = [...nodes.values()].filter(
      ({ isLost, id }) => !isLost && this.#world.stateOf(id) !== 'draining',
    ).length
    const node = this.#pick((one) => left > replicas + 1 && this.#canLose(one))
    node?.lose()
    return node !== undefined
  }

  /** What is being written counts, too: those who have it say so, and their answers are on the way. */
  #canLose({ disk }: SimulatedNode): boolean {
    const { checker } = this.#world
    const isNeeded = (id: number): boolean => checker.live.has(id) || checker.writing.has(id)
    return [...disk.chunks].every(([id, { isBad }]) => isBad || !isNeeded(id) || checker.copiesOf(id) >= 2)
  }

  /** A bit flips in a copy, where there is another one. Some time later a reader says so. */
  #rot(): boolean {
    const { checker } = this.#world
    const ref = checker.pick(this.#random)
    if (ref === undefined || checker.copiesOf(ref.id) < 2) return false
    const node = this.#pick(({ disk }) => disk.chunks.get(ref.id)?.isBad === false)
    const copy = node?.disk.chunks.get(ref.id)
    if (node === undefined || copy === undefined) return false
    copy.isBad = true
    checker.harm(ref.id)
    // Scrubbing finds it, too.
    return this.#world.isAudited || this.#undo(() => reportBad(node, ref.id))
  }

  /** A copy is not there any more, and nobody has noticed. */
  #vanish(): boolean {
    const { checker } = this.#world
    const ref = checker.pick(this.#random)
    if (ref === undefined || checker.copiesOf(ref.id) < 2) return false
    const node = this.#pick(({ disk }) => disk.chunks.has(ref.id))
    if (node === undefined) return false
    node.disk.chunks.delete(ref.id)
    checker.harm(ref.id)
    return true
  }

  #join(): boolean {
    if (this.#joined >= JOINED_MAX) return false
    this.#joined++
    this.#world.addNode().start()
    return true
  }

  #drain(): boolean {
    const { nodes, replicas } = this.#world
    const states = [...nodes.values()].filter(({ isLost }) => !isLost).map(({ id }) => this.#world.stateOf(id))
    const left = states.filter((state) => state !== 'draining' && state !== 'gone').length
    const node = this.#pick(({ id }) => left > replicas + 1 && this.#world.stateOf(id) !== 'draining')
    if (node !== undefined) this.#world.transition(node.id, 'draining', ['joining', 'up', 'suspect', 'down'])
    return node !== undefined
  }

  #undrain(): boolean {
    const node = this.#pick(({ id }) => this.#world.stateOf(id) === 'draining')
    if (node !== undefined) this.#world.transition(node.id, 'up', ['draining'])
    return node !== undefined
  }

  #rebalance(): boolean {
    this.#world.rebalance()
    return true
  }

  #killClient(): boolean {
    const { clients, scheduler } = this.#world
    const client = clients[Math.floor(this.#random() * clients.length)]
    if (client === undefined) return false
    client.kill()
    scheduler.later(this.#random() * 5_000, () => client.start())
    return true
  }

  /** Everything works again, but for what is lost for ever: an operator removes it, and readers meet what is bad. */
  end(): void {
    this.#isOver = true
    const { nodes, network, checker } = this.#world
    checker.slows()
    network.mendAll()
    for (const node of nodes.values()) {
      Object.assign(node.disk, { isFull: false, isBroken: false, slowMs: 0 })
      node.running?.process.resume()
      if (node.isLost) this.#world.remove(node.id)
      else node.start()
    }
  }
}

/** Of each bad copy that is left, to the node that has it. */
export function reportAllBad({ nodes }: World): void {
  for (const node of nodes.values()) {
    for (const [id, { isBad }] of node.disk.chunks) if (isBad) reportBad(node, id)
  }
}

/**
 * Of a chunk that was deleted a node that was never told may have a copy, and that may be rotten: it cannot be copied to the owners, nor given up.
 * The sweep of orphans frees it, a day later, which is not simulated. Nothing else is swept: it must not be needed.
 */
export function sweepRotten({ nodes, checker }: World): void {
  const copies = [...nodes.values()].flatMap(({ disk }) => [...disk.chunks])
  const good = new Set(copies.filter(([, { isBad }]) => !isBad).map(([id]) => id))
  const rotten = new Set(copies.map(([id]) => id).filter((id) => !good.has(id) && !checker.live.has(id)))
  for (const { running } of rotten.size === 0 ? [] : nodes.values()) {
    running?.process.give(() => {
      running.api?.remove(UUID, [...rotten]).catch(() => undefined)
    })
  }
}

function reportBad(node: SimulatedNode, id: number): void {
  const { running } = node
  running?.process.give(() => {
    running.api?.reportBad(UUID, id).catch(() => undefined)
  })
}
