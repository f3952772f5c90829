/**
 * Bits of open(2), stat(2), rename(2) and setxattr(2) as Linux has them (asm-generic/fcntl.h, linux/stat.h), whatever
 * system this runs on: drivers translate at their edge.
 */
import type { InodeType } from '../meta/contract.js'

export const O_RDONLY = 0
export const O_WRONLY = 1
export const O_RDWR = 2
export const O_ACCMODE = 3
export const O_CREAT = 0o100
export const O_EXCL = 0o200
export const O_TRUNC = 0o1000
export const O_NOATIME = 0o1000000
export const O_APPEND = 0o2000
export const O_DSYNC = 0o10000
/** With the bit of O_DSYNC in it. */
export const O_SYNC = 0o4010000

/** fallocate(2), linux/falloc.h. */
export const FALLOC_FL_KEEP_SIZE = 0x01
export const FALLOC_FL_PUNCH_HOLE = 0x02
export const FALLOC_FL_ZERO_RANGE = 0x10

export const SEEK_DATA = 3
export const SEEK_HOLE = 4

export const S_IFMT = 0o170000
export const S_ISUID = 0o4000
export const S_ISGID = 0o2000
export const MODE_BITS = 0o7777

export const XATTR_CREATE = 1
export const XATTR_REPLACE = 2

const TYPE_BITS = {
  fifo: 0o010000,
  char: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const satisfies Record<InodeType, number>

const TYPES_BY_BITS: ReadonlyMap<number, InodeType> = new Map([
  [TYPE_BITS.fifo, 'fifo'],
  [TYPE_BITS.char, 'char'],
  [TYPE_BITS.directory, 'directory'],
  [TYPE_BITS.block, 'block'],
  [TYPE_BITS.file, 'file'],
  [TYPE_BITS.symlink, 'symlink'],
  [TYPE_BITS.socket, 'socket'],
])

/** S_IFMT bits of an inode type. */
export function typeBits(type: InodeType): number {
  return TYPE_BITS[type]
}

/** d_type of dirent(3): the S_IFMT bits >> 12. */
export function dtypeOf(type: InodeType): number {
  return TYPE_BITS[type] >> 12
}

/** The inode type of S_IFMT bits; undefined for bits that mean none. */
export function typeOfBits(mode: number): InodeType | undefined {
  const bits = mode & S_IFMT
  return TYPES_BY_BITS.get(bits)
}
