/**
 * Small chunks that must be on disk at once go into the journal (journal-file.ts) and are answered from memory until they have
 * files of their own.
 *
 *     log:  idle --first record--> active --full, or FILES_AFTER_MS old--> settling --every chunk has its file--> idle
 *           left in use by an earlier process -----------------------------> settling
 *           with something that the disk cannot read:                        settling --the same--> leaving --put aside--> missing
 *           missing --made anew--> idle
 *
 * Invariants:
 * - append() resolves only when the record is on disk, in a batch that began after the call.
 * - A chunk is in #chunks from then until its file is on disk and its log is marked settled, or until it was removed.
 * - A log is used again only when it is settled, and what is bad in it is kept elsewhere. Until the disk takes both, be it for months, it is
 *   as it was, and its chunks are here.
 * - A removal is written into the log that holds the chunk, so that a start does not bring it back. (Without room for it there it is not: then
 *   a crash brings back a chunk that nothing names.)
 * - After close() nothing is written any more, not even what was asked for before: what is in the logs is found by the next start.
 * - Memory is bounded by the length of the logs. When both are full, append() answers false, and the caller does without.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, openSync } from 'node:fs'
import type { Clock, Timer } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError, codeOf, hasCode, messageOf } from '../../base/errors.js'
import { invariant } from '../../base/invariant.js'
import type { Log } from '../../base/log.js'
import { Repeats } from '../../base/repeats.js'
import { asBuffer } from '../jobs.js'
import { toChunkError } from '../outcome.js'
import type { Job, WorkerPool } from '../pool.js'
import { againUntil } from './again.js'
import type { JournalBatch, JournalChunk, JournalEntry, Waiting, Writing } from './journal-parts.js'
import {
  JOURNAL_LOGS,
  NO_DAMAGE,
  logFile,
  writePieces,
  type FoundLog,
  type FoundLogs,
  type JournalDamage,
  type JournalPiece,
  type JournalPlace,
  type JournalTask,
  type JournalWriteTask,
  type LeftBehind,
} from './journal-file.js'
import {
  JOURNAL_BYTES,
  JOURNAL_START,
  encodeIds,
  encodeLogHead,
  encodeRecord,
  encodeRecordHead,
  restOfPage,
} from './journal-format.js'
import { InlineGate } from '../../base/inline-gate.js'
import { leaveLog } from './journal-leave.js'
import { closeLog, newLog, openLog, type JournalLog } from './journal-log.js'
import { keptOf } from './kept.js'
import type { LogWrite } from './log-writes.js'

const CREATE_JOB: Job<JournalTask, void> = { file: 'disk', name: 'createJournalLogs' }
const WRITE_JOB: Job<JournalWriteTask, readonly boolean[]> = { file: 'disk', name: 'appendJournal' }
const FIND_JOB: Job<JournalTask, FoundLogs> = { file: 'disk', name: 'findJournal' }
const LEFT_JOB: Job<JournalTask, LeftBehind> = { file: 'disk', name: 'leftInJournal' }

const BATCH_MAX = 256
/** Longer batches are written in a worker: the hop is shared by many, and this thread can receive more meanwhile. */
const INLINE_RECORDS_MAX = 4
const INLINE_MAX_BYTES = 128 * 1024
/** Chunks of a log have files after at most about this time. */
const FILES_AFTER_MS = 5_000
const MAKE_AGAIN_MS = 60_000
const NOTHING = (): void => undefined
/** Of a log, kept for removals. */
const REMOVALS_BYTES = 256 * 1024

export type { JournalBatch, JournalChunk, JournalEntry } from './journal-parts.js'

export interface JournalOptions {
  readonly folder: string
  readonly volume: string
  readonly pool: WorkerPool
  readonly clock: Clock
  readonly log: Log
  /** Gives each of these chunks that is still in the journal its file, on disk. */
  readonly settle: (ids: readonly number[]) => Promise<void>
  /** Up to this length a batch is written on the calling thread, while the disk is quick. Default 128 KiB; 0: never. */
  readonly inlineMaxBytes?: number
  /** Whether the disk is quick, if others are to know, too; `inlineMaxBytes` is its own then. */
  readonly gate?: InlineGate
  /** Default: 'journal'. */
  readonly place?: JournalPlace
  /** 64 bits, another for each use of a log. */
  readonly newSalt?: () => bigint
}

export class Journal {
  readonly #options: JournalOptions
  readonly #place: JournalPlace
  readonly #logs: readonly JournalLog[]
  readonly #chunks = new Map<number, { readonly chunk: JournalChunk; readonly log: JournalLog }>()
  #generation = 0
  #active: JournalLog | null = null
  #ready: 'no' | 'making' | 'yes' = 'no'
  /** Not made again before. */
  #makeAtMs = -Infinity
  #queue: Waiting[] = []
  #running = false
  readonly #gate: InlineGate
  #timer: Timer | null = null
  #isClosed = false
  #damage = NO_DAMAGE
  readonly #told: Repeats

  constructor(options: JournalOptions) {
    this.#options = options
    this.#place = options.place ?? 'journal'
    this.#gate = options.gate ?? new InlineGate(options.clock, options.inlineMaxBytes ?? INLINE_MAX_BYTES)
    this.#logs = Array.from({ length: JOURNAL_LOGS }, (_, index) => newLog(index))
    this.#told = new Repeats(options.clock)
  }

  /**
   * Before anything else: what an earlier process left in the logs is here, and gets its files if that can be done now. Answers whether all of it
   * has them; if not, goOn() goes on with it. Errors: what the disk says, but for what it cannot read.
   */
  async load(): Promise<boolean> {
    const { pool, log } = this.#options
    const { logs, generation, isWhole, damage } = await pool.run(FIND_JOB, this.#task)
    this.#generation = generation
    this.#damage = damage
    if (isWhole) this.#ready = 'yes'
    for (const found of logs) this.#take(found)
    if (this.size > 0) log.info({ place: this.#place, chunks: this.size }, 'small chunks that an earlier process left')
    const left = this.#logs.filter(({ state }) => state === 'settling')
    let isDone = true
    for (const one of left) isDone = (await this.#trySettling(one)) && isDone
    return isDone
  }

  #take({ log: index, use, chunks, end, number, aside }: FoundLog): void {
    const log = this.#logs[index]
    invariant(log !== undefined, 'there are as many logs as were looked at')
    const { generation, salt } = use
    Object.assign(log, { state: 'settling', generation, salt: salt ?? 0n, number, end, aside })
    for (const file of chunks.values()) {
      const chunk = keptOf(asBuffer(file))
      this.#chunks.set(chunk.id, { chunk, log })
    }
  }

  /** With what load() could not do. Resolves when it is done, or never will be. */
  async goOn(): Promise<void> {
    const left = this.#logs.filter(({ state }) => state === 'settling')
    for (const log of left) log.settled = this.#settleUntilDone(log)
    await Promise.all(left.map(({ settled }) => settled))
  }

  /** What was found to be bad by load(). */
  get damage(): JournalDamage {
    return this.#damage
  }

  /** How many chunks could not be given files when that was last tried. */
  get waiting(): number {
    return [...this.#chunks.values()].filter(({ log }) => log.isWaiting).length
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get #task(): JournalTask {
    const { folder, volume } = this.#options
    return { folder, volume, place: this.#place }
  }

  #fileOf(log: number): string {
    return logFile(this.#options.folder, log, this.#place)
  }

  /** Which of them a reader of the logs that are in use would find there now. Errors: what the disk says. */
  async onDisk(): Promise<ReadonlySet<number>> {
    const { logs } = await this.#options.pool.run(LEFT_JOB, this.#task)
    return new Set(logs.flatMap(({ ids }) => ids))
  }

  get(id: number): JournalChunk | undefined {
    return this.#chunks.get(id)?.chunk
  }

  /** All that are here now. */
  all(): JournalChunk[] {
    return [...this.#chunks.values()].map(({ chunk }) => chunk)
  }

  /** How many chunks have no file yet. */
  get size(): number {
    return this.#chunks.size
  }

  /** true: the chunk is on disk. false: not taken, as there is no room or `path` exists. Errors: what the disk says. */
  async append(chunk: JournalChunk, path: string): Promise<boolean> {
    if (this.#ready !== 'yes') {
      void this.make()
      return false
    }
    const log = await this.#record({
      ...{ kind: 'chunk', id: chunk.id, body: [chunk.file], bound: chunk.layout.dataOffset, log: null, unless: path },
      onWritten: (log) => this.#chunks.set(chunk.id, { chunk, log }),
    })
    if (log !== null) this.#armTimer()
    return log !== null
  }

  /** append() may take something now: there is a log that is not waiting for its files. */
  get isOpen(): boolean {
    if (this.#isClosed || this.#ready !== 'yes') return false
    return this.#active !== null || this.#logs.some(({ state }) => state === 'idle')
  }

  /**
   * As append() for each of them, written by the caller: nothing else may happen before `done` is called. null: append() has to do it, as
   * something is under way, a log is to be begun, or a chunk has its file.
   */
  begin(entries: readonly JournalEntry[]): JournalBatch | null {
    const log = this.#active
    if (this.#isClosed || this.#running || log === null || log.end === JOURNAL_START) return null
    if (entries.some(({ path }) => existsSync(path))) return null
    const fd = openLog(log, this.#fileOf(log.index))
    if (fd === null) return null
    let position = log.end
    const writes = entries.map(({ chunk: { id, layout }, body }): LogWrite => {
      const name = { kind: 'chunk', number: ++log.number, id } as const
      const head = encodeRecordHead(name, log.salt, body, layout.dataOffset)
      const at = position
      position += head.length + body.padded.length
      return { fd, position: at, head, body: body.padded, tail: restOfPage(position) }
    })
    if (position > JOURNAL_BYTES - REMOVALS_BYTES) return null
    return { writes, done: (error) => this.#written(log, position, entries, error) }
  }

  #written(log: JournalLog, end: number, entries: readonly JournalEntry[], error: Error | null): void {
    if (error !== null) {
      this.#options.log.warn({ err: messageOf(error) }, 'a log of small chunks could not be written')
      this.#giveUp(log)
      return
    }
    log.end = end
    for (const { chunk } of entries) this.#chunks.set(chunk.id, { chunk, log })
    this.#armTimer()
  }

  /** What of the last batch is on disk is not known. Nothing may be written behind it: a replay would not come so far. */
  #giveUp(log: JournalLog): void {
    log.end = JOURNAL_BYTES
    if (log === this.#active && !this.#isClosed) this.#retire(log)
  }

  /** Answers which of them were here. The caller holds their locks. */
  async remove(ids: readonly number[]): Promise<ReadonlySet<number>> {
    const byLog = new Map<JournalLog, number[]>()
    for (const id of ids) {
      const log = this.#chunks.get(id)?.log
      if (log === undefined) continue
      byLog.set(log, [...(byLog.get(log) ?? []), id])
    }
    const removed = new Set<number>()
    for (const [log, mine] of byLog) {
      const body = encodeIds(mine)
      const record = { kind: 'removed', id: 0, body: [body], bound: body.length, log, unless: undefined } as const
      try {
        await this.#record({ ...record, onWritten: NOTHING })
      } catch (error) {
        // As where the log has no room for it: a full disk, of those that write nothing in place, keeps nothing from being freed.
        if (codeOf(error) !== 'ENOSPC') throw error
      }
      for (const id of mine) if (this.#chunks.delete(id)) removed.add(id)
    }
    return removed
  }

  /** Nothing is written any more: its disk has failed. What was being written may still arrive, and is not acknowledged. */
  close(): void {
    this.#isClosed = true
    this.#timer?.close()
    for (const waiting of this.#queue.splice(0)) waiting.fail(closed())
    for (const log of this.#logs) void log.writing.then(() => closeLog(log))
    this.#chunks.clear()
  }

  /** Every chunk that is here now gets its file. */
  async settleAll(): Promise<void> {
    if (this.#active !== null) this.#retire(this.#active)
    await Promise.all(this.#logs.map(({ settled }) => settled))
  }

  /** Makes the logs, if there are none. Where there is no room for them, small chunks are files from the start; tried again after a minute. */
  async make(): Promise<void> {
    const { pool, log, clock } = this.#options
    if (this.#ready !== 'no' || this.#isClosed || clock.monotonicMs() < this.#makeAtMs) return
    this.#ready = 'making'
    const missing = this.#logs.filter(({ state }) => state === 'missing')
    try {
      await pool.run(CREATE_JOB, this.#task)
      for (const one of missing) one.state = 'idle'
      // Another may have been put aside meanwhile.
      this.#ready = this.#logs.some(({ state }) => state === 'missing') ? 'no' : 'yes'
    } catch (error) {
      log.warn({ err: messageOf(error) }, 'no journal: small chunks are slower')
      this.#makeAtMs = clock.monotonicMs() + MAKE_AGAIN_MS
      this.#ready = 'no'
    }
  }

  #record(record: Omit<Waiting, 'done' | 'fail'>): Promise<JournalLog | null> {
    if (this.#isClosed) return Promise.reject(closed())
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...record, done: resolve, fail: reject })
      if (!this.#running) void this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#running = true
    // After this turn of the event loop, so that all that has arrived by now goes together.
    await new Promise(setImmediate)
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      await this.#write(first.log ?? this.#writable())
    }
    this.#running = false
  }

  /** Writes what is queued for this log, as far as it fits. null: there is none. */
  async #write(log: JournalLog | null): Promise<void> {
    const batch: Writing[] = []
    let end = log?.end ?? 0
    for (let next = this.#queue[0]; next !== undefined && batch.length < BATCH_MAX; next = this.#queue[0]) {
      // Of a log that is settled, or goes, nothing comes back.
      if (log === null || (log.state !== 'active' && log.state !== 'settling') || (next.log ?? this.#active) !== log)
        break
      const name = { kind: next.kind, number: ++log.number, id: next.id }
      const record = encodeRecord(name, log.salt, next.body, next.bound)
      end += record.length
      if (end > JOURNAL_BYTES - (next.kind === 'chunk' ? REMOVALS_BYTES : 0)) break
      this.#queue.shift()
      batch.push({ waiting: next, record })
    }
    if (log === null || batch.length === 0) this.#refuse(log)
    else await (log.writing = this.#append(log, batch))
  }

  /** The first in line cannot be written to this log. */
  #refuse(log: JournalLog | null): void {
    const next = this.#queue[0]
    if (next?.kind === 'chunk' && log !== null && log === this.#active) {
      this.#retire(log)
      if (this.#writable() !== null) return
    }
    this.#queue.shift()
    next?.done(null)
  }

  async #append(log: JournalLog, batch: readonly Writing[]): Promise<void> {
    const records: JournalPiece[] = batch.map(({ waiting: { unless }, record }) => ({
      bytes: record,
      ...(unless === undefined ? {} : { unless }),
    }))
    const task = { file: this.#fileOf(log.index), position: log.end, pieces: records }
    try {
      const first = log.end === JOURNAL_START
      const written = first ? await this.#writeFirst(log, records) : await this.#writePieces(log, task)
      if (this.#isClosed) throw closed()
      for (const [index, { waiting, record }] of batch.entries()) {
        if (written[index] !== true) {
          waiting.done(null)
          continue
        }
        log.end += record.length
        waiting.onWritten(log)
        waiting.done(log)
      }
    } catch (error) {
      this.#giveUp(log)
      for (const { waiting } of batch) waiting.fail(toChunkError(error))
    }
  }

  /** On disk when it resolves. Here while the disk is quick: a flush of 100 us is not worth a hop of the same length. */
  async #writePieces(log: JournalLog, task: JournalWriteTask): Promise<readonly boolean[]> {
    const bytes = task.pieces.reduce((sum, piece) => sum + piece.bytes.length, 0)
    const inline = task.pieces.length <= INLINE_RECORDS_MAX && this.#gate.allows(bytes)
    if (!inline) return await this.#options.pool.run(WRITE_JOB, task)
    const fd = (log.fd ??= openSync(task.file, 'r+'))
    return this.#gate.run(() => writePieces(fd, task))
  }

  /** Opens the log with the same write. */
  async #writeFirst(log: JournalLog, records: readonly JournalPiece[]): Promise<readonly boolean[]> {
    const { pool } = this.#options
    const pieces = [{ bytes: encodeLogHead('open', log) }, ...records]
    return (await pool.run(WRITE_JOB, { file: this.#fileOf(log.index), position: 0, pieces })).slice(1)
  }

  /** The active log, or one that becomes it; null: all are full. */
  #writable(): JournalLog | null {
    if (this.#active !== null) return this.#active
    const idle = this.#logs.find(({ state }) => state === 'idle')
    if (idle === undefined) return null
    this.#generation++
    const salt = this.#options.newSalt?.() ?? randomBytes(8).readBigUInt64LE()
    const use = { generation: this.#generation, salt, number: 0, end: JOURNAL_START, aside: [] }
    Object.assign(idle, { state: 'active', ...use })
    this.#active = idle
    return idle
  }

  #retire(log: JournalLog): void {
    invariant(this.#active === log, 'one log is active at a time')
    this.#active = null
    log.state = 'settling'
    log.settled = this.#settleUntilDone(log)
  }

  /** The only one who settles this log: a second would mark it as settled when it is in use again. */
  async #settleUntilDone(log: JournalLog): Promise<void> {
    await againUntil(this.#options.clock, () => this.#trySettling(log))
  }

  /** true: it is settled, or never will be by this process. */
  async #trySettling(log: JournalLog): Promise<boolean> {
    if (log.state !== 'settling' || this.#isClosed) return true
    try {
      await this.#settle(log)
      log.isWaiting = false
      return true
    } catch (error) {
      // The pool was closed: the next start does the rest.
      if (hasCode(error, 'CANCELLED')) {
        closeLog(log)
        return true
      }
      log.isWaiting = true
      this.#tell(messageOf(error))
      return false
    }
  }

  #tell(why: string): void {
    const times = this.#told.times(why)
    const { folder, log } = this.#options
    if (times > 0) log.warn({ folder, err: why, times }, 'small chunks stay in the journal for now')
  }

  async #settle(log: JournalLog): Promise<void> {
    const { settle } = this.#options
    // What was being written when the log was retired is in #chunks afterwards, and no more chunks come.
    await log.writing
    const ids = [...this.#chunks.values()].filter((one) => one.log === log).map(({ chunk }) => chunk.id)
    await settle(ids)
    // Then what was to get files was not here any more.
    if (this.#isClosed) throw new RingfsError('CANCELLED', 'the journal was closed while files were made of it')
    const state = await leaveLog(log, this.#options.pool, this.#task)
    for (const id of ids) if (this.#chunks.get(id)?.log === log) this.#chunks.delete(id)
    closeLog(log)
    log.state = state
    if (state === 'missing' && this.#ready === 'yes') this.#ready = 'no'
  }

  /** Only while there is something to do. */
  #armTimer(): void {
    if (this.#timer !== null) return
    this.#timer = this.#options.clock.after(FILES_AFTER_MS, () => {
      this.#timer = null
      if (this.#active !== null && this.#active.end > JOURNAL_START) this.#retire(this.#active)
    })
    this.#timer.unref()
  }
}

function closed(): PosixError {
  return new PosixError('EIO', 'the disk of this journal has failed')
}
