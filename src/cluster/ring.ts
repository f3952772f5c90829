/**
 * Consistent hashing (Karger et al. 1997), with virtual nodes as in Dynamo (DeCandia et al. 2007, section 4.2).
 *
 * The ring is the numbers below 2^32. A node stands at 128 places (tokens) times its weight, a chunk at one. Walking
 * clockwise from the chunk gives its nodes in an order of preference; its first R are the owners. Everything here is
 * pure: the same members give the same ring on every machine, in whatever order they are named.
 */
import { createHash } from 'node:crypto'
import { invariant } from '../base/invariant.js'
import type { OwnedRange, RangedRing } from './contract.js'

export interface RingMember {
  readonly id: string
  /** Above 0; 1 is normal. */
  readonly weight: number
  readonly zone: string
}

const TOKENS_PER_NODE = 128
/** More would make a heavy node slow to place, not better spread. */
export const WEIGHT_MAX = 100

export const POSITION_MAX = 2 ** 32 - 1

/** Bijective mixing of 32 bits: the finaliser of MurmurHash3 (Austin Appleby, public domain). */
function mix(bits: number): number {
  let h = bits
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/**
 * Where a chunk stands on the ring: 0 to 2^32 - 1. Chunk folders on disk are in this order, so it may never change.
 * Ids are given out one after the other; their positions are scattered.
 */
export function chunkPosition(chunkId: number): number {
  invariant(Number.isSafeInteger(chunkId) && chunkId >= 0, 'a chunk id is an integer from 0 to 2^53 - 1')
  const high = Math.floor(chunkId / 2 ** 32)
  return mix((chunkId >>> 0) ^ mix(high ^ 0x9e3779b9))
}

/** Rings of the last sets of members: a change that is taken back, and several followers in one process, cost nothing. */
const RINGS_KEPT = 4
/** More of them, if all together have no more tokens than this: some 20 MB at the most. */
const TOKENS_KEPT = 100_000
const rings = new Map<string, Ring>()
let tokensKept = 0

export function buildRing(members: readonly RingMember[]): RangedRing {
  const key = JSON.stringify(members.map(({ id, weight, zone }) => [id, weight, zone]))
  const known = rings.get(key)
  if (known !== undefined) return known
  const ring = new Ring(members)
  rings.set(key, ring)
  tokensKept += ring.tokens
  for (const [oldest, { tokens }] of rings) {
    if (rings.size <= RINGS_KEPT || tokensKept <= TOKENS_KEPT) break
    rings.delete(oldest)
    tokensKept -= tokens
  }
  return ring
}

/** A token is its position, and the member (in the order of ids) that stands there: numbers, which sort faster than objects. */
const MEMBERS_MAX = 2 ** 20

/** Of the nodes that were placed last: each change of the members places all of them anew. */
const POSITIONS_KEPT = 1024
const positions = new Map<string, Uint32Array>()

/** Where the node's tokens stand: the first `count` of a row that is the same for ever. */
function positionsOf(id: string, count: number): Uint32Array {
  const known = positions.get(id)
  if (known !== undefined && known.length >= count) return known.subarray(0, count)
  const fresh = Uint32Array.from({ length: count }, (_, index) =>
    createHash('sha256').update(`${id}#${index}`).digest().readUInt32BE(0),
  )
  if (positions.size >= POSITIONS_KEPT) positions.clear()
  positions.set(id, fresh)
  return fresh
}

function tokenCount(weight: number): number {
  return Math.max(1, Math.round(TOKENS_PER_NODE * Math.min(weight, WEIGHT_MAX)))
}

class Ring implements RangedRing {
  readonly #ids: readonly string[]
  /** Zone of each member, as a number. */
  readonly #zones: readonly number[]
  readonly #positions: Uint32Array
  /** Member at each position. */
  readonly #members: Uint32Array
  /** How many zones have more than k members, at index k: the length of round k. */
  readonly #roundLengths: readonly number[]
  /** By how many are asked for: those of each token, once somebody has asked for them. */
  readonly #owners = new Map<number, (readonly string[] | undefined)[]>()
  readonly #ranges = new Map<number, readonly OwnedRange[]>()
  readonly #rangesByOwner = new Map<number, ReadonlyMap<string, readonly OwnedRange[]>>()

  constructor(members: readonly RingMember[]) {
    const sorted = [...members].sort((a, b) => compare(a.id, b.id))
    this.#ids = sorted.map((member) => member.id)
    invariant(new Set(this.#ids).size === sorted.length, 'every ring member has an id of its own')
    invariant(
      sorted.every((member) => member.weight > 0),
      'weights are above 0',
    )
    const zoneNames = [...new Set(sorted.map((member) => member.zone))]
    this.#zones = sorted.map((member) => zoneNames.indexOf(member.zone))
    const sizes = zoneNames.map((_, zone) => this.#zones.filter((of) => of === zone).length)
    this.#roundLengths = Array.from({ length: Math.max(0, ...sizes) }, (_, k) => sizes.filter((n) => n > k).length)
    invariant(sorted.length <= MEMBERS_MAX, 'a ring has no more than a million members')
    const rows = sorted.map((member) => positionsOf(member.id, tokenCount(member.weight)))
    const tokens = new Float64Array(rows.reduce((count, row) => count + row.length, 0))
    let at = 0
    for (const [member, row] of rows.entries())
      for (const position of row) tokens[at++] = position * MEMBERS_MAX + member
    tokens.sort()
    this.#positions = Uint32Array.from(tokens, (token) => Math.floor(token / MEMBERS_MAX))
    this.#members = Uint32Array.from(tokens, (token) => token % MEMBERS_MAX)
  }

  get tokens(): number {
    return this.#positions.length
  }

  owners(chunkId: number, count: number): readonly string[] {
    return this.#ownersAt(this.#firstToken(chunkPosition(chunkId)), count)
  }

  preference(chunkId: number): readonly string[] {
    return this.#walk(this.#firstToken(chunkPosition(chunkId)), this.#ids.length)
  }

  ranges(count: number): readonly OwnedRange[] {
    const known = this.#ranges.get(count)
    if (known !== undefined) return known
    const ranges: OwnedRange[] = []
    let first = 0
    for (const [token, last] of this.#positions.entries()) {
      // Of tokens at one place the first one counts.
      if (last >= first) ranges.push({ first, last, owners: this.#ownersAt(token, count) })
      first = last + 1
    }
    if (first <= POSITION_MAX) ranges.push({ first, last: POSITION_MAX, owners: this.#ownersAt(0, count) })
    this.#ranges.set(count, ranges)
    return ranges
  }

  rangesOf(nodeId: string, count: number): readonly OwnedRange[] {
    let known = this.#rangesByOwner.get(count)
    if (known === undefined) this.#rangesByOwner.set(count, (known = byOwner(this.ranges(count))))
    return known.get(nodeId) ?? []
  }

  #ownersAt(token: number, count: number): readonly string[] {
    let known = this.#owners.get(count)
    if (known === undefined) this.#owners.set(count, (known = []))
    return (known[token] ??= this.#walk(token, Math.min(count, this.#ids.length)))
  }

  /**
   * The order is in rounds: in each round every zone that still has nodes gives its next one, and the nodes of a round
   * come in clockwise order. So the first R nodes are spread over as many zones as there are, and evenly.
   * A member that joins only inserts itself into this order: no chunk moves between two others.
   */
  #walk(start: number, count: number): string[] {
    const rounds: number[][] = []
    const seen = new Set<number>()
    const givenByZone: number[] = []
    for (let i = 0; i < this.#members.length && !this.#isSettled(rounds, count); i++) {
      const member = this.#members[(start + i) % this.#members.length] ?? 0
      if (seen.has(member)) continue
      seen.add(member)
      const zone = this.#zones[member] ?? 0
      const round = givenByZone[zone] ?? 0
      givenByZone[zone] = round + 1
      ;(rounds[round] ??= []).push(member)
    }
    return rounds
      .flat()
      .slice(0, count)
      .map((member) => this.#ids[member] ?? '')
  }

  /** Whether the first `count` nodes are known: whatever comes later belongs to later rounds or further back. */
  #isSettled(rounds: readonly (readonly number[])[], count: number): boolean {
    let known = 0
    for (const [k, round] of rounds.entries()) {
      known += round.length
      if (known >= count) return true
      if (round.length < (this.#roundLengths[k] ?? 0)) return false
    }
    return known >= count
  }

  /** First token at or after the position; past the last one the ring begins again. */
  #firstToken(position: number): number {
    let low = 0
    let high = this.#positions.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#positions[middle] ?? 0) < position) low = middle + 1
      else high = middle
    }
    return low === this.#positions.length ? 0 : low
  }
}

function byOwner(ranges: readonly OwnedRange[]): ReadonlyMap<string, readonly OwnedRange[]> {
  const lists = new Map<string, OwnedRange[]>()
  for (const range of ranges) {
    for (const owner of range.owners) {
      const list = lists.get(owner)
      if (list === undefined) lists.set(owner, [range])
      else list.push(range)
    }
  }
  return lists
}

/** Not localeCompare: every machine must agree. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
