/** SHA-256 of leaves and roots. Everything here runs on the calling thread; pool jobs wrap it (jobs.ts). */
import { createHash, type Hash } from 'node:crypto'
import { HASH_BYTES, LEAF_BYTES } from '../base/limits.js'

/** Bytes in all pieces together. */
export function sumBytes(pieces: readonly Uint8Array[]): number {
  let sum = 0
  for (const piece of pieces) sum += piece.length
  return sum
}

/** SHA-256 of each 64 KiB leaf of the joined pieces, 32 bytes each, in order. The pieces are not copied. */
export function leafHashes(pieces: readonly Uint8Array[]): Buffer {
  const out = Buffer.allocUnsafeSlow(Math.ceil(sumBytes(pieces) / LEAF_BYTES) * HASH_BYTES)
  let written = 0
  let hash: Hash | null = null
  let room = LEAF_BYTES
  const finish = (): void => {
    if (hash === null) return
    written += hash.digest().copy(out, written)
    hash = null
    room = LEAF_BYTES
  }
  for (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      const part = piece.subarray(at, at + room)
      hash ??= createHash('sha256')
      hash.update(part)
      at += part.length
      room -= part.length
      if (room === 0) finish()
    }
  }
  finish()
  return out
}

/** The root hash of a chunk: SHA-256 over its leaf table. */
export function rootOf(leaves: Uint8Array): Buffer {
  return createHash('sha256').update(leaves).digest()
}

/**
 * Index of the first leaf that does not match, or -1. `pieces` are whole leaves from leaf `firstLeaf` on (the last of the
 * chunk may be short); `leaves` is the table of the whole chunk. Data beyond the table does not match.
 */
export function firstBadLeaf(pieces: readonly Uint8Array[], leaves: Uint8Array, firstLeaf: number): number {
  const actual = leafHashes(pieces)
  const start = firstLeaf * HASH_BYTES
  const expected = Buffer.from(leaves.buffer, leaves.byteOffset, leaves.length).subarray(start, start + actual.length)
  for (let at = 0; at < actual.length; at += HASH_BYTES) {
    const end = at + HASH_BYTES
    if (!actual.subarray(at, end).equals(expected.subarray(at, end))) return firstLeaf + at / HASH_BYTES
  }
  return -1
}
