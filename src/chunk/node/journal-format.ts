/**
 * What is in the logs of a node's journal (journal-file.ts), as bytes. Pure. Numbers are little-endian.
 *
 *     offset  bytes
 *          0     64  head: magic "RINGJRNL" (8); version, 2 (4); state (4): 1 in use, 2 settled (every chunk in it has its file, on
 *                    disk); generation (8): rises with each use of either log; salt (8): random, of this use; SHA-256 over all that
 *       4096     64  the head again, in another sector
 *       8192     ..  records, one after the other, each at a multiple of 8
 *
 *          0      4  magic "RJR2"
 *          4      4  kind: 1 a chunk, 2 chunks that were removed
 *          8      8  salt of the log
 *         16      8  number: rises from record to record
 *         24      8  of a chunk its id, else 0
 *         32      4  length of the body
 *         36      4  length of the bound part of the body
 *         40      4  CRC-32 over the 40 bytes above
 *         44      4  0
 *         48     32  SHA-256 over the 48 bytes above and the bound part
 *         80     ..  body: of a chunk its file (../format.ts), bound as far as its data, which its leaf hash guards;
 *                    of removed ones their ids, 8 bytes each, all bound. Zeros up to a multiple of 8
 *         ..     ..  behind the last one zeros up to a multiple of 4096, then what an earlier use has left
 *
 * Version 1 is read, too: its head has no salt and is there once, its records begin at 4096 and have the generation in place of the salt, and
 * neither number, id nor CRC.
 *
 * Invariants:
 * - A record is what has the salt of the log's use, a number above those before it, and hashes that match. So neither what an earlier
 *   use has left behind the end is taken for one, nor a copy of a record in the data of another.
 * - What is behind a bad place is found: a bad record hides none but itself. (Of version 1 it does: without a salt, what is found
 *   behind it may be anything.) The end is where nothing of this use follows.
 */
import { createHash, hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { HASH_BYTES, MIB } from '../../base/limits.js'
import { decodePrefix } from '../format.js'
import { firstBadLeaf, sumBytes } from '../hash.js'

export const JOURNAL_BYTES = 8 * MIB
export const JOURNAL_START = 8192
const HEAD_COPIES = [0, 4096] as const
const LOG_MAGIC = Buffer.from('RINGJRNL', 'latin1')
const VERSION = 2
const HEAD_BYTES = 32
const OLD_HEAD_BYTES = 24
const ALIGN_BYTES = 8
const PAGE_OF_ZEROS = Buffer.alloc(4096)
const SALT_AT = 8

/** Of the records of one version. */
interface Layout {
  readonly start: number
  readonly magic: number
  /** Without the SHA-256, which follows. */
  readonly headBytes: number
  readonly lengthsAt: number
}

const NEW: Layout = { start: JOURNAL_START, magic: 0x3252_4a52, headBytes: 48, lengthsAt: 32 }
const OLD: Layout = { start: 4096, magic: 0x3152_4a52, headBytes: 24, lengthsAt: 16 }
const NUMBER_AT = 16
const ID_AT = 24
const CRC_AT = 40
/** Two salts differ in about half of their 64 bits. */
const SAME_SALT_BITS_MAX = 16

export type LogState = 'open' | 'settled'
export type RecordKind = 'chunk' | 'removed'

/** One use of a log. */
export interface LogUse {
  readonly generation: number
  /** null: of version 1. */
  readonly salt: bigint | null
}

export interface LogHead extends LogUse {
  readonly state: LogState
}

export interface JournalRecord {
  readonly kind: RecordKind
  /** Of version 1: 0. */
  readonly number: number
  /** Of a chunk; else null. */
  readonly id: number | null
  readonly body: Buffer
  /** Where the next one begins. */
  readonly end: number
}

/** From one place up to another, which is not of it. */
export interface Span {
  readonly from: number
  readonly to: number
}

/** What is no record of the log, and lies where one should be. */
export interface BadPlace extends Span {
  /** The chunk that was there, as far as its head says. */
  readonly id: number | null
  /** Of the record that was there, if that can be told; else of the one before. */
  readonly number: number
  /** Nothing of this use follows: it may be what a crash has cut off, which was never acknowledged. Not if the disk cannot read it. */
  readonly isLast: boolean
  /** Some of it the disk cannot read. */
  readonly isUnreadable: boolean
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** All that is before the records. */
export function encodeLogHead(state: LogState, { generation, salt }: LogUse): Buffer {
  const head = Buffer.alloc(JOURNAL_START)
  for (const at of HEAD_COPIES) {
    LOG_MAGIC.copy(head, at)
    head.writeUInt32LE(VERSION, at + 8)
    head.writeUInt32LE(state === 'open' ? 1 : 2, at + 12)
    head.writeBigUInt64LE(BigInt(generation), at + 16)
    head.writeBigUInt64LE(salt ?? 0n, at + 24)
    sha256(head.subarray(at, at + HEAD_BYTES)).copy(head, at + HEAD_BYTES)
  }
  return head
}

/** Of the start of a log; null: neither copy is good. Of a write that was cut off one is older than the other. */
export function decodeLogHead(bytes: Buffer): LogHead | null {
  const [first, second] = HEAD_COPIES.map((at) => headAt(bytes.subarray(at, at + HEAD_BYTES + HASH_BYTES)))
  if (first === null || first === undefined) return second ?? null
  if (second === null || second === undefined || second.generation < first.generation) return first
  return second.generation > first.generation || second.state === 'settled' ? second : first
}

function headAt(bytes: Buffer): LogHead | null {
  if (bytes.length < HEAD_BYTES + HASH_BYTES || !bytes.subarray(0, 8).equals(LOG_MAGIC)) return null
  const version = bytes.readUInt32LE(8)
  const length = version === VERSION ? HEAD_BYTES : OLD_HEAD_BYTES
  const isGood = sha256(bytes.subarray(0, length)).equals(bytes.subarray(length, length + HASH_BYTES))
  if (!isGood || (version !== VERSION && version !== 1)) return null
  const state = bytes.readUInt32LE(12) === 1 ? 'open' : 'settled'
  const salt = version === VERSION ? bytes.readBigUInt64LE(24) : null
  return { state, generation: Number(bytes.readBigUInt64LE(16)), salt }
}

export interface RecordName {
  readonly kind: RecordKind
  /** Above those of all records before it. */
  readonly number: number
  /** Of a chunk; else 0. */
  readonly id: number
}

/** `bound`: how many bytes of the body are bound to the record's head. */
export function encodeRecord(name: RecordName, salt: bigint, body: readonly Uint8Array[], bound: number): Buffer {
  const headBytes = NEW.headBytes + HASH_BYTES
  const lengthBytes = sumBytes(body)
  const record = Buffer.alloc(aligned(headBytes + lengthBytes))
  copyTo(record, headBytes, body)
  encodeRecordHead(name, salt, { padded: record.subarray(headBytes), lengthBytes }, bound).copy(record, 0)
  return record
}

function copyTo(target: Buffer, from: number, pieces: readonly Uint8Array[]): void {
  let at = from
  for (const piece of pieces) {
    target.set(piece, at)
    at += piece.length
  }
}

/** The body of a record, the same for all logs that it is written to. */
export interface RecordBody {
  /** With the zeros behind it. */
  readonly padded: Buffer
  readonly lengthBytes: number
}

/** A copy: nobody changes it while it is written. */
export function paddedBody(pieces: readonly Uint8Array[]): RecordBody {
  const lengthBytes = sumBytes(pieces)
  // What stands before it in a record is aligned, too.
  const padded = Buffer.alloc(aligned(lengthBytes))
  copyTo(padded, 0, pieces)
  return { padded, lengthBytes }
}

/** What stands before the body. */
export function encodeRecordHead(
  { kind, number, id }: RecordName,
  salt: bigint,
  { padded, lengthBytes }: RecordBody,
  bound: number,
): Buffer {
  const { headBytes, magic, lengthsAt } = NEW
  // The bound part behind it, only to be hashed in one piece.
  const bytes = Buffer.alloc(headBytes + Math.max(bound, HASH_BYTES))
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUInt32LE(kind === 'chunk' ? 1 : 2, 4)
  bytes.writeBigUInt64LE(salt, SALT_AT)
  writeU64(bytes, number, NUMBER_AT)
  writeU64(bytes, id, ID_AT)
  bytes.writeUInt32LE(lengthBytes, lengthsAt)
  bytes.writeUInt32LE(bound, lengthsAt + 4)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CRC_AT)), CRC_AT)
  padded.copy(bytes, headBytes, 0, bound)
  const sum = hash('sha256', bytes.subarray(0, headBytes + bound), 'buffer')
  sum.copy(bytes, headBytes)
  return bytes.subarray(0, headBytes + HASH_BYTES)
}

function writeU64(to: Buffer, value: number, at: number): void {
  to.writeUInt32LE(value % 2 ** 32, at)
  to.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4)
}

function aligned(at: number): number {
  return Math.ceil(at / ALIGN_BYTES) * ALIGN_BYTES
}

/**
 * Zeros from `end` up to the end of its page, to be written with what ends there: a page that is written as a whole need not be read from the
 * disk first. Behind the end of a log is nothing that anybody needs.
 */
export function restOfPage(end: number): Buffer {
  return PAGE_OF_ZEROS.subarray(0, -end & (PAGE_OF_ZEROS.length - 1))
}

export function encodeIds(ids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(ids.length * 8)
  for (const [index, id] of ids.entries()) bytes.writeBigUInt64LE(BigInt(id), index * 8)
  return bytes
}

export function idsIn(body: Buffer): number[] {
  return Array.from({ length: Math.floor(body.length / 8) }, (_, index) => Number(body.readBigUInt64LE(index * 8)))
}

/** Where the records of a log begin. */
export function startOf({ salt }: LogUse): number {
  return layoutOf(salt).start
}

function layoutOf(salt: bigint | null): Layout {
  return salt === null ? OLD : NEW
}

/** How many bytes at the start of a record say how long it is. */
export const RECORD_HEAD_MAX_BYTES = NEW.headBytes + HASH_BYTES

interface RecordHead {
  readonly kind: RecordKind
  readonly number: number
  readonly id: number | null
  readonly bodyAt: number
  readonly bodyEnd: number
  readonly boundEnd: number
}

/** The head of a record at `at`, if there is one; whether its body is what it was is not looked at. */
function recordHead(bytes: Buffer, at: number, { generation, salt }: LogUse): RecordHead | null {
  const { magic, headBytes, lengthsAt } = layoutOf(salt)
  const bodyAt = at + headBytes + HASH_BYTES
  if (bodyAt > bytes.length || bytes.readUInt32LE(at) !== magic) return null
  if (bytes.readBigUInt64LE(at + SALT_AT) !== (salt ?? BigInt(generation))) return null
  if (salt !== null && crc32(bytes.subarray(at, at + CRC_AT)) !== bytes.readUInt32LE(at + CRC_AT)) return null
  const kind = bytes.readUInt32LE(at + 4) === 1 ? 'chunk' : 'removed'
  return {
    kind,
    number: salt === null ? 0 : Number(bytes.readBigUInt64LE(at + NUMBER_AT)),
    id: salt === null || kind === 'removed' ? null : Number(bytes.readBigUInt64LE(at + ID_AT)),
    bodyAt,
    bodyEnd: bodyAt + bytes.readUInt32LE(at + lengthsAt),
    boundEnd: bodyAt + bytes.readUInt32LE(at + lengthsAt + 4),
  }
}

/** How long the record is whose head this is; null: it is none of this use. */
export function recordBytes(head: Buffer, use: LogUse): number | null {
  return recordHead(head, 0, use)?.bodyEnd ?? null
}

/** null: there is no good one. */
export function recordAt(bytes: Buffer, at: number, use: LogUse): JournalRecord | null {
  const head = recordHead(bytes, at, use)
  if (head === null || head.bodyEnd > bytes.length || head.boundEnd > head.bodyEnd) return null
  const sumAt = head.bodyAt - HASH_BYTES
  const sum = sha256(bytes.subarray(at, sumAt), bytes.subarray(head.bodyAt, head.boundEnd))
  if (!sum.equals(bytes.subarray(sumAt, head.bodyAt))) return null
  const { kind, number } = head
  const body = bytes.subarray(head.bodyAt, head.bodyEnd)
  const id = kind === 'chunk' ? chunkIn(body) : null
  return kind === 'chunk' && id === null ? null : { kind, number, id, body, end: aligned(head.bodyEnd) }
}

/** The id, or null if header or data are not what they were. */
function chunkIn(body: Buffer): number | null {
  try {
    const { header, leaves, dataOffset } = decodePrefix(body)
    return firstBadLeaf([body.subarray(dataOffset)], leaves, 0) < 0 ? header.id : null
  } catch {
    return null
  }
}

/** `above`: the number of the record before. `unreadable`: of `bytes`, zeros there. null: it is good, or the end. */
export function badPlaceAt(
  bytes: Buffer,
  at: number,
  use: LogUse,
  above: number,
  unreadable: readonly Span[],
): BadPlace | null {
  const { salt } = use
  const headEnd = at + RECORD_HEAD_MAX_BYTES
  if (headEnd > bytes.length) return null
  const head = salt === null ? null : recordHead(bytes, at, use)
  const isOwn = head !== null && head.number > above
  const { id, number } = isOwn ? head : { id: null, number: above }
  const place = (to: number, isLast: boolean): BadPlace => {
    return { from: at, to, id, number, isLast, isUnreadable: isAmong(unreadable, at, to) }
  }
  // With a good head the end of the bad one is known.
  const next = salt === null ? null : nextHead(bytes, isOwn ? aligned(head.bodyEnd) : at + ALIGN_BYTES, use, number)
  if (next !== null) return place(next, false)
  if (isOwn) return place(Math.min(head.bodyEnd, bytes.length), true)
  // Of what cannot be read nobody can tell that it is the end.
  const isEnd = !isAmong(unreadable, at, headEnd)
  const isCutOff = salt !== null && isLikeSalt(bytes.readBigUInt64LE(at + SALT_AT), salt)
  return isEnd && !isCutOff ? null : place(headEnd, true)
}

function isAmong(spans: readonly Span[], from: number, to: number): boolean {
  return spans.some((span) => span.from < to && span.to > from)
}

/** A head that has lost a few bits in its salt is still none of an earlier use. */
function isLikeSalt(found: bigint, salt: bigint): boolean {
  let bits = 0
  for (let left = found ^ salt; left !== 0n; left &= left - 1n) bits++
  return bits <= SAME_SALT_BITS_MAX
}

/** Where the next record of this use begins, good or not. */
function nextHead(bytes: Buffer, from: number, use: LogUse, above: number): number | null {
  const salt = Buffer.alloc(8)
  salt.writeBigUInt64LE(use.salt ?? 0n)
  for (let found = bytes.indexOf(salt, from + SALT_AT); found >= 0; found = bytes.indexOf(salt, found + 1)) {
    const at = found - SALT_AT
    const head = at % ALIGN_BYTES === 0 ? recordHead(bytes, at, use) : null
    if (head !== null && head.number > above) return at
  }
  return null
}

/** What was put into a log and not removed afterwards, the files of the chunks by id; and what is bad in it. */
export interface LogContent {
  readonly chunks: ReadonlyMap<number, Buffer>
  readonly bad: readonly BadPlace[]
  /** Where the next record would go, and the number of the last one. */
  readonly end: number
  readonly number: number
}

/** `bytes`: the whole log. `unreadable`: what the disk could not read of it, zeros there. */
export function contentOf(bytes: Buffer, use: LogUse, unreadable: readonly Span[] = []): LogContent {
  const chunks = new Map<number, Buffer>()
  const bad: BadPlace[] = []
  let number = 0
  let at = startOf(use)
  while (at < bytes.length) {
    const record = recordAt(bytes, at, use)
    if (record !== null && (use.salt === null || record.number > number)) {
      take(chunks, record)
      number = record.number
      at = record.end
      continue
    }
    const place = badPlaceAt(bytes, at, use, number, unreadable)
    if (place === null) break
    bad.push(place)
    at = place.isLast ? aligned(place.to) : place.to
    if (!place.isLast) continue
    number = place.number
    break
  }
  return { chunks, bad, end: at, number }
}

function take(chunks: Map<number, Buffer>, { id, body }: JournalRecord): void {
  if (id === null) {
    for (const one of idsIn(body)) chunks.delete(one)
    return
  }
  // Later ones last.
  chunks.delete(id)
  chunks.set(id, body)
}
