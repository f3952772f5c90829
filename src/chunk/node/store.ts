/**
 * The chunks in one data folder. Where files lie: paths.ts; what is in them: ../format.ts.
 *
 * Invariants:
 * - A chunk is visible (to read, verify, sync) only after all of it was written and matched its hashes.
 * - One id has one content for ever: a put of an id that exists with another root is CHUNK_CONFLICT and changes nothing.
 * - Work that creates, replaces or deletes the file of an id holds that id's lock. Reads take no lock: a file is immutable
 *   under its name, and an open file outlives its name.
 * - A copy that is being given up (retire) is missing already for whoever asks `lacks`: two nodes that give up the same chunk do
 *   not rely on each other.
 * - Only one process has the folder open (identity.ts): the locks above are in memory. Another one of this machine may write logs
 *   into it, which are read here and become files here (near-logs.ts).
 */
import { mkdirSync, readdirSync, renameSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError } from '../../base/errors.js'
import { HASH_INLINE_MAX_BYTES, SMALL_CHUNK_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import type { ChunkOrigin, ListReply, ListRequest } from '../contract.js'
import { encodePrefix, type ChunkHeader } from '../format.js'
import { firstBadLeaf, rootOf, sumBytes } from '../hash.js'
import { compact } from '../jobs.js'
import { codeOf, toChunkError } from '../outcome.js'
import type { Job, WorkerPool } from '../pool.js'
import { sharePieces, type SharedBuffers } from '../shared-buffer.js'
import { DirectChoice } from './direct-choice.js'
import { DIRECT_MIN_BYTES, canBeDirect } from './direct-file.js'
import { storeChunkFile } from './chunk-file.js'
import { ChunkFiles, type PlainRange, type StoredRange } from './chunk-files.js'
import { InlineGate } from '../../base/inline-gate.js'
import { storeTaskOf, syncTaskOf } from './journal-file.js'
import { Journal, type JournalChunk } from './journal.js'
import { rangeOf, storedRangeOf } from './kept.js'
import { KeyedLock } from './keyed-lock.js'
import { withKept } from './list.js'
import { NearLogs } from './near-logs.js'
import { ChunkPaths } from './paths.js'
import { SpaceGauge, type Space } from './space.js'
import { SyncGroup } from './sync-group.js'
import type {
  CountTask,
  ListResult,
  ListTask,
  FilesTask,
  StoreResult,
  StoreTask,
  SyncResult,
  SyncTask,
  Verdict,
  VerifyTask,
} from './tasks.js'

const STORE_JOB: Job<StoreTask, StoreResult> = { file: 'disk', name: 'store' }
const VERIFY_JOB: Job<VerifyTask, Verdict> = { file: 'disk', name: 'verify' }
const REMOVE_JOB: Job<FilesTask, readonly boolean[]> = { file: 'disk', name: 'remove' }
const EXIST_JOB: Job<FilesTask, readonly boolean[]> = { file: 'disk', name: 'exist' }
const COUNT_JOB: Job<CountTask, number> = { file: 'disk', name: 'count' }
const LIST_JOB: Job<ListTask, ListResult> = { file: 'disk', name: 'list' }
const SETTLE_JOB: Job<readonly StoreTask[], readonly boolean[]> = { file: 'disk', name: 'settle' }
const SYNC_JOB: Job<SyncTask, readonly SyncResult[]> = { file: 'disk', name: 'sync' }
const REMOVE_BATCH_MAX = 1000
const SETTLE_BATCH_MAX = 64
/** Others verify them meanwhile: up to 64 MiB. */
const RETIRE_BATCH_MAX = 16

export interface ChunkStoreOptions {
  /** Exists, and is this process's alone: openDataFolder in identity.ts. */
  readonly folder: string
  /** Volume uuid. */
  readonly volume: string
  readonly pool: WorkerPool
  readonly buffers: SharedBuffers
  readonly clock: Clock
  readonly log: Log
  /** Up to this length the calling thread does the disk work itself, while the disk is quick. Default 128 KiB; 0: never. */
  readonly inlineMaxBytes?: number
  /** Kept free. Default 1 % of the disk, at most 1 GiB. */
  readonly reserveBytes?: number
}

export interface StoredChunk {
  readonly id: number
  /** 32 bytes. */
  readonly root: Buffer
  readonly leaves: Buffer
  readonly origin: ChunkOrigin
}

/** What ChunkService needs of a disk. Errors of all: RingfsError, PosixError. */
export interface ChunkDisk {
  /** Verifies and stores; on disk if `sync`. Errors: CHUNK_CORRUPT, CHUNK_CONFLICT, CHUNK_MISSING, ENOSPC, EINVAL, EIO. */
  put(chunk: StoredChunk, data: readonly Uint8Array[], sync?: boolean): Promise<void>
  /** fdatasync; answers the ids that are not here. Errors: EIO (such a copy is set aside: it cannot be trusted). */
  sync(ids: readonly number[]): Promise<readonly number[]>
  /** Not verified, unless `check` and the answer says so. Errors: CHUNK_MISSING, CHUNK_CORRUPT. */
  read(id: number, offset: number, lengthBytes: number, withOrigin?: boolean, check?: boolean): Promise<StoredRange>
  /** As read, in this tick; null where that would make anybody wait, or does not succeed. */
  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null
  verify(id: number): Promise<Verdict>
  /** Sets a bad copy aside; nothing if it is gone or good by now. */
  quarantine(id: number): Promise<Verdict>
  /** One page of what is here. */
  list(request: ListRequest): Promise<ListReply>
  /** Which are not here, or being given up; with `verify`, also those that are not on disk or not what they should be. */
  lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]>
  /**
   * Removes those of them that `confirm` answers, which may take seconds and is asked of a few at a time. Nobody else creates or
   * changes them meanwhile. Answers how many.
   */
  retire(ids: readonly number[], confirm: (ids: readonly number[]) => Promise<readonly number[]>): Promise<number>
  /** Idempotent. */
  remove(ids: readonly number[]): Promise<void>
  space(): Space
  readonly chunks: number
}

export type { StoredRange } from './chunk-files.js'

export class ChunkStore implements ChunkDisk {
  readonly #options: ChunkStoreOptions
  readonly #paths: ChunkPaths
  readonly #locks = new KeyedLock()
  readonly #gate: InlineGate
  readonly #gauge: SpaceGauge
  readonly #syncs: SyncGroup
  readonly #direct = new DirectChoice()
  readonly #files: ChunkFiles
  readonly #journal: Journal
  readonly #retiring = new Set<number>()
  readonly #near: NearLogs
  #chunks = 0

  private constructor(options: ChunkStoreOptions) {
    this.#options = options
    this.#paths = new ChunkPaths(options.folder)
    this.#gate = new InlineGate(options.clock, options.inlineMaxBytes ?? HASH_INLINE_MAX_BYTES)
    this.#files = new ChunkFiles({ ...options, gate: this.#gate, direct: this.#direct })
    this.#gauge = new SpaceGauge(options.folder, options.clock, options.reserveBytes)
    this.#syncs = new SyncGroup(options.pool, this.#paths)
    this.#near = new NearLogs(options.folder)
    this.#journal = new Journal({ ...options, settle: (ids) => this.#settle(ids) })
  }

  /** Makes the folders, removes what a crash left half-written, counts the chunks. */
  static async open(options: ChunkStoreOptions): Promise<ChunkStore> {
    const store = new ChunkStore(options)
    const { chunks, temporary, quarantine } = store.#paths
    for (const folder of [chunks, temporary, quarantine]) mkdirSync(folder, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(temporary)) unlinkSync(join(temporary, name))
    await store.#journal.replay()
    await store.sync(store.#near.all().map(({ id }) => id))
    store.#chunks = await options.pool.run(COUNT_JOB, { folder: chunks })
    return store
  }

  get chunks(): number {
    return this.#chunks
  }

  space(): Space {
    return this.#gauge.space()
  }

  /** Every chunk that is here now has a file of its own afterwards, also those that went into the journal. */
  async settle(): Promise<void> {
    await this.#journal.settleAll()
  }

  async put(chunk: StoredChunk, data: readonly Uint8Array[], sync = false): Promise<void> {
    if ((await this.#put(chunk, data, sync)) === 'on disk' || !sync) return
    const missing = await this.sync([chunk.id])
    if (missing.length > 0) throw new RingfsError('CHUNK_MISSING', `chunk ${chunk.id} was removed while it was stored`)
  }

  async #put(chunk: StoredChunk, data: readonly Uint8Array[], sync: boolean): Promise<'stored' | 'on disk'> {
    const { volume } = this.#options
    const lengthBytes = sumBytes(data)
    const header: ChunkHeader = { volume, id: chunk.id, lengthBytes, root: chunk.root, origin: chunk.origin }
    const prefix = encodePrefix(header, chunk.leaves)
    this.#gauge.claim(prefix.length + lengthBytes)
    return await this.#locks.run(chunk.id, async () => {
      if (await this.#putInJournal(chunk, prefix, data, sync)) return 'on disk'
      const result = await this.#store(this.#storeTask(chunk, prefix, data), lengthBytes)
      const leaves = compact(chunk.leaves)
      this.#files.know(chunk.id, { lengthBytes, dataOffset: prefix.length, leaves })
      if (result.created && !result.replacedBad) this.#chunks++
      // Its old file may be open still, if it was replaced. A copy that was here keeps its own header, and with other extents its data begins elsewhere.
      if (!result.created || result.replacedBad) this.#files.forget(chunk.id)
      return 'stored'
    })
  }

  /** true: it is there, or was. The caller holds the id's lock. Errors: CHUNK_CORRUPT, CHUNK_CONFLICT, EIO, ENOSPC. */
  async #putInJournal(
    chunk: StoredChunk,
    prefix: Buffer,
    data: readonly Uint8Array[],
    sync: boolean,
  ): Promise<boolean> {
    const { id, root } = chunk
    const known = this.#journal.get(id) ?? this.#near.get(id)
    if (known !== undefined) {
      if (known.root.equals(root)) return true
      throw new RingfsError('CHUNK_CONFLICT', `chunk ${id} exists already with other contents`)
    }
    if (!sync || sumBytes(data) > SMALL_CHUNK_BYTES) return false
    // A copy: nobody changes it while it is verified and written.
    const file = Buffer.concat([prefix, ...data])
    const bytes = file.subarray(prefix.length)
    if (!rootOf(chunk.leaves).equals(root) || firstBadLeaf([bytes], chunk.leaves, 0) >= 0) {
      throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: the data do not match the hashes`)
    }
    const layout = { lengthBytes: bytes.length, dataOffset: prefix.length, leaves: compact(chunk.leaves) }
    const taken = await this.#journal.append({ id, root: Buffer.from(root), layout, file }, this.#paths.fileOf(id))
    if (taken) this.#chunks++
    return taken
  }

  /** Chunks of the journal get files of their own, on disk. Errors: what the disk says. */
  async #settle(ids: readonly number[]): Promise<void> {
    await this.#makeFiles(ids, (id) => this.#journal.get(id))
    const { pool } = this.#options
    const results = await pool.run(SYNC_JOB, syncTaskOf(this.#paths, ids))
    if (results.includes('failed')) throw new PosixError('EIO', 'the disk could not write chunks of the journal')
  }

  /** Of those that are kept, not yet on disk; answers how many were not there. */
  async #makeFiles(ids: readonly number[], keptAs: (id: number) => JournalChunk | undefined): Promise<number> {
    const { pool, volume } = this.#options
    let made = 0
    for (let at = 0; at < ids.length; at += SETTLE_BATCH_MAX) {
      const batch = ids.slice(at, at + SETTLE_BATCH_MAX)
      await this.#locks.runAll(batch, async () => {
        const here = batch.flatMap((id) => keptAs(id) ?? [])
        const tasks = here.map(({ id, file }) => storeTaskOf(this.#paths, volume, id, file))
        made += (await pool.run(SETTLE_JOB, tasks)).filter(Boolean).length
      })
    }
    return made
  }

  #storeTask(chunk: StoredChunk, prefix: Buffer, data: readonly Uint8Array[]): StoreTask {
    const folder = this.#paths.foldersOf(chunk.id).inner
    return {
      volume: this.#options.volume,
      id: chunk.id,
      root: compact(chunk.root),
      leaves: compact(chunk.leaves),
      prefix,
      data,
      temporary: this.#paths.newTemporary(chunk.id),
      folder,
      file: this.#paths.fileOf(chunk.id),
      quarantine: this.#paths.newQuarantine(chunk.id),
      direct: false,
    }
  }

  async #store(task: StoreTask, lengthBytes: number): Promise<StoreResult> {
    try {
      if (this.#gate.allows(lengthBytes)) return this.#gate.run(() => storeChunkFile(task))
      return await this.#storeInWorker(task, lengthBytes)
    } catch (error) {
      const known = toChunkError(error)
      if (known.code === 'ENOSPC') this.#gauge.refresh()
      throw known
    }
  }

  async #storeInWorker(task: StoreTask, lengthBytes: number): Promise<StoreResult> {
    const { buffers, pool } = this.#options
    const shared = sharePieces(buffers, task.data, lengthBytes)
    const direct = canBeDirect(shared.pieces) && this.#direct.forWrite()
    try {
      const result = await pool.run(STORE_JOB, { ...task, data: shared.pieces, direct })
      if (result.created) this.#noteWrite(direct, result, lengthBytes)
      return result
    } finally {
      shared.release()
    }
  }

  #noteWrite(asked: boolean, { direct, writeUs }: StoreResult, lengthBytes: number): void {
    if (asked && !direct) this.#direct.refused()
    else if (lengthBytes >= DIRECT_MIN_BYTES) this.#direct.wrote(direct, lengthBytes, writeUs)
  }

  async sync(ids: readonly number[]): Promise<readonly number[]> {
    await this.#adopt(ids)
    return await this.#syncAll(ids)
  }

  async #syncAll(ids: readonly number[]): Promise<readonly number[]> {
    const results = await Promise.all(ids.map((id) => this.#syncOne(id)))
    // Not before: of one that could not be put on disk a file is made again.
    this.#near.forget(ids.filter((_, index) => results[index] === 'synced'))
    const failed = ids.filter((_, index) => results[index] === 'failed')
    for (const id of failed) await this.#setAside(id)
    if (failed.length > 0) throw new PosixError('EIO', `the disk could not write ${failed.length} chunks`)
    return ids.filter((_, index) => results[index] === 'missing')
  }

  /** What of these another process has left in its logs gets files. */
  async #adopt(ids: readonly number[]): Promise<void> {
    this.#near.refresh()
    const near = ids.filter((id) => this.#journal.get(id) === undefined && this.#near.known(id) !== undefined)
    if (near.length === 0) return
    this.#chunks += await this.#makeFiles(near, (id) => this.#near.known(id))
  }

  #syncOne(id: number): Promise<SyncResult> {
    return this.#journal.get(id) === undefined ? this.#syncs.request(id) : Promise.resolve('synced')
  }

  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null {
    const kept = this.#journal.get(id)
    return kept === undefined ? this.#files.readNow(id, offset, lengthBytes) : rangeOf(kept, offset, lengthBytes)
  }

  async read(id: number, offset: number, lengthBytes: number, withOrigin = false, check = false): Promise<StoredRange> {
    const kept = this.#journal.get(id)
    if (kept !== undefined) return storedRangeOf(kept, offset, lengthBytes, withOrigin)
    try {
      return await this.#files.read(id, offset, lengthBytes, withOrigin, check)
    } catch (error) {
      if (codeOf(error) !== 'CHUNK_MISSING') throw error
      const near = this.#near.get(id)
      if (near !== undefined) return storedRangeOf(near, offset, lengthBytes, withOrigin)
      // It may just have got its file.
      return await this.#files.read(id, offset, lengthBytes, withOrigin, check)
    }
  }

  async verify(id: number): Promise<Verdict> {
    const { pool, volume } = this.#options
    const kept = this.#journal.get(id)
    // It was verified when it was put there, and is on disk in the journal.
    if (kept !== undefined) return { state: 'good', root: kept.root }
    const verdict = await pool.run(VERIFY_JOB, { file: this.#paths.fileOf(id), volume, id })
    const near = verdict.state === 'missing' ? this.#near.get(id) : undefined
    return near === undefined ? verdict : { state: 'good', root: near.root }
  }

  async quarantine(id: number): Promise<Verdict> {
    return await this.#locks.run(id, async () => {
      this.#files.forget(id)
      const verdict = await this.verify(id)
      if (verdict.state === 'bad') this.#moveAside(id, verdict.why)
      return verdict
    })
  }

  async list(request: ListRequest): Promise<ListReply> {
    // First: what gets its file meanwhile is among the files, and counts once.
    const near = this.#near.all().filter(({ id }) => this.#journal.get(id) === undefined)
    const kept = [...this.#journal.all(), ...near]
    const task = { ...request, folder: this.#options.folder }
    const page = await this.#options.pool.run(LIST_JOB, task)
    return withKept(page, request, kept)
  }

  #setAside(id: number): Promise<void> {
    return this.#locks.run(id, () => {
      this.#moveAside(id, 'fdatasync failed')
    })
  }

  /** The caller holds the id's lock. */
  #moveAside(id: number, why: string): void {
    this.#files.forget(id)
    try {
      renameSync(this.#paths.fileOf(id), this.#paths.newQuarantine(id))
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return
      throw toChunkError(error)
    }
    this.#chunks--
    this.#options.log.warn({ chunk: id, why }, 'bad chunk copy set aside')
  }

  async lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]> {
    const missing = new Set(verify ? await this.#unsound(ids) : await this.#absent(ids))
    // Last: what has begun to go since is missing, too.
    return ids.filter((id) => missing.has(id) || this.#retiring.has(id))
  }

  async #absent(ids: readonly number[]): Promise<readonly number[]> {
    this.#near.refresh()
    const isKept = (id: number): boolean => (this.#journal.get(id) ?? this.#near.known(id)) !== undefined
    const elsewhere = ids.filter((id) => !isKept(id))
    if (elsewhere.length === 0) return []
    const there = await this.#options.pool.run(EXIST_JOB, { files: elsewhere.map((id) => this.#paths.fileOf(id)) })
    // One that was in the journal may have got its file since.
    return elsewhere.filter((_, index) => there[index] !== true)
  }

  async #unsound(ids: readonly number[]): Promise<readonly number[]> {
    // Those that are going are missing anyway, and who gives them up asks while it holds their locks.
    await this.#adopt(ids.filter((id) => !this.#retiring.has(id)))
    const missing = new Set(await this.#syncAll(ids))
    for (const id of ids) {
      if (!missing.has(id) && (await this.verify(id)).state !== 'good') missing.add(id)
    }
    return [...missing]
  }

  async retire(
    ids: readonly number[],
    confirm: (ids: readonly number[]) => Promise<readonly number[]>,
  ): Promise<number> {
    let given = 0
    for (let at = 0; at < ids.length; at += RETIRE_BATCH_MAX) {
      const batch = ids.slice(at, at + RETIRE_BATCH_MAX)
      given += await this.#locks.runAll(batch, () => this.#retireBatch(batch, confirm))
    }
    return given
  }

  async #retireBatch(
    ids: readonly number[],
    confirm: (ids: readonly number[]) => Promise<readonly number[]>,
  ): Promise<number> {
    // Before anybody is asked: see the invariant.
    for (const id of ids) this.#retiring.add(id)
    try {
      const safe = await confirm(ids)
      await this.#removeBatch(safe)
      return safe.length
    } finally {
      for (const id of ids) this.#retiring.delete(id)
    }
  }

  async remove(ids: readonly number[]): Promise<void> {
    for (let at = 0; at < ids.length; at += REMOVE_BATCH_MAX) {
      const batch = ids.slice(at, at + REMOVE_BATCH_MAX)
      await this.#locks.runAll(batch, () => this.#removeBatch(batch))
    }
  }

  async #removeBatch(ids: readonly number[]): Promise<void> {
    for (const id of ids) this.#files.forget(id)
    this.#near.refresh()
    this.#near.forget(ids)
    const inJournal = await this.#journal.remove(ids)
    const files = ids.map((id) => this.#paths.fileOf(id))
    const removed = await this.#options.pool.run(REMOVE_JOB, { files })
    // A chunk of the journal may have its file by now.
    this.#chunks -= ids.filter((id, index) => removed[index] === true || inJournal.has(id)).length
    this.#gauge.refresh()
  }
}
