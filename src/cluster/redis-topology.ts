/**
 * Which master owns which slot, and the connections to the masters. The map comes from CLUSTER SLOTS of whichever node
 * answers first, and is corrected by MOVED replies; a stale map is therefore only slow, never wrong.
 */
import type { Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { RedisValue } from './contract.js'
import { arrayOf, numberOf } from './reply.js'
import { LinkLostError, authError, classify, isAbsent } from './redis-errors.js'
import { confirmMaster } from './redis-fence.js'
import { RedisLink, type LinkOptions } from './redis-link.js'
import { SLOTS } from './slot.js'
import { formatHost, parseHost } from './url.js'

export interface TopologyOptions extends LinkOptions {
  readonly log: Log
  /** Who knows the masters, where it is not this one that keeps the map. */
  readonly electorate?: Topology
  /** Addresses of the URL. Kept for ever: when everything known has gone, they are asked again. */
  readonly seeds: readonly string[]
}

export interface SlotRange {
  readonly first: number
  readonly last: number
  readonly master: string
}

interface SlotMap {
  readonly ranges: readonly SlotRange[]
  /** Masters and replicas. */
  readonly addresses: ReadonlySet<string>
}

/** A storm of MOVED (a slot migration) asks for the map at most this often. */
const REFRESH_PAUSE_MS = 100
/** Longer than what a server that stood still answers can be under way: a link ends after less silence. */
const DEPOSED_MS = 60_000

export class Topology {
  readonly #options: TopologyOptions
  readonly #clock: Clock
  readonly #links = new Map<string, RedisLink>()
  /** By address: how many connections were begun, and were there. */
  readonly #turns = new Map<string, number>()
  readonly #arrived = new WeakSet<RedisLink>()
  /** Unix sockets of servers on this machine. */
  readonly #sockets = new Map<string, string>()
  readonly #owners: (string | undefined)[] = new Array<string | undefined>(SLOTS)
  #addresses: ReadonlySet<string> = new Set()
  /** Those of the map that was applied last. */
  #masters: ReadonlySet<string> = new Set()
  /** Former masters, and since when they own nothing. */
  readonly #deposed = new Map<string, number>()
  #refreshing: Promise<void> | undefined
  #refreshedMs = -Infinity
  #isClosed = false

  constructor(options: TopologyOptions) {
    this.#options = options
    this.#clock = options.clock
  }

  owner(slot: number): string | undefined {
    return this.#owners[slot]
  }

  /** How many slots have no known master. */
  unowned(): number {
    let count = 0
    for (let slot = 0; slot < SLOTS; slot++) if (this.#owners[slot] === undefined) count++
    return count
  }

  masters(): { address: string; slots: [number, number][] }[] {
    const slotsOf = new Map<string, [number, number][]>()
    for (let slot = 0; slot < SLOTS; slot++) {
      const owner = this.#owners[slot]
      if (owner === undefined) continue
      const ranges = slotsOf.get(owner) ?? []
      const last = ranges.at(-1)
      if (last?.[1] === slot - 1) last[1] = slot
      else ranges.push([slot, slot])
      slotsOf.set(owner, ranges)
    }
    return [...slotsOf].map(([address, slots]) => ({ address, slots }))
  }

  /** The ready link to a slot's owner, if there is one: the way of nearly every call. */
  readyLink(slot: number): RedisLink | undefined {
    const owner = this.#owners[slot]
    const link = owner === undefined ? undefined : this.#links.get(owner)
    return link?.isReady === true ? link : undefined
  }

  /** A ready link. Throws LinkLostError or RingfsError REDIS_AUTH, within the connect timeout (twice: by its socket, and by TCP). */
  async connect(address: string): Promise<RedisLink> {
    this.#checkOpen()
    let link = this.#links.get(address)
    if (link === undefined || link.isEnded) link = this.#make(address, this.#sockets.get(address))
    try {
      await link.connect()
      this.#arrive(link)
      return link
    } catch (error) {
      if (!link.isLocal || !(error instanceof LinkLostError)) throw error
    }
    this.#checkOpen()
    const other = this.#links.get(address)
    const direct = other === undefined || other === link ? this.#make(address) : other
    await direct.connect()
    this.#arrive(direct)
    return direct
  }

  #arrive(link: RedisLink): void {
    if (this.#arrived.has(link)) return
    this.#arrived.add(link)
    this.#turns.set(link.address, this.turns(link.address) + 1)
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new LinkLostError('closed')
  }

  #make(address: string, socketPath?: string): RedisLink {
    const link = this.#begin(address, this.#options.protocol, socketPath)
    this.#turns.set(address, this.turns(address) + 1)
    this.#links.set(address, link)
    return link
  }

  #begin(address: string, protocol: 2 | 3, socketPath: string | undefined): RedisLink {
    const confirm = (): true | Promise<boolean | undefined> => (this.#options.electorate ?? this).confirm(address)
    return new RedisLink(address, {
      ...this.#options,
      protocol,
      ...(socketPath === undefined ? {} : { socketPath }),
      confirm,
    })
  }

  /** Two answers between which it stays the same came from one process of the server. */
  turns(address: string): number {
    return this.#turns.get(address) ?? 0
  }

  /** From now on the server is connected to by its Unix socket, which costs both sides less than TCP. */
  useSocket(address: string, path: string): void {
    this.#sockets.set(address, path)
    const link = this.#links.get(address)
    if (link?.isIdle === true) this.#drop(address, link)
  }

  /** MOVED says it: believed at once for that slot, and the whole map is fetched behind. */
  moved(slot: number, address: string): void {
    this.#owners[slot] = address
    this.refreshBehind()
  }

  refreshBehind(): void {
    this.refresh().catch((error: unknown) => {
      this.#options.log.debug({ err: error }, 'slot map not refreshed')
    })
  }

  /**
   * Do the other nodes know it as a master? true at once: nobody else could have become one, or it never was one that we know (it is
   * about to get slots, or has a name that only the URL has). One that our own map knows as replaced is not asked about any more.
   * See redis-fence.ts.
   */
  confirm(address: string): true | Promise<boolean | undefined> {
    const masters = new Set(this.#owners.filter((owner) => owner !== undefined))
    const isOwner = masters.delete(address)
    const deposedMs = this.#deposed.get(address)
    if (!isOwner && deposedMs !== undefined) {
      if (this.#clock.monotonicMs() - deposedMs < DEPOSED_MS) return Promise.resolve(false)
      this.#deposed.delete(address)
    }
    if (masters.size === 0 || !(isOwner || this.#masters.has(address))) return true
    const others = [...this.#addresses].filter((other) => other !== address)
    const ask = async (other: string): Promise<boolean> => {
      const map = await this.#fetch(other)
      const isKnown = map.ranges.some(({ master }) => master === address)
      if (!isKnown) this.#apply(map)
      return isKnown
    }
    return confirmMaster({ others, masters, ask, clock: this.#clock })
  }

  /** A connection of the caller's own. */
  newLink(address: string, protocol: 2 | 3): RedisLink {
    const known = this.#links.get(address)
    // Only where that works just now: who makes a link for himself has no second way.
    const path = known?.isLocal === true && known.isReady ? this.#sockets.get(address) : undefined
    return this.#begin(address, protocol, path)
  }

  /** Fetches the slot map; concurrent callers share one fetch. Throws the failure of the last node to fail. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = undefined))
    return this.#refreshing
  }

  async #refresh(): Promise<void> {
    const pauseMs = this.#refreshedMs + REFRESH_PAUSE_MS - this.#clock.monotonicMs()
    if (pauseMs > 0) await this.#clock.sleep(pauseMs)
    this.#refreshedMs = this.#clock.monotonicMs()
    const asked = new Set([...this.#addresses, ...this.#options.seeds])
    try {
      this.#apply(await Promise.any([...asked].map((address) => this.#fetch(address))))
    } catch (error) {
      throw error instanceof AggregateError ? worst(error.errors) : error
    }
  }

  async #fetch(address: string): Promise<SlotMap> {
    const link = await this.connect(address)
    try {
      return parseSlots(await link.send('CLUSTER', ['SLOTS']), address)
    } catch (error) {
      const text = messageOf(error)
      if (text.includes('cluster support disabled')) throw notCluster(address)
      throw classify(error).kind === 'auth' ? authError(address, text, error) : error
    }
  }

  #apply(map: SlotMap): void {
    if (this.#isClosed) return
    this.#owners.fill(undefined)
    for (const range of map.ranges) this.#owners.fill(range.master, range.first, range.last + 1)
    this.#addresses = map.addresses
    this.#noteMasters(new Set(map.ranges.map(({ master }) => master)))
    for (const [address, link] of this.#links) {
      if (map.addresses.has(address)) continue
      if (link.isEnded) this.#links.delete(address)
      // One that is asked under another name (a seed) or has left the cluster: calls in flight on it end by themselves.
      else if (link.isIdle) this.#drop(address, link)
    }
  }

  /** What a former master still answers may be of a time after it was replaced: its calls are sent again, to its successor. */
  #noteMasters(masters: ReadonlySet<string>): void {
    for (const former of this.#masters) {
      if (masters.has(former)) continue
      this.#deposed.set(former, this.#clock.monotonicMs())
      const link = this.#links.get(former)
      if (link !== undefined) this.#drop(former, link)
    }
    for (const master of masters) this.#deposed.delete(master)
    this.#masters = masters
  }

  #drop(address: string, link: RedisLink): void {
    this.#links.delete(address)
    link.abort('not used any more')
  }

  close(): void {
    this.#isClosed = true
    for (const link of this.#links.values()) link.abort()
    this.#links.clear()
  }
}

/** Where a redirection leads. A server that does not know its own name leaves it empty: it means the one that was asked. */
export function resolveAddress(address: string, asked: string): string {
  if (!address.startsWith(':') && !address.startsWith('?:')) return address
  return formatHost({ host: parseHost(asked).host, port: Number(address.slice(address.indexOf(':') + 1)) })
}

function notCluster(address: string): RingfsError {
  return new RingfsError(
    'REDIS_NOT_CLUSTER',
    `Redis at ${address} does not run in cluster mode: set \`cluster-enabled yes\` and give it its slots ` +
      '(`redis-cli --cluster create`, or for a single server `redis-cli cluster addslotsrange 0 16383`)',
  )
}

/** Its cause is that of one which listens, if there is one. */
function lostAll(errors: readonly unknown[]): LinkLostError {
  const telling = errors.find((error) => !isAbsent(error)) ?? errors[0]
  const cause = telling instanceof LinkLostError ? telling.cause : telling
  return new LinkLostError(errors.map(messageOf).join('; '), { cause })
}

/** Among the failures of all nodes, the one that tells most: an answer is more than silence. */
function worst(errors: readonly unknown[]): unknown {
  return (
    errors.find((error) => error instanceof RingfsError) ??
    errors.find((error) => !(error instanceof LinkLostError)) ??
    lostAll(errors)
  )
}

/**
 * CLUSTER SLOTS: [[first, last, [host, port, id, …], replica…], …]. An empty or null host means "the one you asked": so
 * says the lone server that never met another and has no cluster-announce-ip.
 */
export function parseSlots(reply: RedisValue, asked: string): SlotMap {
  const ranges: SlotRange[] = []
  const addresses = new Set<string>()
  for (const entry of arrayOf(reply, 'CLUSTER SLOTS')) {
    const [first, last, ...nodes] = arrayOf(entry, 'CLUSTER SLOTS')
    const found = nodes.map((node) => nodeAddress(node, asked))
    for (const address of found) addresses.add(address)
    const master = found[0]
    if (master === undefined) continue
    ranges.push({ first: numberOf(first, 'CLUSTER SLOTS'), last: numberOf(last, 'CLUSTER SLOTS'), master })
  }
  return { ranges, addresses }
}

function nodeAddress(node: RedisValue, asked: string): string {
  const [host, port] = arrayOf(node, 'CLUSTER SLOTS')
  const name = Buffer.isBuffer(host) ? host.toString() : ''
  const isUnnamed = name === '' || name === '?'
  return formatHost({ host: isUnnamed ? parseHost(asked).host : name, port: numberOf(port, 'CLUSTER SLOTS') })
}
