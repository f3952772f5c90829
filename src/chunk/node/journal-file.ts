/**
 * The journal of a node: small chunks that must be on disk at once. Synchronous: runs in a worker (workers/disk.ts).
 *
 * A chunk in a file of its own costs the disk a new inode, a name in a folder, often the folder, and a flush for each. Here it
 * is one write into a file that is there already, in full length, and one flush, shared by all that wait. Chunk files are made
 * of it later, many at once (journal.ts).
 *
 *     journal/0, journal/1     two logs, used in turns: journal-format.ts
 *     near/0, near/1           the same, written by a process beside the node (nearby-journal.ts)
 *
 * Invariants: the records of a use lie without a gap from the head on; whatever was acknowledged lies before the end.
 */
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
  writevSync,
} from 'node:fs'
import { join } from 'node:path'
import { MIB } from '../../base/limits.js'
import { hasCode } from '../../base/errors.js'
import { decodePrefix } from '../format.js'
import { storeChunkFile } from './chunk-file.js'
import { syncFiles, syncFolder } from './files.js'
import {
  JOURNAL_BYTES,
  JOURNAL_START,
  contentOf,
  decodeLogHead,
  encodeLogHead,
  type BadPlace,
  type LogContent,
  type LogHead,
  type LogUse,
} from './journal-format.js'
import { ChunkPaths } from './paths.js'
import type { StoreTask, SyncTask } from './tasks.js'

export const JOURNAL_LOGS = 2
const ZEROS = Buffer.alloc(MIB)

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

/** What is bad in logs that are in use. */
export interface JournalDamage {
  /** Places with something bad, behind which there is more; and logs of which nothing can be told. What was there is not here. */
  readonly bad: number
  /** Logs of which the last record is not whole: cut off by a crash, and never acknowledged, or bad. */
  readonly unfinished: number
  /** The chunks that were there, as far as that can be told. */
  readonly ids: readonly number[]
}

export const NO_DAMAGE: JournalDamage = { bad: 0, unfinished: 0, ids: [] }

export interface LeftLog {
  readonly log: number
  readonly use: LogUse
  readonly ids: readonly number[]
}

/** What an earlier process left. */
export interface LeftBehind {
  readonly logs: readonly LeftLog[]
  /** The highest that was ever used. */
  readonly generation: number
}

export interface Replayed {
  readonly restored: number
  /** The highest that was ever used. */
  readonly generation: number
  readonly damage: JournalDamage
}

export function logFile(folder: string, log: number, place: JournalPlace = 'journal'): string {
  return join(folder, place, String(log))
}

/** Makes the logs where they are missing, in full length: a flush need not write their size later. */
export function createJournal({ folder, place }: JournalTask): void {
  const above = join(folder, place)
  if (isWhole(logFile(folder, JOURNAL_LOGS - 1, place))) return
  mkdirSync(above, { recursive: true, mode: 0o700 })
  for (let log = 0; log < JOURNAL_LOGS; log++) createLog(logFile(folder, log, place))
  syncFolder(above)
  syncFolder(folder)
}

function isWhole(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.size === JOURNAL_BYTES
}

/** Settled and empty. A crash may leave it short: it holds nothing then, and is made again. A full disk gets its bytes back. */
function createLog(file: string): void {
  try {
    writeLog(file)
  } catch (error) {
    rmSync(file, { force: true })
    throw error
  }
}

function writeLog(file: string): void {
  const fd = openSync(file, 'w', 0o600)
  try {
    for (let at = 0; at < JOURNAL_BYTES; at += ZEROS.length) writeSync(fd, ZEROS, 0, ZEROS.length, at)
    writeSync(fd, encodeLogHead('settled', { generation: 0, salt: 0n }), 0, JOURNAL_START, 0)
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
 * After a start: whatever logs hold that are not settled becomes chunk files, on disk, as if it had been stored so. What is bad in them is
 * set aside. Errors: what the disk says. Then nothing is settled, and it can be repeated.
 */
export function replayJournal(task: JournalTask): Replayed {
  const { logs, open, lost } = readLogs(task)
  let restored = 0
  for (const log of lost) putLogAside(task, log)
  for (const { file, bytes, content, head } of open) {
    restored += restore(task, content.chunks)
    for (const place of content.bad) setAside(task, bytes, head, place)
    writeJournal({ file, position: 0, pieces: [{ bytes: encodeLogHead('settled', head) }] })
  }
  const damage = damageOf(
    open.map(({ content }) => content.bad),
    lost.length,
  )
  return { restored, generation: Math.max(0, ...logs.map(({ head }) => head.generation)), damage }
}

/** `bad`: of each log. `lost`: logs without a head. */
export function damageOf(bad: readonly (readonly BadPlace[])[], lost: number): JournalDamage {
  const places = bad.flat()
  return {
    bad: lost + places.filter(({ isLast }) => !isLast).length,
    unfinished: places.filter(({ isLast }) => isLast).length,
    ids: places.flatMap(({ id }) => id ?? []),
  }
}

/** For whoever wants to know why; it is the only copy there may be of it. */
function setAside({ folder }: JournalTask, bytes: Buffer, { generation }: LogUse, { from, to }: BadPlace): void {
  keepAside(folder, `journal.${generation}.${from}`, bytes.subarray(from, to))
}

/** On disk when it returns: what it is of is written over next. */
function keepAside(folder: string, name: string, bytes: Uint8Array): void {
  const { quarantine } = new ChunkPaths(folder)
  mkdirSync(quarantine, { recursive: true, mode: 0o700 })
  writeFileSync(join(quarantine, name), bytes, { mode: 0o600, flush: true })
  syncFolder(quarantine)
  syncFolder(folder)
}

/** Of a log without a head nothing can be told: it is kept as it is, and told once. */
function putLogAside({ folder, place }: JournalTask, log: number): void {
  const file = logFile(folder, log, place)
  keepAside(folder, `journal.headless.${log}`, readFileSync(file))
  writeJournal({ file, position: 0, pieces: [{ bytes: encodeLogHead('settled', { generation: 0, salt: 0n }) }] })
}

/** The chunks of logs that are not settled. */
export function leftBehind(task: JournalTask): LeftBehind {
  const { logs, open } = readLogs(task)
  return {
    logs: open.map(({ log, head: { generation, salt }, content }) => ({
      ...{ log, use: { generation, salt } },
      ids: [...content.chunks.keys()],
    })),
    generation: Math.max(0, ...logs.map(({ head }) => head.generation)),
  }
}

interface Log {
  readonly log: number
  readonly file: string
  readonly head: LogHead
}

interface OpenLog extends Log {
  readonly bytes: Buffer
  readonly content: LogContent
}

interface Logs {
  /** All that were ever used. */
  readonly logs: readonly Log[]
  /** Those that are not settled, the oldest first. */
  readonly open: readonly OpenLog[]
  /** Those that have no good head, and should have one. */
  readonly lost: readonly number[]
}

function readLogs({ folder, place }: JournalTask): Logs {
  const all = Array.from({ length: JOURNAL_LOGS }, (_, log) => readLog(folder, log, place))
  const logs = all.filter((log) => log !== 'none' && log !== 'lost')
  const open = logs.filter((log): log is OpenLog => 'content' in log)
  open.sort((a, b) => a.head.generation - b.head.generation)
  return { logs, open, lost: all.flatMap((one, log) => (one === 'lost' ? log : [])) }
}

/** 'none': there is none, or none that was ever used. */
function readLog(folder: string, log: number, place: JournalPlace): Log | OpenLog | 'none' | 'lost' {
  const file = logFile(folder, log, place)
  if (!existsSync(file)) return 'none'
  const fd = openSync(file, 'r')
  try {
    const start = startIn(fd)
    const head = decodeLogHead(start)
    if (head === null) return isLost(fd, start) ? 'lost' : 'none'
    if (head.state === 'settled') return { log, file, head }
    const bytes = readFileSync(file)
    return { log, file, head, bytes, content: contentOf(bytes, head) }
  } finally {
    closeSync(fd)
  }
}

/** `start`: without a good head. One that was cut off while it was made is short, or full of zeros. */
function isLost(fd: number, start: Buffer): boolean {
  return fstatSync(fd).size >= JOURNAL_BYTES && start.some((byte) => byte !== 0)
}

function startIn(fd: number): Buffer {
  const start = Buffer.alloc(JOURNAL_START)
  return start.subarray(0, readSync(fd, start, 0, start.length, 0))
}

/** The use of a log that is in use; null: it is not, or is none; 'lost': it may be, and its head is bad. */
export function openUse(fd: number): LogUse | 'lost' | null {
  const start = startIn(fd)
  const head = decodeLogHead(start)
  if (head === null) return isLost(fd, start) ? 'lost' : null
  return head.state === 'open' ? head : null
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
