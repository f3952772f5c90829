/**
 * The layouts of the FUSE protocol, version 7.31 and up, as in linux/fuse.h: all little-endian here (x86-64, arm64).
 * Numbers of 64 bits are read as doubles: inode numbers, handles and sizes stay below 2^53; what does not is refused.
 */
import type { Attr } from '../../vfs/contract.js'
import { typeBits } from '../../vfs/flags.js'

export const IN_HEADER_BYTES = 40
export const OUT_HEADER_BYTES = 16
const ATTR_BYTES = 88
export const ENTRY_BYTES = 128
const ATTR_OUT_BYTES = 104

/** 2^32. */
export const HIGH = 0x1_0000_0000
const BLOCK_BYTES = 512
const IO_BYTES = 4096

export interface RequestHeader {
  readonly opcode: number
  /** Kept as two halves: it is only given back. */
  readonly uniqueLow: number
  readonly uniqueHigh: number
  readonly node: number
  readonly uid: number
  readonly gid: number
  readonly pid: number
}

/** null: no request at all. */
export function decodeHeader(bytes: Buffer): RequestHeader | null {
  if (bytes.length < IN_HEADER_BYTES || bytes.readUInt32LE(0) !== bytes.length) return null
  return {
    opcode: bytes.readUInt32LE(4),
    uniqueLow: bytes.readUInt32LE(8),
    uniqueHigh: bytes.readUInt32LE(12),
    node: readU64(bytes, 16),
    uid: bytes.readUInt32LE(24),
    gid: bytes.readUInt32LE(28),
    pid: bytes.readUInt32LE(32),
  }
}

/** `error`: 0 or a positive errno. */
export function encodeHeader(header: RequestHeader, error: number, bodyBytes: number): Buffer {
  const out = Buffer.allocUnsafe(OUT_HEADER_BYTES)
  out.writeUInt32LE(OUT_HEADER_BYTES + bodyBytes, 0)
  out.writeInt32LE(-error, 4)
  out.writeUInt32LE(header.uniqueLow, 8)
  out.writeUInt32LE(header.uniqueHigh, 12)
  return out
}

/** Above 2^53 it is not exact, and larger than any limit. */
export function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * HIGH
}

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % HIGH, at)
  bytes.writeUInt32LE(Math.floor(value / HIGH), at + 4)
}

function writeAttr(out: Buffer, at: number, attr: Attr): void {
  writeU64(out, attr.ino, at)
  writeU64(out, attr.sizeBytes, at + 8)
  writeU64(out, Math.ceil(attr.allocatedBytes / BLOCK_BYTES), at + 16)
  out.writeBigInt64LE(BigInt(attr.atime.sec), at + 24)
  out.writeBigInt64LE(BigInt(attr.mtime.sec), at + 32)
  out.writeBigInt64LE(BigInt(attr.ctime.sec), at + 40)
  out.writeUInt32LE(attr.atime.nsec, at + 48)
  out.writeUInt32LE(attr.mtime.nsec, at + 52)
  out.writeUInt32LE(attr.ctime.nsec, at + 56)
  out.writeUInt32LE(typeBits(attr.type) | attr.mode, at + 60)
  out.writeUInt32LE(attr.nlink, at + 64)
  out.writeUInt32LE(attr.uid, at + 68)
  out.writeUInt32LE(attr.gid, at + 72)
  out.writeUInt32LE(attr.rdev, at + 76)
  out.writeUInt32LE(IO_BYTES, at + 80)
  out.writeUInt32LE(0, at + 84)
}

/** How long the kernel may go by an answer, in milliseconds; 0: it asks again each time. */
export interface Lifetimes {
  readonly entryMs: number
  readonly attrMs: number
}

/** struct fuse_entry_out. */
export function writeEntry(out: Buffer, at: number, attr: Attr, { entryMs, attrMs }: Lifetimes): void {
  writeEntryHead(out, at, attr.ino, entryMs, attrMs)
  writeAttr(out, at + ENTRY_BYTES - ATTR_BYTES, attr)
}

function writeEntryHead(out: Buffer, at: number, node: number, entryMs: number, attrMs: number): void {
  writeU64(out, node, at)
  writeU64(out, 0, at + 8) // generation: a number is never used twice
  writeU64(out, seconds(entryMs), at + 16)
  writeU64(out, seconds(attrMs), at + 24)
  out.writeUInt32LE(nanoseconds(entryMs), at + 32)
  out.writeUInt32LE(nanoseconds(attrMs), at + 36)
}

export function encodeEntry(attr: Attr, lifetimes: Lifetimes): Buffer {
  const out = Buffer.allocUnsafe(ENTRY_BYTES)
  writeEntry(out, 0, attr, lifetimes)
  return out
}

/** There is no such name, and the kernel need not ask again for so long. */
export function encodeNoEntry(entryMs: number): Buffer {
  const out = Buffer.alloc(ENTRY_BYTES)
  writeEntryHead(out, 0, 0, entryMs, 0)
  return out
}

/** struct fuse_attr_out. */
export function encodeAttr(attr: Attr, attrMs: number): Buffer {
  const out = Buffer.alloc(ATTR_OUT_BYTES)
  writeU64(out, seconds(attrMs), 0)
  out.writeUInt32LE(nanoseconds(attrMs), 8)
  writeAttr(out, ATTR_OUT_BYTES - ATTR_BYTES, attr)
  return out
}

/** STATX_BASIC_STATS and STATX_BTIME: linux/stat.h. */
const STATX_MASK = 0xfff
const STATX_OUT_BYTES = 288
const STATX_AT = 32

/** struct fuse_statx_out: the attributes with the time of birth. */
export function encodeStatx(attr: Attr, attrMs: number): Buffer {
  const out = Buffer.alloc(STATX_OUT_BYTES)
  writeU64(out, seconds(attrMs), 0)
  out.writeUInt32LE(nanoseconds(attrMs), 8)
  out.writeUInt32LE(STATX_MASK, STATX_AT)
  out.writeUInt32LE(IO_BYTES, STATX_AT + 4)
  out.writeUInt32LE(attr.nlink, STATX_AT + 16)
  out.writeUInt32LE(attr.uid, STATX_AT + 20)
  out.writeUInt32LE(attr.gid, STATX_AT + 24)
  out.writeUInt16LE(typeBits(attr.type) | attr.mode, STATX_AT + 28)
  writeU64(out, attr.ino, STATX_AT + 32)
  writeU64(out, attr.sizeBytes, STATX_AT + 40)
  writeU64(out, Math.ceil(attr.allocatedBytes / BLOCK_BYTES), STATX_AT + 48)
  for (const [index, time] of [attr.atime, attr.btime, attr.ctime, attr.mtime].entries()) {
    out.writeBigInt64LE(BigInt(time.sec), STATX_AT + 64 + 16 * index)
    out.writeUInt32LE(time.nsec, STATX_AT + 72 + 16 * index)
  }
  // The number as the kernel packs it (include/linux/kdev_t.h, new_encode_dev): here it wants the two halves.
  out.writeUInt32LE((attr.rdev & 0xfff00) >>> 8, STATX_AT + 128)
  out.writeUInt32LE((attr.rdev & 0xff) | ((attr.rdev >>> 12) & 0xfff00), STATX_AT + 132)
  return out
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000)
}

function nanoseconds(ms: number): number {
  return Math.floor((ms % 1000) * 1e6)
}

/** struct fuse_open_out. */
export function encodeOpen(handle: number, flags: number): Buffer {
  const out = Buffer.alloc(16)
  writeU64(out, handle, 0)
  out.writeUInt32LE(flags, 8)
  return out
}

/** struct fuse_write_out. */
export function encodeCount(bytes: number): Buffer {
  const out = Buffer.alloc(8)
  out.writeUInt32LE(bytes, 0)
  return out
}

/** A name that ends with NUL, from `at`; and where the next begins. null if there is no end. */
export function readName(body: Buffer, at: number): { readonly name: Buffer; readonly next: number } | null {
  const end = body.indexOf(0, at)
  if (end < 0) return null
  return { name: body.subarray(at, end), next: end + 1 }
}
