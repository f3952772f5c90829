/**
 * What of the own chunks another owner lacks, found out with few bytes: digests of ranges that both own are compared, those that
 * differ are cut up, and only of what is left the ids are sent.
 *
 * Invariants:
 * - What is answered is what the other one itself said to be lacking, by id: a digest only ever says that there is nothing to ask for.
 * - Rounds of digests cost at most a share of the list that they are in place of (PER_DIGEST): where that does not do, the list is sent.
 */
import type { RangedRing, RingRange } from '../../cluster/contract.js'
import { chunkPosition } from '../../cluster/ring.js'
import { DIGEST_GROUPS_MAX, DIGEST_RANGES_MAX, type RangeDigest } from '../contract.js'
import { digestOf, firstFrom, isSameDigest, rangeAt } from './digest.js'

/** Ids of so many chunks are about as long as one digest and its question. */
const BARE_MAX = 8
/** Where so many differ, their ids are no longer than the digests of their parts. */
const LIST_MAX = 64
/** A part has at least about so many. */
const PART_MIN = 32
const PARTS_MAX = 16
/** One digest for so many of the ids in question, at most. */
const PER_DIGEST = 16

export type Ranges = readonly RingRange[]

export interface OtherNode {
  /** Of each group, not more than a question may name. */
  readonly digest: (groups: readonly Ranges[]) => Promise<readonly RangeDigest[]>
  readonly lacks: (ids: readonly number[]) => Promise<readonly number[]>
}

interface Group {
  /** In rising order; all that both have in common lies in one group. */
  readonly ranges: Ranges
  /** Own chunks that stand in them: all of them. */
  readonly ids: readonly number[]
}

/** Which of `ids` the other one lacks. `ids`: all that is here in `ranges`. Errors: those of the other one. */
export async function lackedOf(ids: readonly number[], ranges: Ranges, other: OtherNode): Promise<readonly number[]> {
  const listed: number[] = []
  let left = Math.ceil(ids.length / PER_DIGEST)
  for (let open: readonly Group[] = chunksOfRanges({ ranges, ids }); open.length > 0;) {
    const asked = open.filter((group) => group.ids.length > BARE_MAX)
    const isDear = asked.length > left
    for (const { ids: some } of isDear ? open : open.filter((one) => one.ids.length <= BARE_MAX)) append(listed, some)
    if (isDear || asked.length === 0) break
    left -= asked.length
    const theirs = await digestsOf(asked, other)
    open = asked.flatMap((group, index) => narrowed(group, theirs[index], listed))
  }
  return listed.length === 0 ? [] : await other.lacks(listed)
}

/** What is to be looked at next; what is not worth it goes to `listed`. */
function narrowed(group: Group, theirs: RangeDigest | undefined, listed: number[]): readonly Group[] {
  const { ids } = group
  if (theirs !== undefined && isSameDigest(digestOf(ids), theirs)) return []
  const fewer = Math.abs(ids.length - (theirs?.count ?? 0))
  const isListed = ids.length <= LIST_MAX || fewer * PARTS_MAX > ids.length
  const parts = isListed ? [] : cut(group, Math.min(PARTS_MAX, Math.ceil(ids.length / PART_MIN)))
  if (parts.length < 2) append(listed, ids)
  return parts.length < 2 ? [] : parts
}

/** Too many for the arguments of one call. */
function append(list: number[], ids: readonly number[]): void {
  for (const id of ids) list.push(id)
}

async function digestsOf(groups: readonly Group[], other: OtherNode): Promise<readonly RangeDigest[]> {
  const digests: RangeDigest[] = []
  for (const batch of batchesOf(groups.map(({ ranges }) => ranges))) digests.push(...(await other.digest(batch)))
  return digests
}

/** No more than one question may name. */
function batchesOf(groups: readonly Ranges[]): readonly (readonly Ranges[])[] {
  const batches: Ranges[][] = []
  let ranges = DIGEST_RANGES_MAX
  for (const group of groups) {
    const last = batches.at(-1)
    if (last === undefined || last.length === DIGEST_GROUPS_MAX || ranges + group.length > DIGEST_RANGES_MAX) {
      batches.push([group])
      ranges = group.length
    } else {
      last.push(group)
      ranges += group.length
    }
  }
  return batches
}

/** Groups of no more ranges than one question may name. */
function chunksOfRanges({ ranges, ids }: Group): readonly Group[] {
  if (ranges.length <= DIGEST_RANGES_MAX) return [{ ranges, ids }]
  const parts = Array.from({ length: Math.ceil(ranges.length / DIGEST_RANGES_MAX) }, (_, index) => ({
    ranges: ranges.slice(index * DIGEST_RANGES_MAX, (index + 1) * DIGEST_RANGES_MAX),
    ids: new Array<number>(),
  }))
  for (const id of ids) parts[Math.floor(rangeAt(ranges, chunkPosition(id)) / DIGEST_RANGES_MAX)]?.ids.push(id)
  return parts
}

/** Parts of about the same length with something in them, which together have all of the group's ids. Chunks are scattered evenly over the ring. */
function cut({ ranges, ids }: Group, count: number): readonly Group[] {
  const starts: number[] = []
  let total = 0
  for (const { first, last } of ranges) {
    starts.push(total)
    total += last - first + 1
  }
  const size = Math.ceil(total / count)
  const parts = Array.from({ length: Math.ceil(total / size) }, () => ({
    ranges: new Array<RingRange>(),
    ids: new Array<number>(),
  }))
  for (const [index, { first, last }] of ranges.entries()) {
    const start = starts[index] ?? 0
    for (let from = first; from <= last;) {
      const part = Math.floor((start + from - first) / size)
      const to = Math.min(last, first + (part + 1) * size - start - 1)
      parts[part]?.ranges.push({ first: from, last: to })
      from = to + 1
    }
  }
  for (const id of ids) {
    const position = chunkPosition(id)
    const index = rangeAt(ranges, position)
    parts[Math.floor(((starts[index] ?? 0) + position - (ranges[index]?.first ?? 0)) / size)]?.ids.push(id)
  }
  return parts.filter((part) => part.ids.length > 0)
}

export type SharedRanges = ReadonlyMap<string, Ranges>

/** Rings do not change, and are walked again and again. */
const sharedByRing = new WeakMap<RangedRing, Map<string, SharedRanges>>()

/** Within `span`: what this node and each other one own in common, by the id of the other one; as few ranges as they can be. */
export function sharedRanges(ring: RangedRing, replicas: number, own: string, span: RingRange): SharedRanges {
  let kept = sharedByRing.get(ring)
  if (kept === undefined) sharedByRing.set(ring, (kept = new Map<string, SharedRanges>()))
  const key = `${replicas} ${span.first} ${span.last} ${own}`
  let shared = kept.get(key)
  if (shared === undefined) kept.set(key, (shared = findShared(ring, replicas, own, span)))
  return shared
}

function findShared(ring: RangedRing, replicas: number, own: string, span: RingRange): SharedRanges {
  const shared = new Map<string, RingRange[]>()
  const ranges = ring.rangesOf(own, replicas)
  for (let at = firstFrom(ranges, span.first); at < ranges.length; at++) {
    const range = ranges[at]
    if (range === undefined || range.first > span.last) break
    const part = { first: Math.max(range.first, span.first), last: Math.min(range.last, span.last) }
    for (const owner of range.owners) if (owner !== own) addRange(shared, owner, part)
  }
  return shared
}

function addRange(shared: Map<string, RingRange[]>, node: string, { first, last }: RingRange): void {
  const list = shared.get(node)
  const before = list?.at(-1)
  if (list === undefined) shared.set(node, [{ first, last }])
  else if (before !== undefined && before.last + 1 === first) list[list.length - 1] = { first: before.first, last }
  else list.push({ first, last })
}
