/**
 * The chunks in one data folder. Where files lie: paths.ts; what is in them: ../format.ts.
 *
 * Invariants:
 * - A chunk is visible (to read, verify, sync) only after all of it was written and matched its hashes.
 * - One id has one content for ever: a put of an id that exists with another root is CHUNK_CONFLICT and changes nothing.
 * - Work that creates, replaces or deletes the file of an id holds that id's lock. Reads take no lock: a file is immutable
 *   under its name, and an open file outlives its name.
 * - What lies in a folder that the disk cannot list is here for whoever knows its name: it is read, and removed. It is on no list that does not
 *   say so, and no reason for anybody to give up another copy.
 * - Only one process has the folder open (node-folders.ts): the locks above are in memory. Another one of this machine may write
 *   logs into it, which are read here and become files here (small-chunks.ts).
 */
import type { CancelSignal } from '../../base/cancel.js'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError, codeOf, hasCode, messageOf } from '../../base/errors.js'
import { HASH_INLINE_MAX_BYTES, SMALL_CHUNK_BYTES } from '../../base/limits.js'
import { invariant } from '../../base/invariant.js'
import { makeFolders } from '../../base/make-folders.js'
import { Repeats } from '../../base/repeats.js'
import type { LeafPlace, LeavesReply, ListReply, ListRequest } from '../contract.js'
import { dataOffsetOf, encodePrefix, type ChunkHeader } from '../format.js'
import { sumBytes } from '../hash.js'
import { asBuffer, compact } from '../jobs.js'
import { toChunkError } from '../outcome.js'
import type { Job } from '../pool.js'
import type { SharedBuffers } from '../shared-buffer.js'
import { againUntil } from './again.js'
import { DirectChoice } from './direct-choice.js'
import type { ChunkDisk, PutHow, StoredChunk, UnhashedChunk } from './disk.js'
import { storeChunkFile } from './chunk-file.js'
import { ChunkFiles, type PlainRange, type StoredRange } from './chunk-files.js'
import { removeFilesIn, syncFolder } from './files.js'
import { FolderLists, type FolderListsOptions } from './folder-lists.js'
import { InlineGate } from '../../base/inline-gate.js'
import type { JournalDamage } from './journal-file.js'
import { rangeOf, storedRangeOf } from './kept.js'
import { KeyedLock } from './keyed-lock.js'
import { withKept } from './list.js'
import { ChunkPaths } from './paths.js'
import { RecentIds } from './recent-ids.js'
import { Retiring, type Confirm } from './retiring.js'
import { SmallChunks } from './small-chunks.js'
import { SpaceGauge, type Space } from './space.js'
import { StoreJobs } from './store-jobs.js'
import { SyncGroup } from './sync-group.js'
import type {
  ChunkLayout,
  FilesTask,
  MoveTask,
  StoreResult,
  StoreTask,
  SyncResult,
  TakeResult,
  TakeTask,
  Verdict,
  VerifyTask,
} from './tasks.js'

const TAKE_JOB: Job<TakeTask, TakeResult> = { file: 'disk', name: 'take' }
const VERIFY_JOB: Job<VerifyTask, Verdict> = { file: 'disk', name: 'verify' }
const REMOVE_JOB: Job<FilesTask, readonly boolean[]> = { file: 'disk', name: 'remove' }
const EXIST_JOB: Job<FilesTask, readonly boolean[]> = { file: 'disk', name: 'exist' }
const MOVE_JOB: Job<MoveTask, boolean> = { file: 'disk', name: 'move' }
const REMOVE_BATCH_MAX = 1000
const NO_BYTES = Buffer.alloc(0)
/** What was stored before so many others is looked at again when it is synced. */
const WHOLE_MAX = 65_536

export interface ChunkStoreOptions extends FolderListsOptions {
  /** Exists, and is this process's alone: openNodeFolders in node-folders.ts. */
  readonly folder: string
  /** Volume uuid. */
  readonly volume: string
  readonly buffers: SharedBuffers
  readonly clock: Clock
  /** Up to this length the calling thread does the disk work itself, while the disk is quick. Default 128 KiB; 0: never. */
  readonly inlineMaxBytes?: number
  /** Kept free. Default 1 % of the disk, at most 1 GiB. */
  readonly reserveBytes?: number
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
  readonly #jobs: StoreJobs
  readonly #small: SmallChunks
  readonly #retiring: Retiring
  /** Files that this process has written, or compared with their hashes: flushed, they are on disk as they should be. */
  readonly #whole = new RecentIds(WHOLE_MAX)
  readonly #lists: FolderLists
  #chunks = 0
  #isAbandoned = false
  /** Chunks beside this node that could not be given files when that was last tried. */
  #waitingBeside = 0
  readonly #told: Repeats

  private constructor(options: ChunkStoreOptions) {
    this.#options = options
    this.#paths = new ChunkPaths(options.folder)
    const inlineMaxBytes = options.inlineMaxBytes ?? HASH_INLINE_MAX_BYTES
    const isInline = inlineMaxBytes > 0
    this.#gate = new InlineGate(options.clock, inlineMaxBytes)
    this.#files = new ChunkFiles({ ...options, gate: this.#gate, direct: this.#direct })
    this.#jobs = new StoreJobs({ ...options, direct: this.#direct })
    this.#gauge = new SpaceGauge({ ...options, isInline })
    this.#syncs = new SyncGroup(options.pool, this.#paths)
    this.#small = new SmallChunks({ ...options, isInline }, this.#paths, this.#locks)
    this.#retiring = new Retiring(this.#locks, (ids) => this.#removeBatch(ids))
    this.#lists = new FolderLists(options)
    this.#told = new Repeats(options.clock)
  }

  /**
   * Makes the folders, removes what a crash left half-written, counts the chunks. Small chunks that have no files get them now, or when the disk
   * takes them: until then they are in their logs, and here.
   */
  static async open(options: ChunkStoreOptions): Promise<ChunkStore> {
    const store = new ChunkStore(options)
    const { chunks, temporary, quarantine } = store.#paths
    for (const folder of [chunks, temporary, quarantine]) makeFolders(folder, 0o700)
    // What is said to be on disk lies in them.
    syncFolder(options.folder)
    // A process beside this one may delete its own at the same time.
    removeFilesIn(temporary, options.log)
    await store.#gauge.open()
    await store.#small.load()
    const isDone = await store.#settleBeside()
    store.#chunks = await store.#count()
    // Not before all is counted.
    store.#small.goOn()
    if (!isDone) void againUntil(options.clock, () => store.#settleBeside())
    return store
  }

  /** Those of its journal count without a file, too. */
  async #count(): Promise<number> {
    const { pool } = this.#options
    const files = await this.#lists.count()
    const there = await pool.run(EXIST_JOB, { files: this.#small.ownIds.map((id) => this.#paths.fileOf(id)) })
    return files + there.filter((isThere) => !isThere).length
  }

  /** What lies beside this node gets files. true: it has them, or never will. */
  async #settleBeside(): Promise<boolean> {
    if (this.#isAbandoned) return true
    const ids: number[] = []
    try {
      ids.push(...(await this.#small.allBeside()).map(({ id }) => id))
      await this.sync(ids)
      this.#waitingBeside = 0
      return true
    } catch (error) {
      if (hasCode(error, 'CANCELLED')) return true
      this.#waitingBeside = ids.length
      const { folder, log } = this.#options
      const err = messageOf(error)
      const times = this.#told.times(err)
      if (times > 0) log.warn({ folder, err, times }, 'small chunks written beside the node stay there for now')
      return false
    }
  }

  /** Its disk has failed, or the node ends: nothing is written to it any more by itself. Nobody asks it anything afterwards. */
  abandon(): void {
    this.#isAbandoned = true
    this.#small.abandon()
  }

  /** How many small chunks could not be given files when that was last tried: they stay in their logs, and are read from there. */
  get waiting(): number {
    return this.#small.waiting + this.#waitingBeside
  }

  get chunks(): number {
    return this.#chunks
  }

  /** What is bad in the logs of small chunks: it is not here. */
  get damage(): JournalDamage {
    return this.#small.damage
  }

  /** Folders of chunks that could not be listed when that was last tried, and why the first of them. */
  get unlisted(): { readonly count: number; readonly why: string } {
    return { count: this.#lists.unlisted, why: this.#lists.unlistedWhy }
  }

  /** That these chunks have no files is on disk when these folders are. */
  foldersOf(ids: readonly number[]): readonly string[] {
    return [...new Set(ids.map((id) => this.#paths.foldersOf(id).inner))]
  }

  space(): Space {
    return this.#gauge.space()
  }

  /** Every chunk that is here now has a file of its own afterwards, also those that went into the journal. */
  async settle(): Promise<void> {
    await this.#small.settleAll()
  }

  async put(chunk: StoredChunk, data: readonly Uint8Array[], sync = false): Promise<void> {
    if ((await this.#put(chunk, data, sync)) === 'stored' && sync) await this.#syncStored(chunk.id)
  }

  async putUnhashed(chunk: UnhashedChunk, data: readonly Uint8Array[], { sync, signal }: PutHow): Promise<Buffer> {
    const leaves = await this.#putUnhashed(chunk, data, signal)
    if (sync) await this.#syncStored(chunk.id)
    return leaves
  }

  async putPrepared(chunk: StoredChunk, name: string, sync = false): Promise<void> {
    await this.#take(chunk, name)
    if (sync) await this.#syncStored(chunk.id)
  }

  async #syncStored(id: number): Promise<void> {
    const missing = await this.sync([id])
    if (missing.length > 0) throw new RingfsError('CHUNK_MISSING', `chunk ${id} was removed while it was stored`)
  }

  async #take(chunk: StoredChunk, name: string): Promise<void> {
    const { id } = chunk
    const prepared = this.#paths.preparedOf(id, name)
    if (prepared === undefined) throw new PosixError('EINVAL', `chunk ${id}: no file of that name is prepared for it`)
    // Its bytes count already: only what is kept free may not be taken.
    await this.#gauge.claim(1)
    await this.#locks.run(id, async () => {
      if ((await this.#small.put(chunk, NO_BYTES, [], false)) !== null) {
        throw new PosixError('EINVAL', `chunk ${id} cannot be taken: it is being stored here as a small one`)
      }
      const places = { ...this.#placesOf(id), root: compact(chunk.root), temporary: prepared }
      const result = await this.#options.pool.run(TAKE_JOB, places)
      this.#noteStored(id, result, result.layout)
    })
  }

  async #put(chunk: StoredChunk, data: readonly Uint8Array[], sync: boolean): Promise<'stored' | 'on disk'> {
    const { volume } = this.#options
    const lengthBytes = sumBytes(data)
    const header: ChunkHeader = { volume, id: chunk.id, lengthBytes, root: chunk.root, origin: chunk.origin }
    const prefix = encodePrefix(header, chunk.leaves)
    await this.#gauge.claim(prefix.length + lengthBytes)
    return await this.#locks.run(chunk.id, async () => {
      const small = await this.#small.put(chunk, prefix, data, sync)
      if (small === 'new') this.#chunks++
      if (small === 'beside') return 'stored'
      if (small !== null) return 'on disk'
      const result = await this.#store(this.#storeTask(chunk, prefix, data), lengthBytes)
      const leaves = compact(chunk.leaves)
      this.#noteStored(chunk.id, result, { lengthBytes, dataOffset: prefix.length, leaves })
      return 'stored'
    })
  }

  async #putUnhashed(
    { id, origin }: UnhashedChunk,
    data: readonly Uint8Array[],
    signal: CancelSignal | undefined,
  ): Promise<Buffer> {
    const lengthBytes = sumBytes(data)
    invariant(lengthBytes > SMALL_CHUNK_BYTES, 'a chunk that is hashed where it is stored is a long one')
    await this.#gauge.claim(dataOffsetOf(origin.extents.length, lengthBytes, origin.orders !== undefined) + lengthBytes)
    return await this.#locks.run(id, async () => {
      await this.#small.mustNotHave(id)
      const task = { ...this.#placesOf(id), temporary: this.#paths.newTemporary(id), origin }
      const result = await this.#toldIfFull(() => this.#jobs.hashAndStore(task, data, lengthBytes, signal))
      const leaves = asBuffer(result.leaves)
      this.#noteStored(id, result, { lengthBytes, dataOffset: result.dataOffset, leaves })
      return leaves
    })
  }

  #noteStored(id: number, result: Pick<StoreResult, 'created' | 'replacedBad'>, layout: ChunkLayout): void {
    const { lengthBytes, dataOffset, leaves } = layout
    this.#files.know(id, { lengthBytes, dataOffset, leaves })
    if (result.created && !result.replacedBad) this.#chunks++
    // Its old file may be open still, if it was replaced. A copy that was here keeps its own header, and with other extents its data begins elsewhere.
    if (!result.created || result.replacedBad) this.#files.forget(id)
    this.#whole.add(id)
  }

  #placesOf(id: number): Omit<TakeTask, 'temporary' | 'root'> {
    return {
      volume: this.#options.volume,
      id,
      folder: this.#paths.foldersOf(id).inner,
      file: this.#paths.fileOf(id),
      quarantine: this.#paths.newQuarantine(id),
    }
  }

  #storeTask(chunk: StoredChunk, prefix: Buffer, data: readonly Uint8Array[]): StoreTask {
    const temporary = this.#paths.newTemporary(chunk.id)
    const hashes = { root: compact(chunk.root), leaves: compact(chunk.leaves) }
    return { ...this.#placesOf(chunk.id), ...hashes, prefix, data, temporary, direct: false }
  }

  async #store(task: StoreTask, lengthBytes: number): Promise<StoreResult> {
    return await this.#toldIfFull(async () => {
      if (this.#gate.allows(lengthBytes)) return this.#gate.run(() => storeChunkFile(task))
      return await this.#jobs.store(task, lengthBytes)
    })
  }

  async #toldIfFull<T>(store: () => Promise<T>): Promise<T> {
    try {
      return await store()
    } catch (error) {
      const known = toChunkError(error)
      if (known.code === 'ENOSPC') this.#gauge.refresh()
      throw known
    }
  }

  async sync(ids: readonly number[]): Promise<readonly number[]> {
    await this.#adopt(ids)
    const missing = await this.#syncAll(ids)
    if (missing.length === 0) return missing
    // Who has written it beside this node takes what is missing for removed: it may lie behind something bad.
    const found = new Set(await this.#adopt(missing, true))
    const late = found.size === 0 ? [] : await this.#syncAll([...found])
    return missing.filter((id) => !found.has(id) || late.includes(id))
  }

  async #syncAll(ids: readonly number[]): Promise<readonly number[]> {
    const damaged = await this.#damaged(ids)
    const results = await Promise.all(
      ids.map((id) => (damaged.has(id) ? Promise.resolve<SyncResult>('missing') : this.#syncOne(id))),
    )
    // Not before: of one that could not be put on disk a file is made again.
    this.#small.forget(ids.filter((_, index) => results[index] === 'synced'))
    const failed = ids.filter((_, index) => results[index] === 'failed')
    for (const id of failed) this.#noteAside(id, 'fdatasync failed')
    if (failed.length > 0) throw new PosixError('EIO', `the disk could not write ${failed.length} chunks`)
    return ids.filter((_, index) => results[index] === 'missing')
  }

  /** Answers which of them were found beside this node. */
  async #adopt(ids: readonly number[], isThorough = false): Promise<readonly number[]> {
    const { here, made } = await this.#small.adopt(ids, isThorough)
    for (const id of here) this.#whole.add(id)
    this.#chunks += made
    return here
  }

  /**
   * After a loss of power a file may have its name and not its bytes: to flush it would promise what is not there. Such a one is missing, and
   * stays for its good leaves. One after the other: others want to read and write meanwhile, and who asks again finds what was looked at.
   */
  async #damaged(ids: readonly number[]): Promise<ReadonlySet<number>> {
    const damaged = new Set<number>()
    for (const id of ids) {
      if (this.#whole.has(id) || this.#small.get(id) !== undefined) continue
      if ((await this.verify(id)).state !== 'good') damaged.add(id)
    }
    return damaged
  }

  #syncOne(id: number): Promise<SyncResult> {
    return this.#small.get(id) === undefined ? this.#syncs.request(id) : Promise.resolve('synced')
  }

  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null {
    const kept = this.#small.get(id)
    return kept === undefined ? this.#files.readNow(id, offset, lengthBytes) : rangeOf(kept, offset, lengthBytes)
  }

  /** Those without a file are in memory: one by one they are read as quickly. */
  async readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply> {
    return await this.#files.readLeaves(places, (id) => this.#small.get(id) === undefined)
  }

  async read(id: number, offset: number, lengthBytes: number, withOrigin = false, check = false): Promise<StoredRange> {
    const kept = this.#small.get(id)
    if (kept !== undefined) return storedRangeOf(kept, offset, lengthBytes, withOrigin)
    try {
      return await this.#files.read(id, offset, lengthBytes, withOrigin, check)
    } catch (error) {
      if (codeOf(error) !== 'CHUNK_MISSING') throw error
      const near = await this.#small.beside(id)
      if (near !== undefined) return storedRangeOf(near, offset, lengthBytes, withOrigin)
      // It may just have got its file.
      return await this.#files.read(id, offset, lengthBytes, withOrigin, check)
    }
  }

  async verify(id: number): Promise<Verdict> {
    const { pool, volume } = this.#options
    const kept = this.#small.get(id)
    // It was verified when it was put there, and is on disk in the journal.
    if (kept !== undefined) return { state: 'good', root: kept.root }
    const verdict = await pool.run(VERIFY_JOB, { file: this.#paths.fileOf(id), volume, id })
    if (verdict.state === 'good') this.#whole.add(id)
    else this.#whole.delete(id)
    const near = verdict.state === 'missing' ? await this.#small.beside(id) : undefined
    return near === undefined ? verdict : { state: 'good', root: near.root }
  }

  async quarantine(id: number): Promise<Verdict> {
    return await this.#locks.run(id, async () => {
      this.#files.forget(id)
      const verdict = await this.verify(id)
      if (verdict.state === 'bad') await this.#moveAside(id, verdict.why)
      return verdict
    })
  }

  async list(request: ListRequest): Promise<ListReply> {
    // First: what gets its file meanwhile is among the files, and counts once.
    const kept = await this.#small.all()
    return withKept(await this.#lists.list(request), request, kept)
  }

  /** The caller holds the id's lock. */
  async #moveAside(id: number, why: string): Promise<void> {
    // Before, too: who is told meanwhile that it is whole, or has its file open, is told of what goes.
    this.#files.forget(id)
    this.#whole.delete(id)
    const task = { from: this.#paths.fileOf(id), to: this.#paths.newQuarantine(id) }
    if (await this.#options.pool.run(MOVE_JOB, task)) this.#noteAside(id, why)
  }

  #noteAside(id: number, why: string): void {
    this.#files.forget(id)
    this.#whole.delete(id)
    this.#chunks--
    this.#options.log.warn({ chunk: id, why }, 'bad chunk copy set aside')
  }

  async lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]> {
    const missing = new Set(verify ? await this.#unsound(ids) : await this.#absent(ids))
    // Last: what has begun to go since is missing, too.
    return ids.filter((id) => missing.has(id) || this.#retiring.has(id))
  }

  /** Which of them are here, whether or not they are being given up. Errors: what the disk says. */
  async holds(ids: readonly number[]): Promise<ReadonlySet<number>> {
    const absent = new Set(await this.#absent(ids))
    return new Set(ids.filter((id) => !absent.has(id)))
  }

  async #absent(ids: readonly number[]): Promise<readonly number[]> {
    await this.#small.look()
    const elsewhere = ids.filter((id) => !this.#small.has(id))
    if (elsewhere.length === 0) return []
    const there = await this.#options.pool.run(EXIST_JOB, { files: elsewhere.map((id) => this.#paths.fileOf(id)) })
    // One that was in the journal may have got its file since.
    return elsewhere.filter((_, index) => there[index] !== true)
  }

  async #unsound(ids: readonly number[]): Promise<readonly number[]> {
    // Those that are going are missing anyway, and who gives them up asks while it holds their locks.
    await this.#adopt(ids.filter((id) => !this.#retiring.has(id)))
    const good: number[] = []
    for (const id of ids) {
      // Nobody is to give up another copy for one that is on no list, and may be gone with its name.
      if (!this.#lists.isUnlisted(id) && (await this.verify(id)).state === 'good') good.push(id)
    }
    const onDisk = new Set(good)
    for (const id of await this.#syncAll(good)) onDisk.delete(id)
    return ids.filter((id) => !onDisk.has(id))
  }

  isRetiring(id: number): boolean {
    return this.#retiring.has(id)
  }

  async retire(ids: readonly number[], confirm: Confirm): Promise<number> {
    return await this.#retiring.retire(ids, confirm)
  }

  async remove(ids: readonly number[]): Promise<void> {
    await this.#locks.runBatches(ids, REMOVE_BATCH_MAX, (batch) => this.#removeBatch(batch))
  }

  async #removeBatch(ids: readonly number[]): Promise<void> {
    for (const id of ids) this.#files.forget(id)
    const inJournal = await this.#small.remove(ids)
    const files = ids.map((id) => this.#paths.fileOf(id))
    const removed = await this.#options.pool.run(REMOVE_JOB, { files })
    // A chunk of the journal may have its file by now.
    this.#chunks -= ids.filter((id, index) => removed[index] === true || inJournal.has(id)).length
    this.#gauge.refresh()
  }
}
