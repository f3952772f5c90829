/**
 * Notifications: what a driver tells the kernel of its own accord. linux/fuse.h, enum fuse_notify_code and the structures
 * fuse_notify_*_out; the header has 0 for the request's number and the code in place of the error.
 */
import { OUT_HEADER_BYTES, writeU64 } from './wire.js'

const INVAL_INODE = 2
const INVAL_ENTRY = 3
const INC_EPOCH = 8
/** Kernels from 7.44 on know INC_EPOCH. */
export const EPOCH_MINOR = 44

/** Attributes and ACLs of an inode. It waits for nobody. */
export function encodeInvalAttr(ino: number): Buffer {
  return encodeInode(ino, -1n)
}

/** All cached pages, too. It waits for those that are being read or written just now, that is, for our answers. */
export function encodeInvalData(ino: number): Buffer {
  return encodeInode(ino, 0n)
}

function encodeInode(ino: number, offset: bigint): Buffer {
  const out = notification(INVAL_INODE, 24)
  writeU64(out, ino, OUT_HEADER_BYTES)
  out.writeBigInt64LE(offset, OUT_HEADER_BYTES + 8)
  return out
}

/** From 7.38 on; older kernels ignore it. */
const EXPIRE_ONLY = 1

/**
 * What is known of a name, or that there is none. It waits for the directory's lock, that is, for our answers. The name is
 * dropped, with what is mounted below it; `expire`: it is asked for again, and stays if it means the same.
 */
export function encodeInvalEntry(parent: number, name: Buffer, expire = false): Buffer {
  const out = notification(INVAL_ENTRY, 16 + name.length + 1)
  writeU64(out, parent, OUT_HEADER_BYTES)
  out.writeUInt32LE(name.length, OUT_HEADER_BYTES + 8)
  out.writeUInt32LE(expire ? EXPIRE_ONLY : 0, OUT_HEADER_BYTES + 12)
  name.copy(out, OUT_HEADER_BYTES + 16)
  return out
}

/** Every name of the mount. It waits for nobody: each is dropped when it is used next, with what is mounted below it. */
export function encodeIncEpoch(): Buffer {
  return notification(INC_EPOCH, 0)
}

function notification(code: number, bodyBytes: number): Buffer {
  const out = Buffer.alloc(OUT_HEADER_BYTES + bodyBytes)
  out.writeUInt32LE(out.length, 0)
  out.writeInt32LE(code, 4)
  return out
}
