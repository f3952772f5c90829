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
 * Invariants: the records of a use lie without a gap from the head on; whatever was acknowledged lies before the end. What is bad in a log, or
 * cannot be read, is kept in quarantine/ before the log is used again: its bytes, or the log itself where there are none to be had.
 */
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
  writevSync,
} from 'node:fs'
import { join } from 'node:path'
import { MIB } from '../../base/limits.js'
import { codeOf, hasCode } from '../../base/errors.js'
import { makeFolders } from '../../base/make-folders.js'
import { decodePrefix } from '../format.js'
import { sumBytes } from '../hash.js'
import { storeChunkFile } from './chunk-file.js'
import { moveFile, syncFolder } from './files.js'
import {
  JOURNAL_BYTES,
  JOURNAL_START,
  contentOf,
  decodeLogHead,
  encodeLogHead,
  restOfPage,
  type BadPlace,
  type LogContent,
  type LogHead,
  type LogUse,
  type Span,
} from './journal-format.js'
import { readAround } from './log-reads.js'
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
  /**
   * Places with something bad, behind which there is more, or which the disk cannot read; and logs of which nothing can be told. What was there
   * is not here.
   */
  readonly bad: number
  /** Of these, what the disk cannot read. */
  readonly unreadable: number
  /** Logs of which the last record is not whole: cut off by a crash, and never acknowledged, or bad. */
  readonly unfinished: number
  /** The chunks that were there, as far as that can be told. */
  readonly ids: readonly number[]
}

export const NO_DAMAGE: JournalDamage = { bad: 0, unreadable: 0, unfinished: 0, ids: [] }

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

/** What is to be kept of a log before it is used again: all of it, which needs no room, or some places. */
export type Aside = 'all' | readonly Span[]

/** A log that an earlier process has left in use. */
export interface FoundLog {
  readonly log: number
  readonly use: LogUse
  /** Their files, by their ids. */
  readonly chunks: ReadonlyMap<number, Uint8Array>
  /** Where the next record goes, if any may be written, and the number of the last one. */
  readonly end: number
  readonly number: number
  readonly aside: Aside
}

/** What an earlier process left. */
export interface FoundLogs {
  /** The oldest first. */
  readonly logs: readonly FoundLog[]
  /** The highest that was ever used. */
  readonly generation: number
  /** All logs are there. */
  readonly isWhole: boolean
  readonly damage: JournalDamage
}

export interface KeepTask extends JournalTask {
  readonly log: number
  readonly use: LogUse
  readonly places: readonly Span[]
}

export interface PutAsideTask extends JournalTask {
  readonly log: number
}

export function logFile(folder: string, log: number, place: JournalPlace = 'journal'): string {
  return join(folder, place, String(log))
}

/** Makes the logs where they are missing, in full length: a flush need not write their size later. */
export function createJournal({ folder, place }: JournalTask): void {
  const files = filesOf(folder, place).filter((file) => !isWhole(file) && !isInUse(file))
  if (files.length === 0) return
  const above = join(folder, place)
  makeFolders(above, 0o700)
  for (const file of files) createLog(file)
  syncFolder(above)
  syncFolder(folder)
}

function filesOf(folder: string, place: JournalPlace): readonly string[] {
  return Array.from({ length: JOURNAL_LOGS }, (_, log) => logFile(folder, log, place))
}

function isWhole(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.size === JOURNAL_BYTES
}

/** Though it is short. */
function isInUse(file: string): boolean {
  return withLog(file, (fd) => openUse(fd)) !== null
}

/** null: there is none. */
function withLog<T>(file: string, work: (fd: number) => T): T | null {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
  try {
    return work(fd)
  } finally {
    closeSync(fd)
  }
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
  const end = position + sumBytes(bytes)
  if (end > position) bytes.push(restOfPage(end))
  const wanted = sumBytes(bytes)
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
 * After a start: what logs hold that are not settled. Nothing is changed. Errors: what the disk says, but for what it cannot read.
 */
export function findLogs(task: JournalTask): FoundLogs {
  const files = filesOf(task.folder, task.place)
  const all = files.map((file) => readLog(file))
  const read = all.filter((one) => one !== 'none' && one !== 'lost')
  const lost = all.filter((one) => one === 'lost').length
  return {
    logs: all.flatMap((one, log) => foundIn(one, log)).sort((a, b) => a.use.generation - b.use.generation),
    generation: Math.max(0, ...read.map(({ head }) => head.generation)),
    isWhole: lost === 0 && files.every(isWhole),
    damage: damageOf(
      read.map(({ content }) => content?.bad ?? []),
      lost,
    ),
  }
}

/** `bad`: of each log. `lost`: logs without a head. */
export function damageOf(bad: readonly (readonly BadPlace[])[], lost: number): JournalDamage {
  const places = bad.flat()
  const isCutOff = ({ isLast, isUnreadable }: BadPlace): boolean => isLast && !isUnreadable
  return {
    bad: lost + places.filter((place) => !isCutOff(place)).length,
    unreadable: places.filter(({ isUnreadable }) => isUnreadable).length,
    unfinished: places.filter(isCutOff).length,
    ids: places.flatMap(({ id }) => id ?? []),
  }
}

/** For whoever wants to know why; it is the only copy there may be of it. On disk when it returns, the same however often it is called. */
export function keepPlaces({ folder, place, log, use: { generation }, places }: KeepTask): void {
  const quarantine = quarantineIn(folder)
  withLog(logFile(folder, log, place), (fd) => {
    for (const { from, to } of places) {
      const { bytes } = readAround(fd, from, to - from)
      writeFileSync(join(quarantine, `${place}.${generation}.${from}`), bytes, { mode: 0o600, flush: true })
    }
  })
  syncFolder(quarantine)
}

/**
 * The log as it is, so that neither what could not be read is lost, nor its place on the disk used again. On disk when it returns. The room of
 * a file is not needed.
 */
export function putLogAside({ folder, place, log }: PutAsideTask): void {
  const quarantine = quarantineIn(folder)
  moveFile({ from: logFile(folder, log, place), to: new ChunkPaths(folder).newLogAside(place, log) })
  syncFolder(quarantine)
  syncFolder(join(folder, place))
}

function quarantineIn(folder: string): string {
  const { quarantine } = new ChunkPaths(folder)
  makeFolders(quarantine, 0o700)
  syncFolder(folder)
  return quarantine
}

/** The chunks of logs that are not settled. */
export function leftBehind(task: JournalTask): LeftBehind {
  const { logs, generation } = findLogs(task)
  return { logs: logs.map(({ log, use, chunks }) => ({ log, use, ids: [...chunks.keys()] })), generation }
}

interface ReadLog {
  readonly head: LogHead
  /** null: it is settled. `isWhole`: it has its length, and all of it can be read. */
  readonly content: (LogContent & { readonly isWhole: boolean }) | null
}

/** 'none': there is none, or none that was ever used; 'lost': it has no good head, and should have one. */
function readLog(file: string): ReadLog | 'none' | 'lost' {
  try {
    return logIn(file)
  } catch (error) {
    // Not even opened.
    if (codeOf(error) === 'EIO') return 'lost'
    throw error
  }
}

function logIn(file: string): ReadLog | 'none' | 'lost' {
  const log = withLog(file, (fd): ReadLog | 'none' | 'lost' => {
    const head = headIn(fd)
    if (head === null) return 'none'
    if (head === 'lost') return 'lost'
    if (head.state === 'settled') return { head, content: null }
    const { bytes, unreadable } = readAround(fd, 0, fstatSync(fd).size)
    const isWhole = unreadable.length === 0 && bytes.length >= JOURNAL_BYTES
    return { head, content: { ...contentOf(bytes, head, unreadable), isWhole } }
  })
  return log ?? 'none'
}

function foundIn(one: ReadLog | 'none' | 'lost', log: number): FoundLog[] {
  if (one === 'lost') {
    return [{ log, use: { generation: 0, salt: 0n }, chunks: new Map(), end: JOURNAL_BYTES, number: 0, aside: 'all' }]
  }
  if (one === 'none' || one.content === null) return []
  const { generation, salt } = one.head
  const { chunks, bad, end, number, isWhole } = one.content
  // Neither behind what cannot be read, nor in another version, anything is written.
  const isOver = !isWhole || salt === null
  const aside = isWhole ? bad : 'all'
  return [{ log, use: { generation, salt }, chunks, end: isOver ? JOURNAL_BYTES : end, number, aside }]
}

/** null: it was never used; 'lost': it may have been, and its head is bad. One that was cut off while it was made is short, or full of zeros. */
function headIn(fd: number): LogHead | 'lost' | null {
  const { bytes, unreadable } = readAround(fd, 0, JOURNAL_START)
  const head = decodeLogHead(bytes)
  if (head !== null) return head
  const isBad = unreadable.length > 0 || bytes.some((byte) => byte !== 0)
  return isBad && fstatSync(fd).size >= JOURNAL_BYTES ? 'lost' : null
}

/** The use of a log that is in use; null: it is not, or is none; 'lost': it may be, and its head is bad. */
export function openUse(fd: number): LogUse | 'lost' | null {
  const head = headIn(fd)
  return head === null || head === 'lost' || head.state === 'open' ? head : null
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
