/** SHA-256 of leaves and roots. Everything here runs on the calling thread; pool jobs wrap it (jobs.ts). */
import { createHash, hash, type Hash } from 'node:crypto'
import { hashAddon, type HashAddon } from '../base/addon.js'
import { HASH_BYTES, LEAF_BYTES } from '../base/limits.js'

let hasher: { readonly addon: HashAddon | null } | undefined

/** Bytes in all pieces together. */
export function sumBytes(pieces: readonly Uint8Array[]): number {
  let sum = 0
  for (const piece of pieces) sum += piece.length
  return sum
}

/**
 * SHA-256 of each leaf of the joined pieces, 32 bytes each, in order. The pieces are not copied. Leaves that lie in one piece
 * are hashed in one call: a Hash object costs a fifth of hashing 16 KiB.
 */
export function leafHashes(pieces: readonly Uint8Array[]): Buffer {
  const lengthBytes = sumBytes(pieces)
  const out = Buffer.allocUnsafeSlow(Math.ceil(lengthBytes / LEAF_BYTES) * HASH_BYTES)
  let written = 0
  let done = 0
  /** Of a leaf that lies in several pieces. */
  let begun: Hash | null = null
  for (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      const whole = begun === null ? wholeBytes(piece.length - at, lengthBytes - done) : 0
      if (whole > 0) {
        written += hashWhole(piece.subarray(at, at + whole), out.subarray(written))
        at += whole
        done += whole
        continue
      }
      const leafEnd = Math.min(lengthBytes, (written / HASH_BYTES + 1) * LEAF_BYTES)
      const part = piece.subarray(at, at + leafEnd - done)
      at += part.length
      done += part.length
      begun ??= createHash('sha256')
      begun.update(part)
      if (done < leafEnd) continue
      written += begun.digest().copy(out, written)
      begun = null
    }
  }
  return out
}

/** So many of the next bytes of a piece are leaves; the last one of all may be short. */
function wholeBytes(ofPiece: number, ofAll: number): number {
  return ofPiece === ofAll ? ofPiece : ofPiece - (ofPiece % LEAF_BYTES)
}

/** Answers how many bytes of `out` are the hashes. */
function hashWhole(leaves: Uint8Array, out: Buffer): number {
  hasher ??= { addon: hashAddon() }
  const isDone = hasher.addon?.hashLeaves(leaves, LEAF_BYTES, out) === true
  return isDone ? Math.ceil(leaves.length / LEAF_BYTES) * HASH_BYTES : hashOneByOne(leaves, out)
}

/** What hashWhole does where the addon cannot. */
export function hashOneByOne(leaves: Uint8Array, out: Buffer): number {
  let written = 0
  for (let at = 0; at < leaves.length; at += LEAF_BYTES) {
    // As text, which is less to make than a Buffer: a tenth of hashing 16 KiB.
    written += out.write(hash('sha256', leaves.subarray(at, at + LEAF_BYTES), 'binary'), written, 'latin1')
  }
  return written
}

function oneShot(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

/** The root hash of a chunk: SHA-256 over its leaf table. */
export function rootOf(leaves: Uint8Array): Buffer {
  return oneShot(leaves)
}

/**
 * Index of the first leaf that does not match, or -1. `pieces` are whole leaves from leaf `firstLeaf` on (the last of the
 * chunk may be short); `leaves` is the table of the whole chunk. Data beyond the table does not match.
 */
export function firstBadLeaf(pieces: readonly Uint8Array[], leaves: Uint8Array, firstLeaf: number): number {
  const actual = leafHashes(pieces)
  const start = firstLeaf * HASH_BYTES
  const expected = Buffer.from(leaves.buffer, leaves.byteOffset, leaves.length).subarray(start, start + actual.length)
  if (actual.equals(expected)) return -1
  for (let at = 0; at < actual.length; at += HASH_BYTES) {
    const end = at + HASH_BYTES
    if (!actual.subarray(at, end).equals(expected.subarray(at, end))) return firstLeaf + at / HASH_BYTES
  }
  return -1
}
