/**
 * The chunks of a data folder that have no file of their own yet: those in this node's journal (journal.ts), and those that a process
 * beside it has written (near-logs.ts). Here they are found, and here they get their files.
 *
 * Invariant: a file of a chunk is made while the lock of its id is held.
 */
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError } from '../../base/errors.js'
import { SMALL_CHUNK_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import { firstBadLeaf, rootOf, sumBytes } from '../hash.js'
import { compact } from '../jobs.js'
import type { Job, WorkerPool } from '../pool.js'
import type { StoredChunk } from './disk.js'
import { storeTaskOf, syncTaskOf, type JournalDamage } from './journal-file.js'
import { Journal, type JournalChunk } from './journal.js'
import type { KeyedLock } from './keyed-lock.js'
import { NearLogs } from './near-logs.js'
import type { ChunkPaths } from './paths.js'
import type { StoreTask, SyncResult, SyncTask } from './tasks.js'

const SETTLE_JOB: Job<readonly StoreTask[], readonly boolean[]> = { file: 'disk', name: 'settle' }
const SYNC_JOB: Job<SyncTask, readonly SyncResult[]> = { file: 'disk', name: 'sync' }
const SETTLE_BATCH_MAX = 64

export interface SmallChunksOptions {
  readonly folder: string
  /** Volume uuid. */
  readonly volume: string
  readonly pool: WorkerPool
  readonly clock: Clock
  readonly log: Log
  readonly inlineMaxBytes?: number
  /** The calling thread looks at the other process' logs. */
  readonly isInline: boolean
}

export class SmallChunks {
  readonly #options: SmallChunksOptions
  readonly #paths: ChunkPaths
  readonly #locks: KeyedLock
  readonly #journal: Journal
  readonly #near: NearLogs

  constructor(options: SmallChunksOptions, paths: ChunkPaths, locks: KeyedLock) {
    this.#options = options
    this.#paths = paths
    this.#locks = locks
    this.#near = new NearLogs(options.folder, options)
    this.#journal = new Journal({ ...options, settle: (ids) => this.#settle(ids) })
  }

  /**
   * What a crash left in the logs is here afterwards, and what is bad in them is known. What is in the journal has files, if the disk takes them
   * now: goOn() sees to the rest. Errors: what the disk says, but for what it cannot read.
   */
  async load(): Promise<void> {
    await this.#journal.load()
    await this.#near.refresh(true)
    const { folder, log } = this.#options
    const { bad, unreadable, unfinished, ids } = this.damage
    if (bad > 0)
      log.error(
        { folder, bad, unreadable, chunks: ids },
        'small chunks have gone bad before they had files: they are not here',
      )
    else if (unfinished > 0) log.info({ folder, chunks: ids }, 'the last small chunks were not whole: cut off, or bad')
  }

  /** In the background, until it is done. */
  goOn(): void {
    void this.#journal.goOn()
  }

  /** Of the journal, all that are there now. */
  get ownIds(): readonly number[] {
    return this.#journal.all().map(({ id }) => id)
  }

  /** How many chunks of the journal could not be given files when that was last tried. */
  get waiting(): number {
    return this.#journal.waiting
  }

  /** What is bad in the logs, of either. */
  get damage(): JournalDamage {
    const [own, near] = [this.#journal.damage, this.#near.damage]
    const ids = [...own.ids, ...near.ids]
    return {
      bad: own.bad + near.bad,
      unreadable: own.unreadable + near.unreadable,
      unfinished: own.unfinished + near.unfinished,
      ids,
    }
  }

  /** Every chunk that is in the journal now has a file of its own afterwards. */
  async settleAll(): Promise<void> {
    await this.#journal.settleAll()
  }

  /** Its disk has failed: nothing is written any more, and nothing is here. */
  abandon(): void {
    this.#journal.close()
  }

  /** In this node's journal. */
  get(id: number): JournalChunk | undefined {
    return this.#journal.get(id)
  }

  /** Written by another process: looked for in its logs. Errors: what the disk says. */
  async beside(id: number): Promise<JournalChunk | undefined> {
    return await this.#near.get(id)
  }

  /** Of either, as far as the last look. */
  has(id: number): boolean {
    return (this.#journal.get(id) ?? this.#near.known(id)) !== undefined
  }

  /** Looks at what the other process has written. Errors: what the disk says. */
  async look(): Promise<void> {
    await this.#near.refresh()
  }

  /** All of both, each once. Errors: what the disk says. */
  async all(): Promise<JournalChunk[]> {
    const near = (await this.allBeside()).filter(({ id }) => this.#journal.get(id) === undefined)
    return [...this.#journal.all(), ...near]
  }

  async allBeside(): Promise<JournalChunk[]> {
    return await this.#near.all()
  }

  /** Of those of the other process these have files, on disk, or are not wanted. */
  forget(ids: readonly number[]): void {
    this.#near.forget(ids)
  }

  /** For a chunk that is too long to be here. The caller holds the id's lock. Errors: CHUNK_CONFLICT, what the disk says. */
  async mustNotHave(id: number): Promise<void> {
    if (this.#journal.get(id) !== undefined || (await this.#near.get(id)) !== undefined) throw conflict(id)
  }

  /**
   * null: it is not for the journal, or there is no room in it. 'known': it was here, on disk; 'beside': in another process' log, of which
   * nobody here knows whether it is on disk. The caller holds the id's lock.
   * Errors: CHUNK_CORRUPT, CHUNK_CONFLICT, EIO, ENOSPC.
   */
  async put(
    chunk: StoredChunk,
    prefix: Buffer,
    data: readonly Uint8Array[],
    sync: boolean,
  ): Promise<'new' | 'known' | 'beside' | null> {
    const { id, root } = chunk
    const near = this.#journal.get(id) === undefined ? await this.#near.get(id) : undefined
    const own = this.#journal.get(id)
    const known = own ?? near
    if (known !== undefined) {
      if (known.root.equals(root)) return own === undefined ? 'beside' : 'known'
      throw conflict(id)
    }
    if (!sync || sumBytes(data) > SMALL_CHUNK_BYTES) return null
    // A copy: nobody changes it while it is verified and written.
    const file = Buffer.concat([prefix, ...data])
    const bytes = file.subarray(prefix.length)
    if (!rootOf(chunk.leaves).equals(root) || firstBadLeaf([bytes], chunk.leaves, 0) >= 0) {
      throw new RingfsError('CHUNK_CORRUPT', `chunk ${id}: the data do not match the hashes`)
    }
    const layout = { lengthBytes: bytes.length, dataOffset: prefix.length, leaves: compact(chunk.leaves) }
    const taken = await this.#journal.append({ id, root: Buffer.from(root), layout, file }, this.#paths.fileOf(id))
    return taken ? 'new' : null
  }

  /** Answers which of them were in the journal. The caller holds their locks. Errors: what the disk says. */
  async remove(ids: readonly number[]): Promise<ReadonlySet<number>> {
    await this.#near.refresh()
    this.#near.forget(ids)
    return await this.#journal.remove(ids)
  }

  /**
   * What of these another process has left in its logs gets files; answers which, and how many had none. `isThorough`: also what lies
   * behind a bad record there. Errors: what the disk says.
   */
  async adopt(
    ids: readonly number[],
    isThorough = false,
  ): Promise<{ readonly here: readonly number[]; readonly made: number }> {
    await this.#near.refresh(isThorough)
    const here = ids.filter((id) => this.#journal.get(id) === undefined && this.#near.known(id) !== undefined)
    return { here, made: await this.#makeFiles(here, (id) => this.#near.known(id)) }
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
    const made = await this.#locks.runBatches(ids, SETTLE_BATCH_MAX, async (batch) => {
      const here = batch.flatMap((id) => keptAs(id) ?? [])
      const tasks = here.map(({ id, file }) => storeTaskOf(this.#paths, volume, id, file))
      return (await pool.run(SETTLE_JOB, tasks)).filter(Boolean).length
    })
    return made.reduce((sum, count) => sum + count, 0)
  }
}

function conflict(id: number): RingfsError {
  return new RingfsError('CHUNK_CONFLICT', `chunk ${id} exists already with other contents`)
}
