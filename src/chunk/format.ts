/**
 * The chunk file. One file holds one chunk and says by itself what it is, so that lost metadata can be rebuilt from the
 * nodes' disks alone. All numbers are little-endian.
 *
 *     offset  bytes
 *          0      8  magic "RINGCHNK"
 *          8      4  format version, 2 (1 had leaves of 64 KiB); 3 if the data were appended; 4 if the chunk is packed: it has orders
 *         12      4  header length H = 96 + 16 * E + 32; version 4: 96 + 24 * E + 32
 *         16     16  volume uuid
 *         32      8  chunk id
 *         40      4  data length D, 1 to CHUNK_MAX_BYTES
 *         44      4  number of origin extents E, 0 to ORIGIN_EXTENTS_MAX; version 4: 1 to ORIGIN_ORDERS_MAX
 *         48     32  root hash: SHA-256 over the leaf table
 *         80      8  origin: ino
 *         88      8  origin: order (microseconds of the writer's clock, rising); version 3: bit 63 set if the data were
 *                    appended, so that the file offsets are where the writer took the end of the file to be
 *         96   16*E  origin: extents, each file offset (8), offset in the chunk (4), length (4)
 *    96+16*E    8*E  only version 4: the order of each extent; bit 63 set if its data were appended
 *       H-32     32  SHA-256 over everything above
 *          H   32*L  leaf table: SHA-256 of each leaf of LEAF_BYTES; L = ceil(D / LEAF_BYTES)
 *                    zeros up to the next multiple of 4096, only if D > LEAF_BYTES
 *          P      D  data; the file ends with it: its size is exactly P + D
 *
 * Every format has the magic, its version, H and the checksum where these two have them: a program that does not know a version can
 * tell a chunk file of another program from a bad one.
 *
 * Why so: a chunk of one leaf is packed, so that a small file costs one block where it can, and one pread of the start of
 * the file gives everything. A larger chunk has its data on a page boundary: leaf k is at P + k * LEAF_BYTES, any run of
 * leaves is one pread of whole pages, and P follows from the header (which the store keeps in memory).
 */
import { hash } from 'node:crypto'
import { PosixError } from '../base/errno.js'
import { RingfsError } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import { CHUNK_MAX_BYTES, HASH_BYTES, LEAF_BYTES } from '../base/limits.js'
import { ORIGIN_EXTENTS_MAX, ORIGIN_ORDERS_MAX, type ChunkOrigin, type ChunkOriginExtent } from './contract.js'
import { rootOf } from './hash.js'

const MAGIC = Buffer.from('RINGCHNK', 'latin1')
export const CHUNK_FORMAT_VERSION = 2
/** Older programs would take the place of appended data for certain, and are to say that they are too old. */
const CHUNK_FORMAT_APPENDED = 3
/** Older programs would lay all of a packed chunk over what was written before it was packed. */
export const CHUNK_FORMAT_PACKED = 4
const FIXED_BYTES = 96
const EXTENT_BYTES = 16
const ORDER_BYTES = 8
const PAGE_BYTES = 4096
const ORDER_AT = 88
/** The last of an order, little-endian. */
const ORDER_TOP_BYTE = 7
const APPENDED_BIT = 0x80
/** 2^32 does not fit into the high word's share of 2^53. */
const HIGH_WORD_MAX = 2 ** 21 - 1
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Header, leaf table and padding of any chunk fit into this. */
export const PREFIX_MAX_BYTES =
  FIXED_BYTES +
  Math.max(EXTENT_BYTES * ORIGIN_EXTENTS_MAX, (EXTENT_BYTES + ORDER_BYTES) * ORIGIN_ORDERS_MAX) +
  HASH_BYTES +
  (CHUNK_MAX_BYTES / LEAF_BYTES) * HASH_BYTES +
  PAGE_BYTES
/** Enough for the prefix of nearly every chunk, and for all of a small one. */
export const PREFIX_PROBE_BYTES = 3 * PAGE_BYTES

export interface ChunkHeader {
  /** Volume uuid, lower case with dashes. */
  readonly volume: string
  readonly id: number
  readonly lengthBytes: number
  /** 32 bytes. */
  readonly root: Buffer
  readonly origin: ChunkOrigin
}

export interface ChunkPrefix {
  readonly header: ChunkHeader
  readonly leaves: Buffer
  /** P in the drawing. */
  readonly dataOffset: number
}

export function leafCount(lengthBytes: number): number {
  return Math.ceil(lengthBytes / LEAF_BYTES)
}

/** H in the drawing. */
function headerBytes(extents: number, isPacked: boolean): number {
  return FIXED_BYTES + (isPacked ? EXTENT_BYTES + ORDER_BYTES : EXTENT_BYTES) * extents + HASH_BYTES
}

/** P in the drawing: where the data begins. */
export function dataOffsetOf(extents: number, lengthBytes: number, isPacked = false): number {
  const end = headerBytes(extents, isPacked) + leafCount(lengthBytes) * HASH_BYTES
  return lengthBytes > LEAF_BYTES ? Math.ceil(end / PAGE_BYTES) * PAGE_BYTES : end
}

function isCount(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max
}

function extentProblem(extent: ChunkOriginExtent, lengthBytes: number): string | undefined {
  const { fileOffset, chunkOffset, lengthBytes: length } = extent
  if (!isCount(length, lengthBytes) || length === 0) return 'extent length out of bounds'
  if (!isCount(chunkOffset, lengthBytes - length)) return 'extent lies outside the chunk'
  if (!isCount(fileOffset, Number.MAX_SAFE_INTEGER - length)) return 'file offset out of bounds'
  return undefined
}

/** What is wrong with a header that someone else made; undefined if nothing is. */
function headerProblem(header: ChunkHeader): string | undefined {
  const { volume, id, lengthBytes, root, origin } = header
  if (!UUID.test(volume)) return 'volume is not a uuid'
  if (!isCount(id, Number.MAX_SAFE_INTEGER)) return 'chunk id out of bounds'
  if (!isCount(lengthBytes, CHUNK_MAX_BYTES) || lengthBytes === 0) return 'data length out of bounds'
  if (root.length !== HASH_BYTES) return 'root hash is not 32 bytes'
  return originProblem(origin, lengthBytes)
}

/** As headerProblem. */
export function originProblem(origin: ChunkOrigin, lengthBytes: number): string | undefined {
  if (!isCount(origin.ino, Number.MAX_SAFE_INTEGER)) return 'ino out of bounds'
  if (!isCount(origin.order, Number.MAX_SAFE_INTEGER)) return 'order out of bounds'
  if (origin.extents.length > ORIGIN_EXTENTS_MAX) return `more than ${ORIGIN_EXTENTS_MAX} origin extents`
  for (const extent of origin.extents) {
    const problem = extentProblem(extent, lengthBytes)
    if (problem !== undefined) return problem
  }
  return ordersProblem(origin)
}

function ordersProblem({ extents, orders, appends, appended }: ChunkOrigin): string | undefined {
  if (orders === undefined) return appends === undefined ? undefined : 'appended pieces without orders'
  if (appended === true) return 'orders of appended data'
  if (orders.length === 0) return 'no orders'
  if (orders.length !== extents.length) return 'not an order for each extent'
  if (orders.length > ORIGIN_ORDERS_MAX) return `more than ${ORIGIN_ORDERS_MAX} orders`
  if (!orders.every((order) => isCount(order, Number.MAX_SAFE_INTEGER))) return 'order of a piece out of bounds'
  let least = 0
  for (const index of appends ?? []) {
    if (!isCount(index, extents.length - 1) || index < least) return 'appended piece out of bounds'
    least = index + 1
  }
  return undefined
}

function writeU64(to: Buffer, value: number, at: number): void {
  to.writeUInt32LE(value % 2 ** 32, at)
  to.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4)
}

function readU64(from: Buffer, at: number): number {
  const high = from.readUInt32LE(at + 4)
  if (high > HIGH_WORD_MAX) throw corrupt('a number is above 2^53')
  return high * 2 ** 32 + from.readUInt32LE(at)
}

function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

function corrupt(why: string): RingfsError {
  return new RingfsError('CHUNK_CORRUPT', `not a good chunk file: ${why}`)
}

/**
 * Header, leaf table and padding, in an ArrayBuffer of its own (a worker gets it without anything around it).
 * Errors: PosixError EINVAL for a header that does not hold together: it may come from outside.
 */
export function encodePrefix(header: ChunkHeader, leaves: Uint8Array): Buffer {
  const problem = headerProblem(header)
  if (problem !== undefined) throw new PosixError('EINVAL', `chunk ${header.id}: ${problem}`)
  if (leaves.length !== leafCount(header.lengthBytes) * HASH_BYTES) {
    throw new PosixError('EINVAL', `chunk ${header.id}: leaf table of the wrong length`)
  }
  const { extents, orders, appends } = header.origin
  const isPacked = orders !== undefined
  const out = Buffer.from(new ArrayBuffer(dataOffsetOf(extents.length, header.lengthBytes, isPacked)))
  const checked = headerBytes(extents.length, isPacked) - HASH_BYTES
  writeFixed(out, header)
  for (const [index, extent] of extents.entries()) writeExtent(out, extent, FIXED_BYTES + index * EXTENT_BYTES)
  const ordersAt = ordersStart(extents.length)
  for (const [index, order] of (orders ?? []).entries()) writeU64(out, order, ordersAt + index * ORDER_BYTES)
  for (const index of appends ?? []) markAppended(out, ordersAt + index * ORDER_BYTES)
  sha256(out.subarray(0, checked)).copy(out, checked)
  out.set(leaves, checked + HASH_BYTES)
  return out
}

function writeFixed(out: Buffer, header: ChunkHeader): void {
  const { extents, ino, order, appended, orders } = header.origin
  MAGIC.copy(out, 0)
  out.writeUInt32LE(versionOf(header.origin), 8)
  out.writeUInt32LE(headerBytes(extents.length, orders !== undefined), 12)
  const uuid = Buffer.from(header.volume.replaceAll('-', ''), 'hex')
  invariant(uuid.length === 16, 'a uuid is 16 bytes')
  uuid.copy(out, 16)
  writeU64(out, header.id, 32)
  out.writeUInt32LE(header.lengthBytes, 40)
  out.writeUInt32LE(extents.length, 44)
  header.root.copy(out, 48)
  writeU64(out, ino, 80)
  writeU64(out, order, ORDER_AT)
  if (appended === true) markAppended(out, ORDER_AT)
}

function versionOf({ appended, orders }: ChunkOrigin): number {
  if (orders !== undefined) return CHUNK_FORMAT_PACKED
  return appended === true ? CHUNK_FORMAT_APPENDED : CHUNK_FORMAT_VERSION
}

/** `at`: of an order. */
function markAppended(out: Buffer, at: number): void {
  out.writeUInt8(out.readUInt8(at + ORDER_TOP_BYTE) | APPENDED_BIT, at + ORDER_TOP_BYTE)
}

function isMarked(start: Buffer, at: number): boolean {
  return (start.readUInt8(at + ORDER_TOP_BYTE) & APPENDED_BIT) !== 0
}

function ordersStart(extents: number): number {
  return FIXED_BYTES + extents * EXTENT_BYTES
}

function writeExtent(out: Buffer, extent: ChunkOriginExtent, at: number): void {
  writeU64(out, extent.fileOffset, at)
  out.writeUInt32LE(extent.chunkOffset, at + 8)
  out.writeUInt32LE(extent.lengthBytes, at + 12)
}

/**
 * How many bytes of the start of the file decodePrefix needs. `start` is at least the first bytes of the file.
 * Errors: RingfsError CHUNK_CORRUPT, VOLUME_NEWER.
 */
export function prefixBytesOf(start: Buffer): number {
  if (start.length < FIXED_BYTES) throw corrupt('it is shorter than a header')
  if (!start.subarray(0, 8).equals(MAGIC)) throw corrupt('no chunk magic')
  const version = start.readUInt32LE(8)
  if (version < CHUNK_FORMAT_VERSION || version > CHUNK_FORMAT_PACKED) return foreignPrefixBytes(start, version)
  const isPacked = version === CHUNK_FORMAT_PACKED
  const lengthBytes = start.readUInt32LE(40)
  const extents = start.readUInt32LE(44)
  if (lengthBytes === 0 || lengthBytes > CHUNK_MAX_BYTES) throw corrupt('data length out of bounds')
  if (extents > (isPacked ? ORIGIN_ORDERS_MAX : ORIGIN_EXTENTS_MAX)) throw corrupt('too many origin extents')
  if (start.readUInt32LE(12) !== headerBytes(extents, isPacked)) throw corrupt('header length does not fit')
  return dataOffsetOf(extents, lengthBytes, isPacked)
}

/** Another format, older or newer, is no bad copy; a bit that flipped in the version is one. Answers how much tells which it is. */
function foreignPrefixBytes(start: Buffer, version: number): number {
  const length = start.readUInt32LE(12)
  if (length < FIXED_BYTES + HASH_BYTES || length > PREFIX_MAX_BYTES) throw corrupt('header length does not fit')
  if (start.length < length) return length
  if (!isChecksumRight(start, length)) throw corrupt('header checksum is wrong')
  throw new RingfsError('VOLUME_NEWER', `chunk file of format ${version}; this ringfs knows ${CHUNK_FORMAT_PACKED}`)
}

/** `length`: of the header, with the checksum. */
function isChecksumRight(start: Buffer, length: number): boolean {
  const checked = length - HASH_BYTES
  return sha256(start.subarray(0, checked)).equals(start.subarray(checked, length))
}

/**
 * `start` is at least prefixBytesOf bytes from the start of the file. Everything in it is checked: checksum, bounds, and
 * the leaf table against the root. Errors: RingfsError CHUNK_CORRUPT, VOLUME_NEWER.
 */
export function decodePrefix(start: Buffer): ChunkPrefix {
  const dataOffset = prefixBytesOf(start)
  if (start.length < dataOffset) throw corrupt('it ends inside its header')
  const extents = start.readUInt32LE(44)
  const leavesAt = start.readUInt32LE(12)
  if (!isChecksumRight(start, leavesAt)) throw corrupt('header checksum is wrong')
  const header = readHeader(start, extents)
  const problem = headerProblem(header)
  if (problem !== undefined) throw corrupt(problem)
  const leaves = Buffer.from(start.subarray(leavesAt, leavesAt + leafCount(header.lengthBytes) * HASH_BYTES))
  if (!rootOf(leaves).equals(header.root)) throw corrupt('leaf table does not match the root hash')
  return { header, leaves, dataOffset }
}

function readHeader(start: Buffer, extents: number): ChunkHeader {
  return {
    volume: start.toString('hex', 16, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    id: readU64(start, 32),
    lengthBytes: start.readUInt32LE(40),
    root: Buffer.from(start.subarray(48, 48 + HASH_BYTES)),
    origin: {
      ino: readU64(start, 80),
      order: isAppended(start) ? readOrder(start, ORDER_AT) : readU64(start, ORDER_AT),
      extents: Array.from({ length: extents }, (_, index) => readExtent(start, FIXED_BYTES + index * EXTENT_BYTES)),
      ...(isAppended(start) ? { appended: true } : {}),
      ...(start.readUInt32LE(8) === CHUNK_FORMAT_PACKED ? readOrders(start, extents) : {}),
    },
  }
}

function isAppended(start: Buffer): boolean {
  return start.readUInt32LE(8) === CHUNK_FORMAT_APPENDED && isMarked(start, ORDER_AT)
}

function readOrders(start: Buffer, extents: number): Pick<ChunkOrigin, 'orders' | 'appends'> {
  const at = ordersStart(extents)
  const places = Array.from({ length: extents }, (_, index) => at + index * ORDER_BYTES)
  const orders = places.map((place) => readOrder(start, place))
  const appends = places.flatMap((place, index) => (isMarked(start, place) ? [index] : []))
  return appends.length > 0 ? { orders, appends } : { orders }
}

/** Without its mark. */
function readOrder(start: Buffer, at: number): number {
  const order = Buffer.from(start.subarray(at, at + ORDER_BYTES))
  order.writeUInt8(order.readUInt8(ORDER_TOP_BYTE) & ~APPENDED_BIT, ORDER_TOP_BYTE)
  return readU64(order, 0)
}

function readExtent(start: Buffer, at: number): ChunkOriginExtent {
  return {
    fileOffset: readU64(start, at),
    chunkOffset: start.readUInt32LE(at + 8),
    lengthBytes: start.readUInt32LE(at + 12),
  }
}
