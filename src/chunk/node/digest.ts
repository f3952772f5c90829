/**
 * Digests of sets of chunk ids, by which two nodes find out cheaply whether both have the same chunks of a range of the ring.
 *
 * Invariants:
 * - The same ids give the same digest, in whatever order, on every machine and in every version: the mixing may never change.
 * - Sets that differ by one id, or by one on either side, always have different digests; all others of the same size with a
 *   probability of 1 - 2^-64. (docs/decisions/2026-11-21-range-digests.md)
 */
import type { CancelSignal } from '../../base/cancel.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError } from '../../base/errors.js'
import type { RingRange } from '../../cluster/contract.js'
import { POSITION_MAX, chunkPosition } from '../../cluster/ring.js'
import { CHUNK_BUCKETS, DIGEST_GROUPS_MAX, DIGEST_RANGES_MAX, type RangeDigest } from '../contract.js'
import type { ChunkDisk } from './disk.js'

/** Chunks that are listed at once: a few milliseconds of this thread. */
const PAGE = 4096
const POSITIONS_PER_BUCKET = (POSITION_MAX + 1) / CHUNK_BUCKETS

/** Bijective mixing of 32 bits: the finaliser of MurmurHash3 (Austin Appleby, public domain). */
function scramble(bits: number): number {
  let h = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/** A set of ids that grows. */
export class DigestSum {
  #count = 0
  #high = 0
  #low = 0

  add(id: number): void {
    // Four rounds of a Feistel network: whatever the round function, no two ids have the same two halves.
    let high = Math.floor(id / 2 ** 32) | 0
    let low = id | 0
    low ^= scramble(high ^ 0x9e3779b9)
    high ^= scramble(low ^ 0x7f4a7c15)
    low ^= scramble(high ^ 0xf39cc060)
    high ^= scramble(low ^ 0x5cedc834)
    this.#count++
    this.#high = (this.#high + high) | 0
    this.#low = (this.#low + low) | 0
  }

  get digest(): RangeDigest {
    return { count: this.#count, high: this.#high >>> 0, low: this.#low >>> 0 }
  }
}

export function digestOf(ids: Iterable<number>): RangeDigest {
  const sum = new DigestSum()
  for (const id of ids) sum.add(id)
  return sum.digest
}

export function isSameDigest(a: RangeDigest, b: RangeDigest): boolean {
  return a.count === b.count && a.high === b.high && a.low === b.low
}

/**
 * Ids of what is on the disk in buckets `from` up to `to` (not included), page by page, each once. `onGaps`: of these buckets the disk cannot list all;
 * called once or more often for each. Errors: what the disk says; CANCELLED.
 */
export async function* idsOnDisk(
  disk: Pick<ChunkDisk, 'list'>,
  volume: string,
  from: number,
  to: number,
  onGaps: (buckets: readonly number[]) => void,
): AsyncGenerator<readonly number[], void, undefined> {
  let next: { readonly bucket: number; readonly id: number } | null = { bucket: from, id: 0 }
  while (next !== null) {
    const range = { fromBucket: next.bucket, fromId: next.id, toBucket: to }
    const page = await disk.list({ volume, ...range, limit: PAGE, headers: false, withGaps: true })
    if (page.gaps !== undefined) onGaps(page.gaps)
    yield page.chunks.map(({ id }) => id)
    next = page.next
  }
}

interface GroupedRange extends RingRange {
  readonly group: number
}

/**
 * One for each group. What is in a folder that cannot be listed is not in it: then it differs from that of who has it, who asks for it by its id. One
 * that is equal all the same says only what the listed chunks say. Errors: EINVAL; CANCELLED; what the disk says.
 */
export async function digestsOfDisk(
  disk: Pick<ChunkDisk, 'list' | 'isRetiring'>,
  volume: string,
  groups: readonly (readonly RingRange[])[],
  signal?: CancelSignal,
): Promise<readonly RangeDigest[]> {
  const ranges = checkedRanges(groups)
  const sums = groups.map(() => new DigestSum())
  for (const { from, to } of bucketsOf(ranges)) {
    for await (const ids of idsOnDisk(disk, volume, from, to, () => undefined)) {
      if (signal?.aborted === true) throw new RingfsError('CANCELLED', 'nobody waits for these digests any more')
      for (const id of ids) {
        const range = ranges[rangeAt(ranges, chunkPosition(id))]
        if (range !== undefined && !disk.isRetiring(id)) sums[range.group]?.add(id)
      }
    }
  }
  return sums.map(({ digest }) => digest)
}

/** In rising order. Errors: EINVAL. */
function checkedRanges(groups: readonly (readonly RingRange[])[]): readonly GroupedRange[] {
  const ranges = groups.flatMap((list, group) => list.map(({ first, last }) => ({ first, last, group })))
  if (groups.length > DIGEST_GROUPS_MAX || ranges.length > DIGEST_RANGES_MAX) {
    throw new PosixError('EINVAL', `${ranges.length} ranges in ${groups.length} groups are too many`)
  }
  ranges.sort((a, b) => a.first - b.first)
  let end = -1
  for (const { first, last } of ranges) {
    if (first <= end || last < first || last > POSITION_MAX)
      throw new PosixError('EINVAL', 'no such ranges of the ring')
    end = last
  }
  return ranges
}

/** Buckets that the ranges touch, as few runs as they can be. */
function bucketsOf(ranges: readonly RingRange[]): readonly { readonly from: number; readonly to: number }[] {
  const runs: { from: number; to: number }[] = []
  for (const { first, last } of ranges) {
    const from = Math.floor(first / POSITIONS_PER_BUCKET)
    const to = Math.floor(last / POSITIONS_PER_BUCKET) + 1
    const before = runs.at(-1)
    if (before !== undefined && from <= before.to) before.to = to
    else runs.push({ from, to })
  }
  return runs
}

/** Index of the first range that does not end before the position. They are in rising order, and do not overlap. */
export function firstFrom(ranges: readonly RingRange[], position: number): number {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ranges[middle]?.last ?? 0) < position) low = middle + 1
    else high = middle
  }
  return low
}

/** Index of the range in which the position is; -1: it is in none. */
export function rangeAt(ranges: readonly RingRange[], position: number): number {
  const index = firstFrom(ranges, position)
  return (ranges[index]?.first ?? Infinity) <= position ? index : -1
}

/** All places of these buckets. */
export function placesOf(fromBucket: number, toBucket: number): RingRange {
  return { first: fromBucket * POSITIONS_PER_BUCKET, last: toBucket * POSITIONS_PER_BUCKET - 1 }
}
