/** Attributes in the form that fuse-native.c reads: arrays of 32-bit numbers (populate_stat, populate_statvfs). */
import type { TimeSpec } from '../../base/clock.js'
import type { Attr, StatFs } from '../../vfs/contract.js'
import { typeBits } from '../../vfs/flags.js'
import { REQUEST_MAX_BYTES } from './options.js'

const UINT32_MAX = 2 ** 32 - 1
const SECTOR_BYTES = 512

export const NO_STAT: Uint32Array = new Uint32Array(18)
export const NO_STATFS: Uint32Array = new Uint32Array(11)

/** As struct stat; 64-bit fields are two numbers, the lower half first. Made here because fuse-native shows 0 links as 1. */
export function statArray(attr: Attr): Uint32Array {
  const blocks = Math.ceil(attr.allocatedBytes / SECTOR_BYTES)
  return Uint32Array.of(
    typeBits(attr.type) | attr.mode,
    attr.uid,
    attr.gid,
    ...uint64(attr.sizeBytes),
    0,
    attr.nlink,
    shortIno(attr.ino),
    attr.rdev,
    REQUEST_MAX_BYTES,
    ...uint64(blocks),
    ...uint64(milliseconds(attr.atime)),
    ...uint64(milliseconds(attr.mtime)),
    ...uint64(milliseconds(attr.ctime)),
  )
}

/** What a listing tells of an entry: its type and number. */
export function entryStatArray(ino: number, dtype: number): Uint32Array {
  const ints = new Uint32Array(18)
  ints[0] = dtype << 12
  ints[7] = shortIno(ino)
  return ints
}

/** As struct statvfs. Counts have 32 bits, so a block is made as large as it takes to count them all. */
export function statfsArray(stat: StatFs): Uint32Array {
  let blockBytes = stat.blockBytes
  while ((stat.blocks * stat.blockBytes) / blockBytes > UINT32_MAX) blockBytes *= 2
  const inBlocks = (count: number) => Math.floor((count * stat.blockBytes) / blockBytes)
  const free = inBlocks(stat.blocksFree)
  const files = Math.min(stat.files, UINT32_MAX)
  const filesFree = Math.min(stat.filesFree, UINT32_MAX)
  const space = [blockBytes, blockBytes, inBlocks(stat.blocks), free, free]
  return Uint32Array.of(...space, files, filesFree, filesFree, 0, 0, stat.nameMaxBytes)
}

/**
 * The 32 bits of an inode number that fit. Two files can look like one only in a volume where more than 2^32 numbers
 * were given out; 0 is left out, because programs skip such entries.
 */
function shortIno(ino: number): number {
  return ino % 2 ** 32 || UINT32_MAX
}

/** fuse-native.c divides an unsigned number: a time before 1970 cannot be shown, it shows as 1970 (and is kept). */
function milliseconds(time: TimeSpec): number {
  return Math.max(0, time.sec * 1000 + Math.floor(time.nsec / 1_000_000))
}

function uint64(value: number): [number, number] {
  return [value % 2 ** 32, Math.floor(value / 2 ** 32)]
}
