/**
 * Packed records, all little-endian, written by the scripts (scripts/lib/*.lua, Redis's struct library) and by this file.
 *
 * Inode (version 1), 70 bytes and a tail:
 *   0  u8  version            1  u8  type | tail kind << 4 | windows flag << 6 | xattr flag << 7
 *   2  u16 mode, bits 12 and 13: see MODE_BITS, HAS_BODY  4  u32 uid       8 u32 gid      12 u32 nlink
 *   16 u56 size in bytes     23  u56 allocated bytes          30 u32 data version
 *   34 atime, 43 mtime, 52 ctime, 61 btime: each i40 seconds and u32 nanoseconds
 *   70 tail: kind 0 nothing, 1 extents of window 0, 2 symlink target, 3 u56 (directory: parent ino; device: rdev)
 *
 * Extent, 53 bytes: u32 offset in the window, u32 length, u56 chunk id (0: a hole), u24 offset in the chunk,
 *   u24 length of the chunk, 32 bytes root hash.
 *
 * Body of a small file: pieces in commit order, the later wins, each u32 offset, u32 length, u32 checksum, bytes. With the
 *   highest bit of the length set it is a hole, without bytes.
 */
import { crc32 } from 'node:zlib'
import type { TimeSpec } from '../base/clock.js'
import { CHUNK_MAX_BYTES, HASH_BYTES, WINDOW_BYTES } from '../base/limits.js'
import { invariant } from '../base/invariant.js'
import { PosixError } from '../base/errno.js'
import type { ChunkRef } from '../chunk/contract.js'
import { BODY_PIECE_BYTES, EXTENT_BYTES, type Attr, type BodyPiece, type Extent, type InodeType } from './contract.js'

const INODE_VERSION = 1
export const INODE_HEAD_BYTES = 70
/** The bit above them: a file made without a name that has had none yet. */
const MODE_BITS = 0o7777
/** Of the mode's word: the file has a body. */
const HAS_BODY = 0x2000
const DIRECTORY_SIZE_BYTES = 4096

export const TAIL_NONE = 0
export const TAIL_EXTENTS = 1
export const TAIL_TARGET = 2
export const TAIL_NUMBER = 3

const TYPES: readonly InodeType[] = ['file', 'directory', 'symlink', 'fifo', 'socket', 'char', 'block']

export function typeCode(type: InodeType): number {
  return TYPES.indexOf(type)
}

function typeName(code: number): InodeType {
  const type = TYPES[code]
  if (type === undefined) throw new PosixError('EIO', `unknown inode type ${code}`)
  return type
}

export interface Inode {
  readonly attr: Attr
  readonly tailKind: number
  readonly hasWindows: boolean
  readonly tail: Buffer
}

export function decodeInode(ino: number, record: Buffer): Inode {
  if (record.length < INODE_HEAD_BYTES || record[0] !== INODE_VERSION) {
    throw new PosixError('EIO', `inode ${ino} has a record that this version cannot read`)
  }
  const flags = record.readUInt8(1)
  const type = typeName(flags & 0x0f)
  const tailKind = (flags >> 4) & 3
  const tail = record.subarray(INODE_HEAD_BYTES)
  if (tailKind === TAIL_NUMBER && tail.length < NUMBER_BYTES)
    throw new PosixError('EIO', `inode ${ino} has a record that was cut`)
  const number = tailKind === TAIL_NUMBER ? readU56(tail, 0) : 0
  const sizeBytes = type === 'directory' ? DIRECTORY_SIZE_BYTES : type === 'symlink' ? tail.length : readU56(record, 16)
  const mtime = readTime(record, 43)
  const ctime = readTime(record, 52, mtime)
  const attr: Attr = {
    ino,
    type,
    mode: record.readUInt16LE(2) & MODE_BITS,
    uid: record.readUInt32LE(4),
    gid: record.readUInt32LE(8),
    nlink: record.readUInt32LE(12),
    sizeBytes,
    allocatedBytes: readU56(record, 23),
    rdev: type === 'char' || type === 'block' ? number : 0,
    dataVersion: record.readUInt32LE(30),
    atime: readTime(record, 34, mtime),
    mtime,
    ctime,
    btime: readTime(record, 61, ctime),
    parent: type === 'directory' ? number : 0,
    hasXattrs: (flags & 0x80) !== 0,
    hasExtents: type === 'file' && (tailKind === TAIL_EXTENTS || (flags & 0x40) !== 0),
    hasBody: (record.readUInt16LE(2) & HAS_BODY) !== 0,
  }
  return { attr, tailKind, hasWindows: (flags & 0x40) !== 0, tail }
}

const NUMBER_BYTES = 7

/** Small ones without floating point: V8 keeps those in the object that they are put into. */
export function readU56(buffer: Buffer, at: number): number {
  const high = buffer.readUIntLE(at + 4, 3)
  const low = buffer.readUInt32LE(at)
  return high === 0 ? low : low + high * 0x1_0000_0000
}

export function writeU56(buffer: Buffer, value: number, at: number): void {
  buffer.writeUInt32LE(value % 0x1_0000_0000, at)
  buffer.writeUIntLE(Math.floor(value / 0x1_0000_0000), at + 4, 3)
}

/** The times of an inode are mostly the same: then one object serves for all, since caches hold very many. */
function readTime(record: Buffer, at: number, like?: TimeSpec): TimeSpec {
  const high = record.readInt8(at + 4)
  const low = record.readUInt32LE(at)
  const sec = high === 0 ? low : low + high * 0x1_0000_0000
  const nsec = record.readUInt32LE(at + 5)
  return like?.sec === sec && like.nsec === nsec ? like : { sec, nsec }
}

/** Extents as the scripts keep them; offsets count from the start of `window`. */
export function encodeExtents(extents: readonly Extent[], window: number): Buffer {
  const out = Buffer.alloc(extents.length * EXTENT_BYTES)
  let at = 0
  for (const extent of extents) {
    const offset = extent.fileOffset - window * WINDOW_BYTES
    invariant(offset >= 0 && offset + extent.lengthBytes <= WINDOW_BYTES, 'an extent lies in one window')
    invariant(extent.lengthBytes > 0, 'an extent is not empty')
    out.writeUInt32LE(offset, at)
    out.writeUInt32LE(extent.lengthBytes, at + 4)
    if (extent.chunk !== null) {
      invariant(extent.chunk.root.length === HASH_BYTES, 'a root hash has 32 bytes')
      writeU56(out, extent.chunk.id, at + 8)
      out.writeUIntLE(extent.chunkOffset, at + 15, 3)
      out.writeUIntLE(extent.chunk.lengthBytes, at + 18, 3)
      out.set(extent.chunk.root, at + 21)
    }
    at += EXTENT_BYTES
  }
  return out
}

export function decodeExtents(blob: Buffer, window: number): Extent[] {
  if (blob.length % EXTENT_BYTES !== 0) throw new PosixError('EIO', 'an extent map has a broken length')
  const extents: Extent[] = []
  const chunks = new Map<number, ChunkRef>()
  for (let at = 0; at < blob.length; at += EXTENT_BYTES) {
    const id = readU56(blob, at + 8)
    const offset = blob.readUInt32LE(at)
    const lengthBytes = blob.readUInt32LE(at + 4)
    const chunkOffset = blob.readUIntLE(at + 15, 3)
    const chunkBytes = blob.readUIntLE(at + 18, 3)
    // What the writer never makes (encodeExtents, commit.lua): taken for true it would be read, or freed, as something else.
    const isWhole = lengthBytes > 0 && offset + lengthBytes <= WINDOW_BYTES
    const isInChunk = id === 0 || (chunkBytes <= CHUNK_MAX_BYTES && chunkOffset + lengthBytes <= chunkBytes)
    if (!isWhole || !isInChunk || id > Number.MAX_SAFE_INTEGER) {
      throw new PosixError('EIO', 'an extent map names what cannot be')
    }
    const chunk = id === 0 ? null : chunkOf(chunks, id, chunkBytes, blob, at + 21)
    extents.push({ fileOffset: window * WINDOW_BYTES + offset, lengthBytes, chunkOffset, chunk })
  }
  return extents
}

/** One object for all extents of a chunk: of scattered writes it has a hundred. Its root is at `at`. */
function chunkOf(known: Map<number, ChunkRef>, id: number, lengthBytes: number, blob: Buffer, at: number): ChunkRef {
  const same = known.get(id)
  const end = at + HASH_BYTES
  if (same?.lengthBytes === lengthBytes && blob.compare(same.root, 0, HASH_BYTES, at, end) === 0) return same
  const chunk = { id, lengthBytes, root: Buffer.from(blob.subarray(at, end)) }
  known.set(id, chunk)
  return chunk
}

const HOLE_BIT = 0x8000_0000

/** Pieces as commit-inline.lua takes them; it may shift them. */
export function encodeBody(
  ino: number,
  pieces: readonly { readonly fileOffset: number; readonly bytes: Buffer }[],
): Buffer {
  const out = Buffer.allocUnsafe(pieces.reduce((sum, { bytes }) => sum + BODY_PIECE_BYTES + bytes.length, 0))
  let at = 0
  for (const { fileOffset, bytes } of pieces) {
    invariant(bytes.length > 0, 'a piece is not empty')
    out.writeUInt32LE(fileOffset, at)
    out.writeUInt32LE(bytes.length, at + 4)
    out.writeUInt32LE(checksum(ino, bytes), at + 8)
    at += BODY_PIECE_BYTES + bytes.copy(out, at + BODY_PIECE_BYTES)
  }
  return out
}

/** Errors: EIO when a piece is not what was written. */
export function decodeBody(ino: number, body: Buffer): BodyPiece[] {
  const pieces: BodyPiece[] = []
  // A copy: what came from the connection may be a small part of a large block of memory.
  const own = Buffer.from(body)
  for (let at = 0; at < own.length;) {
    if (own.length - at < BODY_PIECE_BYTES) throw brokenBody(ino)
    const fileOffset = own.readUInt32LE(at)
    const length = own.readUInt32LE(at + 4)
    const start = at + BODY_PIECE_BYTES
    if (length >= HOLE_BIT) {
      pieces.push({ fileOffset, lengthBytes: length - HOLE_BIT, bytes: null })
      at = start
      continue
    }
    const bytes = own.subarray(start, start + length)
    if (bytes.length < length || own.readUInt32LE(at + 8) !== checksum(ino, bytes)) throw brokenBody(ino)
    pieces.push({ fileOffset, lengthBytes: length, bytes })
    at = start + length
  }
  return pieces
}

function brokenBody(ino: number): PosixError {
  return new PosixError('EIO', `data of inode ${ino} in its metadata does not match its checksum`)
}

/** CRC-32 that begins with the inode's number: the bytes of another file do not pass for this one's. */
function checksum(ino: number, bytes: Buffer): number {
  return crc32(bytes, (ino ^ Math.floor(ino / 0x1_0000_0000)) >>> 0)
}

/** A member of a directory's zset: the name, a NUL, u56 ino, u8 type. */
const DIRENT_TAIL_BYTES = 9

export function decodeDirent(member: Buffer): { name: Buffer; ino: number; type: InodeType } {
  const cut = member.length - DIRENT_TAIL_BYTES
  if (cut < 0) throw new PosixError('EIO', 'a name in a directory was cut')
  return {
    name: Buffer.from(member.subarray(0, cut)),
    ino: readU56(member, cut + 1),
    type: typeName(member.readUInt8(cut + 8)),
  }
}

/** A window as the holder of a chunk: u56 ino, u32 window. In a record u32 data version follows (scripts/lib/holders.lua). */
const HOLDER_BYTES = 15

export function encodeHolder(ino: number, window: number): Buffer {
  const out = Buffer.alloc(HOLDER_BYTES - 4)
  writeU56(out, ino, 0)
  out.writeUInt32LE(window, 7)
  return out
}

/** The data version of `holder` in a record; undefined if it is not in it. */
export function holderVersion(record: Buffer, holder: Buffer): number | undefined {
  for (let at = 0; at + HOLDER_BYTES <= record.length; at += HOLDER_BYTES) {
    if (record.subarray(at, at + holder.length).equals(holder)) return record.readUInt32LE(at + holder.length)
  }
  return undefined
}

/** What the janitor is to look at (scripts/lib/mutate.lua, claim): u48 ms, u8 kind, u56 ino, u32 window, extents. */
export interface Claim {
  readonly kind: 'discard' | 'intent'
  readonly ino: number
  readonly window: number
  readonly chunks: readonly number[]
}

const CLAIM_HEAD_BYTES = 18

export function decodeClaim(entry: Buffer): Claim {
  if (entry.length < CLAIM_HEAD_BYTES) throw new PosixError('EIO', 'a claim on chunks was cut')
  const window = entry.readUInt32LE(14)
  const ids = decodeExtents(entry.subarray(CLAIM_HEAD_BYTES), window).flatMap(({ chunk }) => chunk?.id ?? [])
  return { kind: entry[6] === 0 ? 'discard' : 'intent', ino: readU56(entry, 7), window, chunks: [...new Set(ids)] }
}
