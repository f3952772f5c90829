/**
 * The journal of a node: small chunks that must be on disk at once. Synchronous: runs in a worker (workers/disk.ts).
 *
 * A chunk in a file of its own costs the disk a new inode, a name in a folder, often the folder, and a flush for each. Here it
 * is one write into a file that is there already, in full length, and one flush, shared by all that wait. Chunk files are made
 * of it later, many at once (journal.ts).
 *
 *     journal/0, journal/1     two logs, used in turns; numbers are little-endian
 *     near/0, near/1           the same, written by a process beside the node (nearby-journal.ts)
 *
 *     offset  bytes
 *          0      8  magic "RINGJRNL"
 *          8      4  version, 1
 *         12      4  state: 1 in use, 2 settled (every chunk in it has its file, on disk)
 *         16      8  generation: rises with each use of either log
 *         24     32  SHA-256 over the 24 bytes above
 *       4096     ..  records, one after the other
 *
 *          0      4  magic "RJR1"
 *          4      4  kind: 1 a chunk, 2 chunks that were removed
 *          8      8  generation of the log
 *         16      4  length of the body
 *         20      4  length of the bound part of the body
 *         24     32  SHA-256 over the 24 bytes above and the bound part
 *         56     ..  body: of a chunk its file (../format.ts), bound as far as its data, which its leaf hash guards;
 *                    of removed ones their ids, 8 bytes each, all bound. Zeros up to a multiple of 8
 *
 * Invariants: the records of a generation lie without a gap from 4096 on; the first thing that is no good record of the log's
 * generation is its end, and whatever was acknowledged lies before it.
 */
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
  writevSync,
} from 'node:fs'
import { join } from 'node:path'
import { HASH_BYTES, MIB } from '../../base/limits.js'
import { hasCode } from '../../base/errors.js'
import { decodePrefix } from '../format.js'
import { firstBadLeaf } from '../hash.js'
import { storeChunkFile } from './chunk-file.js'
import { syncFiles, syncFolder } from './files.js'
import { ChunkPaths } from './paths.js'
import type { StoreTask, SyncTask } from './tasks.js'

export const JOURNAL_LOGS = 2
export const JOURNAL_BYTES = 8 * MIB
export const JOURNAL_START = 4096
const LOG_MAGIC = Buffer.from('RINGJRNL', 'latin1')
const VERSION = 1
const RECORD_MAGIC = 0x3152_4a52
const HEAD_BYTES = 24
const RECORD_HEAD_BYTES = HEAD_BYTES + HASH_BYTES
const ALIGN_BYTES = 8
const ZEROS = Buffer.alloc(MIB)

export type LogState = 'open' | 'settled'
export type RecordKind = 'chunk' | 'removed'

export interface JournalPiece {
  readonly bytes: Uint8Array
  /** Left out if this file exists. */
  readonly unless?: string
}

export interface JournalWriteTask {
  readonly file: string
  readonly position: number
  /** One after the other, without those that are left out. */
  readonly pieces: readonly JournalPiece[]
}

/** Who writes it: the node, or a process beside it. */
export type JournalPlace = 'journal' | 'near'

/** The data folder, and the volume that its chunks belong to. */
export interface JournalTask {
  readonly folder: string
  readonly volume: string
  readonly place: JournalPlace
}

/** What an earlier process left. */
export interface LeftBehind {
  readonly logs: readonly { readonly log: number; readonly generation: number; readonly ids: readonly number[] }[]
  /** The highest that was ever used. */
  readonly generation: number
}

export interface Replayed {
  readonly restored: number
  /** The highest that was ever used. */
  readonly generation: number
}

export function logFile(folder: string, log: number, place: JournalPlace = 'journal'): string {
  return join(folder, place, String(log))
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

export function encodeLogHead(state: LogState, generation: number): Buffer {
  const head = Buffer.alloc(HEAD_BYTES + HASH_BYTES)
  LOG_MAGIC.copy(head, 0)
  head.writeUInt32LE(VERSION, 8)
  head.writeUInt32LE(state === 'open' ? 1 : 2, 12)
  head.writeBigUInt64LE(BigInt(generation), 16)
  sha256(head.subarray(0, HEAD_BYTES)).copy(head, HEAD_BYTES)
  return head
}

function decodeLogHead(bytes: Buffer): { readonly state: LogState; readonly generation: number } | null {
  if (bytes.length < JOURNAL_START || !bytes.subarray(0, 8).equals(LOG_MAGIC)) return null
  const sum = bytes.subarray(HEAD_BYTES, HEAD_BYTES + HASH_BYTES)
  if (!sha256(bytes.subarray(0, HEAD_BYTES)).equals(sum) || bytes.readUInt32LE(8) !== VERSION) return null
  return { state: bytes.readUInt32LE(12) === 1 ? 'open' : 'settled', generation: Number(bytes.readBigUInt64LE(16)) }
}

/** `bound`: how many bytes of the body are bound to the record's head. */
export function encodeRecord(kind: RecordKind, generation: number, body: readonly Uint8Array[], bound: number): Buffer {
  const bodyBytes = body.reduce((sum, piece) => sum + piece.length, 0)
  const record = Buffer.alloc(Math.ceil((RECORD_HEAD_BYTES + bodyBytes) / ALIGN_BYTES) * ALIGN_BYTES)
  record.writeUInt32LE(RECORD_MAGIC, 0)
  record.writeUInt32LE(kind === 'chunk' ? 1 : 2, 4)
  record.writeBigUInt64LE(BigInt(generation), 8)
  record.writeUInt32LE(bodyBytes, 16)
  record.writeUInt32LE(bound, 20)
  let at = RECORD_HEAD_BYTES
  for (const piece of body) {
    record.set(piece, at)
    at += piece.length
  }
  const boundPart = record.subarray(RECORD_HEAD_BYTES, RECORD_HEAD_BYTES + bound)
  sha256(record.subarray(0, HEAD_BYTES), boundPart).copy(record, HEAD_BYTES)
  return record
}

export function encodeIds(ids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(ids.length * 8)
  for (const [index, id] of ids.entries()) bytes.writeBigUInt64LE(BigInt(id), index * 8)
  return bytes
}

/** Makes the logs where they are missing, in full length: a flush need not write their size later. */
export function createJournal({ folder, place }: JournalTask): void {
  const above = join(folder, place)
  if (existsSync(logFile(folder, JOURNAL_LOGS - 1, place))) return
  mkdirSync(above, { recursive: true, mode: 0o700 })
  for (let log = 0; log < JOURNAL_LOGS; log++) createLog(logFile(folder, log, place))
  syncFolder(above)
  syncFolder(folder)
}

/** Settled and empty. A crash may leave it short: it holds nothing then, and is made again. */
function createLog(file: string): void {
  const fd = openSync(file, 'w', 0o600)
  try {
    for (let at = 0; at < JOURNAL_BYTES; at += ZEROS.length) writeSync(fd, ZEROS, 0, ZEROS.length, at)
    writeSync(fd, encodeLogHead('settled', 0), 0, HEAD_BYTES + HASH_BYTES, 0)
    fdatasyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** On disk when it returns. Answers of each piece whether it was written. */
export function writeJournal(task: JournalWriteTask): readonly boolean[] {
  const fd = openSync(task.file, 'r+')
  try {
    return writePieces(fd, task)
  } finally {
    closeSync(fd)
  }
}

/** As writeJournal, into the file that is open already. */
export function writePieces(fd: number, { file, position, pieces }: JournalWriteTask): readonly boolean[] {
  const written = pieces.map(({ unless }) => unless === undefined || !existsSync(unless))
  const bytes = pieces.filter((_, index) => written[index]).map((piece) => piece.bytes)
  const wanted = bytes.reduce((sum, piece) => sum + piece.length, 0)
  if (wanted > 0 && writevSync(fd, bytes, position) !== wanted) throw new Error(`a short write into ${file}`)
  fdatasyncSync(fd)
  return written
}

/** Makes chunk files, not yet on disk; answers which of them were not there. */
export function settleFiles(tasks: readonly StoreTask[]): readonly boolean[] {
  return tasks.map((task) => {
    try {
      return storeChunkFile(task).created
    } catch (error) {
      // Another content under this id is older than the journal's: it stays, and was never acknowledged twice.
      if (hasCode(error, 'CHUNK_CONFLICT')) return false
      throw error
    }
  })
}

/**
 * After a start: whatever logs hold that are not settled becomes chunk files, on disk, as if it had been stored so.
 * Errors: what the disk says. Then nothing is settled, and it can be repeated.
 */
export function replayJournal(task: JournalTask): Replayed {
  const { logs, open } = readLogs(task)
  let restored = 0
  for (const { file, bytes, generation } of open) {
    restored += restore(task, chunksIn(bytes, generation))
    writeJournal({ file, position: 0, pieces: [{ bytes: encodeLogHead('settled', generation) }] })
  }
  return { restored, generation: Math.max(0, ...logs.map(({ generation }) => generation)) }
}

/** The chunks of logs that are not settled. */
export function leftBehind(task: JournalTask): LeftBehind {
  const { logs, open } = readLogs(task)
  return {
    logs: open.map(({ log, bytes, generation }) => ({ log, generation, ids: [...chunksIn(bytes, generation).keys()] })),
    generation: Math.max(0, ...logs.map(({ generation }) => generation)),
  }
}

/** All that were ever used, and those that are not settled, the oldest first. */
function readLogs({ folder, place }: JournalTask): { readonly logs: readonly Log[]; readonly open: readonly Log[] } {
  const logs = Array.from({ length: JOURNAL_LOGS }, (_, log) => readLog(folder, log, place)).filter(
    (log) => log !== null,
  )
  const open = logs.filter(({ state }) => state === 'open').sort((a, b) => a.generation - b.generation)
  return { logs, open }
}

interface Log {
  readonly log: number
  readonly file: string
  /** All of it where it is open, else its head. */
  readonly bytes: Buffer
  readonly state: LogState
  readonly generation: number
}

/** null: there is none, or none that was ever used. */
function readLog(folder: string, log: number, place: JournalPlace): Log | null {
  const file = logFile(folder, log, place)
  if (!existsSync(file)) return null
  const start = Buffer.alloc(JOURNAL_START)
  const fd = openSync(file, 'r')
  try {
    const head = decodeLogHead(start.subarray(0, readSync(fd, start, 0, start.length, 0)))
    if (head === null) return null
    return { log, file, bytes: head.state === 'open' ? readFileSync(file) : start, ...head }
  } finally {
    closeSync(fd)
  }
}

/** What was put and not removed afterwards: the files of the chunks, by id. */
export function chunksIn(bytes: Buffer, generation: number): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  for (let at = JOURNAL_START; at + RECORD_HEAD_BYTES <= bytes.length;) {
    const record = recordAt(bytes, at, generation)
    if (record === null) break
    if (record.kind === 'removed') for (const id of idsIn(record.body)) found.delete(id)
    else {
      const id = goodChunk(record.body)
      if (id === null) break
      // Later ones last.
      found.delete(id)
      found.set(id, record.body)
    }
    at += Math.ceil((RECORD_HEAD_BYTES + record.body.length) / ALIGN_BYTES) * ALIGN_BYTES
  }
  return found
}

/** The generation of a log that is in use; null: it is not, or is none. */
export function openGeneration(fd: number): number | null {
  const start = Buffer.alloc(JOURNAL_START)
  const head = decodeLogHead(start.subarray(0, readSync(fd, start, 0, start.length, 0)))
  return head?.state === 'open' ? head.generation : null
}

/** One record of a log, and where the next begins; null: there is none yet. */
export function readRecord(
  fd: number,
  position: number,
  generation: number,
): { readonly kind: RecordKind; readonly body: Buffer; readonly end: number } | null {
  const head = Buffer.alloc(RECORD_HEAD_BYTES)
  if (readSync(fd, head, 0, head.length, position) < head.length || head.readUInt32LE(0) !== RECORD_MAGIC) return null
  const wanted = RECORD_HEAD_BYTES + head.readUInt32LE(16)
  if (head.readBigUInt64LE(8) !== BigInt(generation) || position + wanted > JOURNAL_BYTES) return null
  const bytes = Buffer.alloc(wanted)
  const record = readSync(fd, bytes, 0, wanted, position) < wanted ? null : recordAt(bytes, 0, generation)
  if (record === null || (record.kind === 'chunk' && goodChunk(record.body) === null)) return null
  return { ...record, end: position + Math.ceil(wanted / ALIGN_BYTES) * ALIGN_BYTES }
}

function recordAt(bytes: Buffer, at: number, generation: number): { kind: RecordKind; body: Buffer } | null {
  if (bytes.readUInt32LE(at) !== RECORD_MAGIC || bytes.readBigUInt64LE(at + 8) !== BigInt(generation)) return null
  const start = at + RECORD_HEAD_BYTES
  const end = start + bytes.readUInt32LE(at + 16)
  const boundEnd = start + bytes.readUInt32LE(at + 20)
  if (end > bytes.length || boundEnd > end) return null
  const sum = sha256(bytes.subarray(at, at + HEAD_BYTES), bytes.subarray(start, boundEnd))
  if (!sum.equals(bytes.subarray(at + HEAD_BYTES, start))) return null
  return { kind: bytes.readUInt32LE(at + 4) === 1 ? 'chunk' : 'removed', body: bytes.subarray(start, end) }
}

export function idsIn(body: Buffer): number[] {
  return Array.from({ length: Math.floor(body.length / 8) }, (_, index) => Number(body.readBigUInt64LE(index * 8)))
}

/** The id, or null if header or data are not what they were. */
function goodChunk(body: Buffer): number | null {
  try {
    const { header, leaves, dataOffset } = decodePrefix(body)
    return firstBadLeaf([body.subarray(dataOffset)], leaves, 0) < 0 ? header.id : null
  } catch {
    return null
  }
}

function restore({ folder, volume }: JournalTask, chunks: ReadonlyMap<number, Buffer>): number {
  const paths = new ChunkPaths(folder)
  const tasks = [...chunks].map(([id, body]) => storeTaskOf(paths, volume, id, body))
  const created = settleFiles(tasks)
  const results = syncFiles(syncTaskOf(paths, [...chunks.keys()]))
  if (results.includes('failed')) throw new Error('the disk could not write chunks of the journal')
  return created.filter(Boolean).length
}

/** `body`: the chunk file. */
export function storeTaskOf(paths: ChunkPaths, volume: string, id: number, body: Buffer): StoreTask {
  const { header, leaves, dataOffset } = decodePrefix(body)
  return {
    volume,
    id,
    root: header.root,
    leaves,
    prefix: body.subarray(0, dataOffset),
    data: [body.subarray(dataOffset)],
    temporary: paths.newTemporary(id),
    folder: paths.foldersOf(id).inner,
    file: paths.fileOf(id),
    quarantine: paths.newQuarantine(id),
    direct: false,
  }
}

/** Files of these chunks, and all folders above them. */
export function syncTaskOf(paths: ChunkPaths, ids: readonly number[]): SyncTask {
  const folders = ids.map((id) => paths.foldersOf(id))
  const inner = new Set(folders.map((folder) => folder.inner))
  const outer = new Set(folders.map((folder) => folder.outer))
  return { files: ids.map((id) => paths.fileOf(id)), folders: [...inner, ...outer, paths.chunks] }
}
