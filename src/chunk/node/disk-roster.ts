/**
 * Which disks a node has, which of them work, and in which order they are asked.
 *
 * Invariants:
 * - What is on a disk that has failed is missing at once (node-disk.ts).
 * - A disk that is leaving gets nothing new. It is asked before the others: what is moved is on another one before it
 *   is not there any more, so who finds it on neither has asked in the wrong order.
 * - A disk that hangs is waited for until it counts as failed; what others have then goes on. It keeps no thread that another one needs.
 */
import { messageOf } from '../../base/errors.js'
import type { DiskReport } from '../../cluster/contract.js'
import { settledWithin } from '../deadline.js'
import { WorkerPool } from '../pool.js'
import { noDisk, spaceOf, toError } from './disk-answers.js'
import { rankDisks } from './disk-choice.js'
import { NodeDisk } from './node-disk.js'
import type { DiskFolder, MissingFolder } from './node-folders.js'
import type { Space } from './space.js'
import { ChunkStore, type ChunkStoreOptions } from './store.js'

/** A look that takes longer than this does not hold up those at other disks. */
const PATIENCE_MS = 1_000
/** Who waits longer has the disk looked at. */
const AWAITED_MS = 5_000
/** A disk that does not answer for so long has failed, if another one does. */
const GIVE_UP_MS = 60_000

export interface DiskRosterOptions extends Omit<ChunkStoreOptions, 'folder'> {
  readonly disks: readonly DiskFolder[]
  /** Known, and not there. */
  readonly missing?: readonly MissingFolder[]
  /**
   * Threads for one disk of several, which are closed with the disks: one that hangs keeps its own threads, and nobody else's. Nothing of
   * such a disk is done on the calling thread, then. Default: all disks use `pool`.
   */
  readonly newPool?: () => WorkerPool
  /** A disk has failed while it was in use. */
  readonly onFailed?: (disk: DiskFolder) => void
  /** Ids of disks that are to be emptied, not all. */
  readonly leaving?: readonly string[]
}

export class DiskRoster {
  readonly #options: DiskRosterOptions
  #disks: readonly NodeDisk[] = []
  #live: readonly NodeDisk[] = []
  /** Not to be had from the start. */
  readonly #missing: MissingFolder[] = []
  readonly #probes: WorkerPool
  readonly #pools: WorkerPool[]
  readonly #leaving: ReadonlySet<string>
  #isEnding = false

  constructor(options: DiskRosterOptions) {
    this.#options = options
    this.#probes = new WorkerPool({ threads: options.disks.length + 1, shrinks: true })
    this.#pools = [this.#probes]
    this.#missing.push(...(options.missing ?? []))
    this.#leaving = new Set(options.leaving)
  }

  /** Errors: what a disk says, if none can be opened. */
  async open(): Promise<void> {
    const opened = await Promise.allSettled(this.#options.disks.map((folder) => this.#openDisk(folder)))
    const failures = opened.flatMap((one) => (one.status === 'rejected' ? [toError(one.reason)] : []))
    this.#disks = opened.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    const [failure] = failures
    if (failure !== undefined && this.#disks.length === 0) throw failure
    for (const [index, folder] of this.#options.disks.entries()) {
      const one = opened[index]
      if (one?.status === 'rejected') this.#missing.push({ ...folder, why: messageOf(one.reason) })
    }
    this.#live = this.#leavingFirst(this.#disks)
    const { log } = this.#options
    for (const { folder, why } of this.#missing)
      log.error({ folder, why }, 'a disk is missing: the node starts without it')
  }

  async #openDisk(folder: DiskFolder): Promise<NodeDisk> {
    const options = { ...this.#options, folder: folder.folder, ...this.#apart() }
    const store = await ChunkStore.open(options)
    return new NodeDisk(folder, store, {
      ...options,
      probes: this.#probes,
      mayGiveUp: (disk, startedMs, ranMs) => this.#mayGiveUp(disk, startedMs, ranMs),
      onFailed: (disk) => this.#failed(disk),
    })
  }

  #apart(): Partial<ChunkStoreOptions> {
    const { newPool, disks } = this.#options
    if (newPool === undefined || disks.length < 2) return {}
    const pool = newPool()
    this.#pools.push(pool)
    return { pool, inlineMaxBytes: 0 }
  }

  /** Only if another disk was written since: what makes all of them wait is not this one. */
  #mayGiveUp(disk: NodeDisk, startedMs: number, ranMs: number): boolean {
    if (this.#isEnding) return true
    const others = this.#live.filter((one) => one !== disk)
    if (others.some(({ provenMs }) => provenMs >= startedMs)) return ranMs >= GIVE_UP_MS
    for (const other of others) void other.suspect('another disk does not answer')
    return false
  }

  /** The node is ending: of a disk that does not answer nothing is waited for any more. */
  letGo(): void {
    this.#isEnding = true
    for (const disk of this.#live) if (disk.isInUse) void disk.suspect('the node ends')
  }

  /** Ends the threads. Nothing is asked any more. */
  async close(): Promise<void> {
    for (const { store } of this.#disks) store.abandon()
    await Promise.all(this.#pools.map((pool) => pool.close()))
  }

  #failed({ id, folder }: NodeDisk): void {
    this.#live = this.#leavingFirst(this.#disks.filter(({ isUp }) => isUp))
    this.#options.onFailed?.({ disk: id, folder })
  }

  #leavingFirst(disks: readonly NodeDisk[]): readonly NodeDisk[] {
    if (this.#leaving.size === 0) return disks
    return [...disks.filter((disk) => this.#leaving.has(disk.id)), ...this.#staying(disks)]
  }

  #staying(disks: readonly NodeDisk[]): readonly NodeDisk[] {
    return this.#leaving.size === 0 ? disks : disks.filter(({ id }) => !this.#leaving.has(id))
  }

  /** Those that were opened, whether they work or not. */
  get all(): readonly NodeDisk[] {
    return this.#disks
  }

  /** Those that work: first those that are leaving. */
  get live(): readonly NodeDisk[] {
    return this.#live
  }

  /** Those that work and are not leaving. */
  get staying(): readonly NodeDisk[] {
    return this.#staying(this.#live)
  }

  /** Those that are to be emptied, whether they work or not. */
  get leaving(): readonly NodeDisk[] {
    return this.#disks.filter(({ id }) => this.#leaving.has(id))
  }

  /** The node has one disk, and no other that is away. */
  get isOne(): boolean {
    return this.#disks.length + this.#missing.length === 1
  }

  /** Of those that are missing or have failed. */
  get awayIds(): readonly string[] {
    return [...this.#missing.map(({ disk }) => disk), ...this.#disks.flatMap(({ id, isUp }) => (isUp ? [] : [id]))]
  }

  /** Where a chunk is to lie: the first choice first. */
  placesFor(id: number): readonly NodeDisk[] {
    return this.#staying(rankDisks(id, this.#live))
  }

  /** In the order in which a chunk is looked for. */
  ranked(id: number): readonly NodeDisk[] {
    return this.#leavingFirst(rankDisks(id, this.#live))
  }

  /** Those that work. Last those that are leaving: what the node writes down of itself goes to the first one. */
  get folders(): readonly DiskFolder[] {
    const staying = this.#staying(this.#live)
    const leaving = this.#live.slice(0, this.#live.length - staying.length)
    return [...staying, ...leaving].map(({ id, folder }) => ({ disk: id, folder }))
  }

  get chunks(): number {
    return this.#live.reduce((sum, { store }) => sum + store.chunks, 0)
  }

  /** Of the disks that work; folders of one file system count once. */
  space(): Space {
    return spaceOf(this.staying)
  }

  /** For people: those that do not work are told, too. `leavingOf`: how far one is emptied, if that has begun. */
  states(leavingOf: (disk: NodeDisk) => DiskReport['leaving'] | undefined): readonly DiskReport[] {
    const none = {
      totalBytes: 0,
      freeBytes: 0,
      chunks: 0,
      damaged: 0,
      waiting: 0,
      unlisted: 0,
      unlistedWhy: '',
      leaving: 'no' as const,
    }
    const missing = this.#missing.map((one) => ({ ...one, ...none, state: 'missing' as const }))
    const here = this.#disks.map((disk) => {
      const { id, folder, failure, store } = disk
      const name = { disk: id, folder }
      if (failure !== null) return { ...name, ...none, state: 'failed' as const, why: failure }
      const { chunks, damage, waiting, unlisted } = store
      const leaving = leavingOf(disk) ?? (this.#leaving.has(id) ? 'moving' : 'no')
      const lists = { unlisted: unlisted.count, unlistedWhy: unlisted.why }
      const found = { chunks, damaged: damage.bad, waiting, ...lists, leaving }
      return { ...name, ...disk.space(), ...found, state: 'up' as const, why: disk.slow ?? '' }
    })
    return [...here, ...missing]
  }

  get isDamaged(): boolean {
    return this.#disks.some(({ store: { damage, unlisted } }) => damage.bad + damage.unfinished + unlisted.count > 0)
  }

  /** No disk that has not failed answers: what is asked of this node waits. */
  get isStuck(): boolean {
    return this.#live.length > 0 && this.#live.every(({ slow }) => slow !== null)
  }

  /** Looks whether all disks are still there; with `sync`, or where somebody waits for one, whether they still write. */
  async check(sync: boolean): Promise<void> {
    const looks: Promise<void>[] = []
    // One after the other: a thread is enough for disks that answer.
    for (const disk of this.#live) {
      const isAwaited = disk.waitsMs >= AWAITED_MS
      const why = isAwaited ? 'somebody waits for it' : 'looked at from time to time'
      const look = disk.suspect(why, sync || isAwaited)
      looks.push(look)
      await settledWithin(look, PATIENCE_MS, this.#options.clock)
    }
    await Promise.all(looks)
  }

  /** On all that work: first on those that are leaving. Errors: those of disks that still do. */
  async each(work: (disk: NodeDisk) => Promise<unknown>): Promise<void> {
    const live = this.#live
    const staying = this.#staying(live)
    if (staying.length < live.length) await this.#eachOf(live.slice(0, live.length - staying.length), work)
    await this.#eachOf(staying, work)
  }

  async #eachOf(disks: readonly NodeDisk[], work: (disk: NodeDisk) => Promise<unknown>): Promise<void> {
    await Promise.all(
      disks.map(async (disk) => {
        try {
          await work(disk)
        } catch (error) {
          if (disk.isUp) throw error
        }
      }),
    )
  }

  /** Errors: EIO. */
  mustHaveOne(): void {
    if (this.#live.length === 0) throw noDisk()
  }
}
