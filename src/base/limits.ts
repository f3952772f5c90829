/**
 * Every limit of ringfs, with its unit in its name. Limits that depend on each other are checked at the end of the file,
 * when the module is loaded: a wrong edit does not start.
 */
import { invariant } from './invariant.js'

export const KIB = 1024
export const MIB = 1024 * KIB
export const GIB = 1024 * MIB

/** A chunk is at most this long; a volume may choose less at format. */
export const CHUNK_MAX_BYTES = 4 * MIB
/** The unit of verification inside a chunk: SHA-256 of each leaf. docs/decisions/2026-11-21-leaves-of-16-kib.md */
export const LEAF_BYTES = 16 * KIB
/** Chunks up to this length go to every owner at once, and into a node's journal; no volume has shorter ones by choice. */
export const SMALL_CHUNK_BYTES = 64 * KIB
/** An extent map covers this much of a file; a chunk never holds data of two windows. */
export const WINDOW_BYTES = 64 * MIB
export const HASH_BYTES = 32

/** POSIX NAME_MAX and PATH_MAX (limits.h), in bytes, PATH_MAX with its terminating NUL. */
export const NAME_MAX_BYTES = 255
export const PATH_MAX_BYTES = 4096
export const SYMLINK_MAX_BYTES = PATH_MAX_BYTES - 1
/** Largest file: the exact integers of a double. Above it: EFBIG. */
export const FILE_MAX_BYTES = Number.MAX_SAFE_INTEGER
/** Seconds of file times, before and after 1970: what 40 bits hold. Others become the nearest, as on local disks. */
export const TIME_MAX_S = 2 ** 39 - 1
export const TIME_MIN_S = -(2 ** 39)
/** linux/limits.h XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX. */
export const XATTR_NAME_MAX_BYTES = 255
export const XATTR_VALUE_MAX_BYTES = 64 * KIB
export const XATTR_LIST_MAX_BYTES = 64 * KIB
/** Names of an inode's attributes, each with a NUL. The names of the two ACLs come on top, and the list still fits. */
export const XATTR_NAMES_MAX_BYTES = XATTR_LIST_MAX_BYTES - 64
/** Names and values of an inode's attributes together, ACLs not counted: what frees an inode has bounded work. */
export const XATTRS_MAX_BYTES = 1 * MIB
/** Linux hands a FUSE filesystem no ACL longer than a page: 511 entries. */
export const ACL_MAX_BYTES = 4 * KIB

/** Files up to the first are kept in the metadata, as long as all of them together are not more than the second. */
export const INLINE_DEFAULT_BYTES = 16 * KIB
export const INLINE_BUDGET_DEFAULT_BYTES = 256 * MIB
/** The most a volume may choose: an open answers all of it, and however scattered it is, one chunk takes all of its pieces. */
export const INLINE_MAX_BYTES = 24 * KIB
/** Files that are written as a whole, in one piece, are kept there up to so many times the length, but not above the second. */
const INLINE_WHOLE_FACTOR = 4
const INLINE_WHOLE_MAX_BYTES = SMALL_CHUNK_BYTES

/** The longest file that a volume keeps in its metadata, where it chose `inlineBytes`. */
export function longestInlineBytes(inlineBytes: number): number {
  return Math.max(inlineBytes, Math.min(INLINE_WHOLE_FACTOR * inlineBytes, INLINE_WHOLE_MAX_BYTES))
}

/** ino = sequence * partitions + partition; Lua 5.1 writes numbers of more than 14 digits with an exponent. */
export const INO_MAX = 1e14 - 1
export const PARTITIONS_MAX = 16_384
export const PARTITIONS_DEFAULT = 256
export const REPLICAS_MAX = 16
export const ROOT_INO = 1

/** One RPC frame: header and payload. */
export const FRAME_HEADER_MAX_BYTES = 1 * MIB
export const FRAME_PAYLOAD_MAX_BYTES = CHUNK_MAX_BYTES + 1 * MIB

/** Data up to this length is hashed on the calling thread; longer goes to a Piscina worker. */
export const HASH_INLINE_MAX_BYTES = 128 * KIB

/** So long after a write all of it is uploaded and committed, or given up. */
export const COMMITTED_MS = 600_000

invariant(CHUNK_MAX_BYTES % LEAF_BYTES === 0, 'a chunk is a whole number of leaves')
invariant(SMALL_CHUNK_BYTES % LEAF_BYTES === 0, 'a small chunk may be whole leaves')
invariant(WINDOW_BYTES % CHUNK_MAX_BYTES === 0, 'a window is a whole number of chunks')
invariant(FRAME_PAYLOAD_MAX_BYTES > CHUNK_MAX_BYTES, 'a chunk fits into a frame')
