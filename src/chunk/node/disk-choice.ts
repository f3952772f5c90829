/**
 * On which disk of a node a chunk lies: rendezvous hashing (Thaler and Ravishankar 1998), weighted by the length of the disks. Each
 * disk has a number for each chunk, made of both their ids; the least is first. When a disk comes or goes, only the chunks move that
 * it gets or had. The numbers are part of the format: chunks are looked for in this order.
 */
import { createHash } from 'node:crypto'
import { statfsSync } from 'node:fs'

export interface Candidate {
  /** Above 0; only relations count. */
  readonly weight: number
  /** seedOf(its id). */
  readonly seed: DiskSeed
}

/** Two 32-bit numbers. */
export type DiskSeed = readonly [number, number]

export function seedOf(diskId: string): DiskSeed {
  const digest = createHash('sha256').update(diskId).digest()
  return [digest.readUInt32LE(0), digest.readUInt32LE(4)]
}

/** By the length of its file system. Errors: what the disk says. */
export function weightOf(folder: string): number {
  const { bsize, blocks } = statfsSync(folder)
  return Math.max(1, bsize * blocks)
}

/** All of them, the first choice first. */
export function rankDisks<T extends Candidate>(chunkId: number, disks: readonly T[]): readonly T[] {
  if (disks.length < 2) return disks
  const numbered = disks.map((disk) => ({ disk, number: numberOf(chunkId, disk) }))
  numbered.sort((a, b) => a.number - b.number)
  return numbered.map(({ disk }) => disk)
}

/** -ln(u) / weight with u in (0, 1]: the least of them is this disk's with a chance of weight / sum of weights. */
function numberOf(chunkId: number, { weight, seed }: Candidate): number {
  const low = mix((chunkId >>> 0) ^ seed[0])
  const high = mix((Math.floor(chunkId / 2 ** 32) ^ seed[1] ^ low) >>> 0)
  return -Math.log((high + 1) / 2 ** 32) / weight
}

/** The finalizer of MurmurHash3 (Appleby, public domain): each bit of the result depends on each of `x`. */
function mix(x: number): number {
  let h = x
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35)
  return (h ^ (h >>> 16)) >>> 0
}
