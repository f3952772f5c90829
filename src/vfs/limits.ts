/** Limits of the VFS: given partly, checked once, complete from then on. */
import { COMMITTED_MS, FILE_MAX_BYTES, KIB, LEAF_BYTES, MIB } from '../base/limits.js'
import { RingfsError } from '../base/errors.js'

export interface VfsLimits {
  /** Written and not yet committed, of all files; a writer waits beyond it. */
  readonly dirtyBytes: number
  /** The same of one file, so that one writer leaves room for others. */
  readonly dirtyInodeBytes: number
  /** Chunk uploads at once, of all files and of one. */
  readonly uploads: number
  readonly uploadsPerInode: number
  /** How long the upload of one chunk is tried again before its data is given up. */
  readonly uploadDeadlineMs: number
  /** Data that nobody flushes is committed after about this time. */
  readonly flushAfterMs: number
  /** Verified data kept for readers, data read ahead included. */
  readonly dataCacheBytes: number
  /** How far ahead of a sequential reader is fetched at most. */
  readonly readAheadBytes: number
  /** Chunk reads at once. */
  readonly chunkReads: number
  /** Longest single read. */
  readonly readBytes: number
  /** copy_file_range of fewer bytes is left to the kernel: a name of a chunk would cost more than they do. */
  readonly cloneBytes: number
  /** Entries of the caches of attributes, of names, and of pieces of extent maps. */
  readonly attrs: number
  readonly dentries: number
  readonly extentPieces: number
  /** Chunks uploaded without fdatasync that a later fsync must still sync. */
  readonly unsyncedChunks: number
  /** Files that nobody has changed for so long are packed (packer.ts). Infinity: none. */
  readonly packRestMs: number
  /** Bodies of files that nobody has changed for so long may be moved into chunks (body-mover.ts). Infinity: none. */
  readonly spillRestMs: number
  readonly handles: number
  /** Directory entries fetched at once. */
  readonly readdirBatch: number
  readonly statfsCacheMs: number
}

export const DEFAULT_LIMITS: VfsLimits = {
  dirtyBytes: 128 * MIB,
  dirtyInodeBytes: 64 * MIB,
  uploads: 8,
  uploadsPerInode: 4,
  uploadDeadlineMs: 60_000,
  flushAfterMs: 2_000,
  dataCacheBytes: 64 * MIB,
  readAheadBytes: 16 * MIB,
  chunkReads: 32,
  readBytes: 64 * MIB,
  cloneBytes: 64 * KIB,
  attrs: 50_000,
  dentries: 50_000,
  extentPieces: 250_000,
  unsyncedChunks: 65_536,
  packRestMs: 300_000,
  spillRestMs: COMMITTED_MS,
  handles: 1_000_000,
  readdirBatch: 1_000,
  statfsCacheMs: 1_000,
}

function check(condition: boolean, message: string): void {
  if (!condition) throw new RingfsError('USAGE', message)
}

/**
 * Fills in what is missing. Errors: RingfsError USAGE for a limit that is not a positive integer or does not fit the
 * others, so that no writer can wait for room that never comes.
 */
export function resolveLimits(given: Partial<VfsLimits>, chunkBytes: number): VfsLimits {
  const limits: VfsLimits = { ...DEFAULT_LIMITS, ...given }
  for (const [name, value] of Object.entries(limits)) {
    if ((name === 'packRestMs' || name === 'spillRestMs') && value === Infinity) continue
    check(
      Number.isSafeInteger(value) && value > 0 && value <= FILE_MAX_BYTES,
      `limit ${name} must be a positive integer`,
    )
  }
  check(
    limits.dirtyInodeBytes >= 2 * chunkBytes,
    `limit dirtyInodeBytes must be at least two chunks (${2 * chunkBytes})`,
  )
  check(limits.dirtyBytes >= limits.dirtyInodeBytes, 'limit dirtyBytes must not be below dirtyInodeBytes')
  check(limits.dataCacheBytes >= 4 * LEAF_BYTES, `limit dataCacheBytes must be at least ${(4 * LEAF_BYTES) / KIB} KiB`)
  return limits
}
