/** FUSE_INIT: what the kernel offers and what we take. linux/fuse.h, struct fuse_init_in and fuse_init_out. */
import { MIB } from '../../base/limits.js'

const MAJOR = 7
/** Newest minor version whose layouts this driver knows; and the oldest. */
const MINOR_MAX = 45
const MINOR_MIN = 31

export const MAX_WRITE_BYTES = MIB
const MAX_READAHEAD_BYTES = MIB
const PAGE_BYTES = 4096
const MAX_BACKGROUND = 64
const CONGESTION = 48
const INIT_IN_BYTES = 16
const INIT_OUT_BYTES = 64
const FLAGS2_IN_AT = 16
const FLAGS2_OUT_AT = 32

const ASYNC_READ = 1 << 0
const POSIX_LOCKS = 1 << 1
const ATOMIC_O_TRUNC = 1 << 3
const BIG_WRITES = 1 << 5
/** The umask is for us to apply, who know of default ACLs. */
const DONT_MASK = 1 << 6
const FLOCK_LOCKS = 1 << 10
/** A read of cached pages looks at the attributes first: kernel-cache.ts says why this stays on. */
const AUTO_INVAL_DATA = 1 << 12
/** Always: with READDIRPLUS_AUTO only the first page of a listing has attributes, and the rest is looked up name by name. */
const DO_READDIRPLUS = 1 << 13
const ASYNC_DIO = 1 << 15
const PARALLEL_DIROPS = 1 << 18
/** The kernel checks rights by the ACLs that it reads as attributes, and says who may not keep set-gid. */
const POSIX_ACL = 1 << 20
const MAX_PAGES = 1 << 22
/** Requests say whether set-id bits must go. */
export const HANDLE_KILLPRIV_V2 = 1 << 28
/** Requests that set an attribute have a second word of flags. */
export const SETXATTR_EXT = 1 << 29
const INIT_EXT = 1 << 30

const WANTED =
  ASYNC_READ |
  POSIX_LOCKS |
  ATOMIC_O_TRUNC |
  BIG_WRITES |
  DONT_MASK |
  FLOCK_LOCKS |
  AUTO_INVAL_DATA |
  DO_READDIRPLUS |
  ASYNC_DIO |
  PARALLEL_DIROPS |
  POSIX_ACL |
  MAX_PAGES |
  HANDLE_KILLPRIV_V2 |
  SETXATTR_EXT |
  INIT_EXT

/** Of the flags from bit 32 on, less 32: files that are read past the page cache can be mapped shared all the same. */
export const DIRECT_IO_ALLOW_MMAP = 1 << 4
const WANTED2 = DIRECT_IO_ALLOW_MMAP

/** null: a kernel too old, or no init request. A newer major is answered with ours; the kernel then asks again. */
export function negotiate(body: Buffer): Buffer | null {
  if (body.length < INIT_IN_BYTES) return null
  const major = body.readUInt32LE(0)
  const minor = body.readUInt32LE(4)
  if (major < MAJOR || (major === MAJOR && minor < MINOR_MIN)) return null
  const out = Buffer.alloc(INIT_OUT_BYTES)
  out.writeUInt32LE(MAJOR, 0)
  out.writeUInt32LE(Math.min(minor, MINOR_MAX), 4)
  if (major > MAJOR) return out
  out.writeUInt32LE(Math.min(body.readUInt32LE(8), MAX_READAHEAD_BYTES), 8)
  out.writeUInt32LE((body.readUInt32LE(12) & WANTED) >>> 0, 12)
  out.writeUInt32LE(flags2(body), FLAGS2_OUT_AT)
  out.writeUInt16LE(MAX_BACKGROUND, 16)
  out.writeUInt16LE(CONGESTION, 18)
  out.writeUInt32LE(MAX_WRITE_BYTES, 20)
  out.writeUInt32LE(1, 24) // times in nanoseconds
  out.writeUInt16LE(MAX_WRITE_BYTES / PAGE_BYTES, 28)
  return out
}

/** The first word of flags that a reply agrees to. */
export function agreedFlags(reply: Buffer): number {
  return reply.readUInt32LE(12)
}

/** The second one. */
export function agreedFlags2(reply: Buffer): number {
  return reply.readUInt32LE(FLAGS2_OUT_AT)
}

/** The kernel's second word of flags is there only if the first says so. */
function flags2(body: Buffer): number {
  const isThere = (body.readUInt32LE(12) & INIT_EXT) !== 0 && body.length >= FLAGS2_IN_AT + 4
  return isThere ? (body.readUInt32LE(FLAGS2_IN_AT) & WANTED2) >>> 0 : 0
}
