/**
 * The file of a backup. Numbers are little-endian.
 *
 *     offset  bytes
 *          0      8  magic "RINGBKUP"
 *          8      4  format version, 1
 *         12         gzip of records, the first of kind 1, the last of kind 9
 *
 * A record: u8 kind; u32 partition (2^32 - 1: volume-wide); u16 length of the key's end, and the key's end: what stands in the key
 * behind its hash tag (src/meta/keys.ts: `:i`, `:d:17`, …); u32 number of items; the items, each u32 length and bytes. Kinds:
 * 1 head: one item, JSON (BackupHead); 2 hash: field, value, …; 3 zset: member, score as text, …; 4 string: one item;
 * 5 list: items in order; 9 end: one item, SHA-256 over all records before. A key may come in several records.
 */
import { createHash, type Hash } from 'node:crypto'
import * as z from 'zod'
import { RingfsError } from '../../base/errors.js'
import { invariant } from '../../base/invariant.js'
import { MIB } from '../../base/limits.js'

const MAGIC = Buffer.from('RINGBKUP', 'latin1')
const BACKUP_VERSION = 1
export const PREAMBLE_BYTES = 12
export const WIDE = 0xffff_ffff
const RECORD_HEAD_BYTES = 7
/** Versions before wrote 500 claims of the janitor, each of up to all extents of a window, into one record; more is nonsense. */
const RECORD_MAX_BYTES = 512 * MIB
/** What is written: whoever reads has all of a record in memory. */
const PORTION_BYTES = MIB
const KEY_MAX_BYTES = 255

export type RecordKind = 'head' | 'hash' | 'zset' | 'string' | 'list' | 'end'

const KINDS: Readonly<Record<RecordKind, number>> = { head: 1, hash: 2, zset: 3, string: 4, list: 5, end: 9 }

export interface BackupRecord {
  readonly kind: RecordKind
  /** WIDE: no partition's. */
  readonly partition: number
  readonly key: string
  readonly items: readonly Buffer[]
}

const Head = z.object({
  volume: z.string(),
  uuid: z.uuid(),
  formatVersion: z.int().min(1),
  partitions: z.int().min(1),
  /** Of the machine that made it, ms since 1970. */
  takenMs: z.int(),
  version: z.string(),
})

export type BackupHead = Readonly<z.infer<typeof Head>>

/**
 * All items in order, in portions of about PORTION_BYTES and at most `most` items, of which none is longer than that unless it cannot be
 * divided. `together`: so many items, which divide `most`, stay together.
 */
export function* portionsOf<T>(items: readonly T[], together: number, most = Infinity): Generator<readonly T[]> {
  let from = 0
  let bytes = 0
  for (let at = 0; at < items.length; at += together) {
    const next = bytesOf(items.slice(at, at + together))
    if (at > from && (bytes + next > PORTION_BYTES || at - from >= most)) {
      yield items.slice(from, at)
      from = at
      bytes = 0
    }
    bytes += next
  }
  if (from < items.length) yield items.slice(from)
}

/** Those of numbers are few. */
function bytesOf(items: readonly unknown[]): number {
  return items.reduce<number>((sum, item) => sum + (hasLength(item) ? item.length : 0), 0)
}

function hasLength(item: unknown): item is Buffer | string {
  return Buffer.isBuffer(item) || typeof item === 'string'
}

export function encodePreamble(): Buffer {
  const out = Buffer.alloc(PREAMBLE_BYTES)
  MAGIC.copy(out)
  out.writeUInt32LE(BACKUP_VERSION, 8)
  return out
}

/** Errors: RingfsError USAGE, VOLUME_NEWER. */
export function checkPreamble(start: Buffer): void {
  if (start.length < PREAMBLE_BYTES || !start.subarray(0, 8).equals(MAGIC)) {
    throw new RingfsError('USAGE', 'this is no backup of ringfs')
  }
  const version = start.readUInt32LE(8)
  if (version > BACKUP_VERSION) {
    throw new RingfsError('VOLUME_NEWER', `a backup of format ${version}; this ringfs knows ${BACKUP_VERSION}`)
  }
}

/** Makes the bytes of records, and at the end the record that vouches for them. */
export class RecordWriter {
  readonly #hash: Hash = createHash('sha256')

  encode(record: BackupRecord): Buffer {
    const bytes = encodeRecord(record)
    this.#hash.update(bytes)
    return bytes
  }

  end(): Buffer {
    return endOf(this.#hash)
  }
}

function endOf(hash: Hash): Buffer {
  return encodeRecord({ kind: 'end', partition: WIDE, key: '', items: [hash.digest()] })
}

function encodeRecord({ kind, partition, key, items }: BackupRecord): Buffer {
  const name = Buffer.from(key, 'latin1')
  invariant(name.length <= KEY_MAX_BYTES, 'keys are short')
  const total = items.reduce((sum, item) => sum + 4 + item.length, RECORD_HEAD_BYTES + name.length + 4)
  invariant(total <= RECORD_MAX_BYTES, 'what is written can be read')
  const out = Buffer.allocUnsafe(total)
  out.writeUInt8(KINDS[kind], 0)
  out.writeUInt32LE(partition, 1)
  out.writeUInt16LE(name.length, 5)
  let at = RECORD_HEAD_BYTES + name.copy(out, RECORD_HEAD_BYTES)
  at = out.writeUInt32LE(items.length, at)
  for (const item of items) {
    at = out.writeUInt32LE(item.length, at)
    at += item.copy(out, at)
  }
  return out
}

/**
 * Takes the bytes as they come, gives whole records. Errors: RingfsError VOLUME_CORRUPT.
 *
 * Invariant: the work is linear in the bytes that came, whatever they say: a field is looked at once, and a byte is copied a bounded
 * number of times. What was given out is never written over: room is made behind it.
 */
export class RecordReader {
  readonly #hash: Hash = createHash('sha256')
  /** What came and was not given out: from `#start` to `#end`. */
  #bytes: Buffer = Buffer.alloc(0)
  #start = 0
  #end = 0
  /** Of the record at `#start`: where its next length stands, and how many are to come; null: its head has not come yet. */
  #next: { at: number; left: number } | null = null
  #isEnded = false

  push(more: Buffer): BackupRecord[] {
    this.#append(more)
    const records: BackupRecord[] = []
    for (;;) {
      if (this.#start < this.#end && this.#isEnded) throw damaged('something stands behind its end')
      const length = this.#lengthOfRecord()
      if (length === null) return records
      const bytes = this.#bytes.subarray(this.#start, this.#start + length)
      const record = decodeRecord(bytes)
      if (record.kind === 'end') this.#checkEnd(bytes)
      else this.#hash.update(bytes)
      this.#start += length
      this.#next = null
      records.push(record)
    }
  }

  #append(more: Buffer): void {
    const rest = this.#end - this.#start
    if (rest === 0) {
      this.#bytes = more
      this.#start = 0
      this.#end = more.length
      return
    }
    if (this.#end + more.length > this.#bytes.length) {
      // Twice what is there: so each byte is moved once for each that comes.
      const larger = Buffer.allocUnsafe(2 * (rest + more.length))
      this.#bytes.copy(larger, 0, this.#start, this.#end)
      this.#bytes = larger
      this.#start = 0
      this.#end = rest
    }
    this.#end += more.copy(this.#bytes, this.#end)
  }

  /** null: it has not come yet. Goes on where it was. */
  #lengthOfRecord(): number | null {
    const [start, has] = [this.#start, this.#end - this.#start]
    if (this.#next === null) {
      if (has < RECORD_HEAD_BYTES) return null
      kindOf(this.#bytes.readUInt8(start))
      const at = RECORD_HEAD_BYTES + this.#bytes.readUInt16LE(start + 5)
      if (has < at + 4) return null
      this.#next = { at: at + 4, left: this.#bytes.readUInt32LE(start + at) }
    }
    const next = this.#next
    if (next.at + 4 * next.left > RECORD_MAX_BYTES) throw damaged('a record is too long')
    for (; next.left > 0; next.left--) {
      if (has < next.at + 4) return null
      next.at += 4 + this.#bytes.readUInt32LE(start + next.at)
      if (next.at > RECORD_MAX_BYTES) throw damaged('a record is too long')
    }
    return has < next.at ? null : next.at
  }

  /** Nothing vouches for the last record but that there is only one that it can be. */
  #checkEnd(bytes: Buffer): void {
    if (!bytes.equals(endOf(this.#hash))) throw damaged('its checksum is wrong')
    this.#isEnded = true
  }

  /** Errors: RingfsError VOLUME_CORRUPT: the file was cut off. */
  finish(): void {
    if (!this.#isEnded) throw damaged('it ends in the middle')
  }
}

function decodeRecord(bytes: Buffer): BackupRecord {
  const kind = kindOf(bytes.readUInt8(0))
  let at = RECORD_HEAD_BYTES + bytes.readUInt16LE(5)
  const key = bytes.toString('latin1', RECORD_HEAD_BYTES, at)
  const items: Buffer[] = []
  const count = bytes.readUInt32LE(at)
  at += 4
  for (let i = 0; i < count; i++) {
    const length = bytes.readUInt32LE(at)
    items.push(bytes.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return { kind, partition: bytes.readUInt32LE(1), key, items }
}

function kindOf(code: number): RecordKind {
  for (const kind of ['head', 'hash', 'zset', 'string', 'list', 'end'] as const) if (KINDS[kind] === code) return kind
  throw damaged(`a record of unknown kind ${code}`)
}

export function encodeHead(head: BackupHead): BackupRecord {
  return { kind: 'head', partition: WIDE, key: '', items: [Buffer.from(JSON.stringify(head))] }
}

/** Errors: RingfsError VOLUME_CORRUPT. */
export function decodeHead({ kind, items }: BackupRecord): BackupHead {
  try {
    if (kind === 'head') return Head.parse(JSON.parse(String(items[0])))
  } catch (error) {
    throw new RingfsError('VOLUME_CORRUPT', 'the head of the backup cannot be read: use another backup', {
      cause: error,
    })
  }
  throw damaged('it does not begin with its head')
}

function damaged(why: string): RingfsError {
  return new RingfsError('VOLUME_CORRUPT', `the backup is damaged (${why}): use another one`)
}
