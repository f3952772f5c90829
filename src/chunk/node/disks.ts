/**
 * The chunks of a node on one disk or several. Each chunk has an order of the disks (disk-choice.ts) and lies on the first of them that
 * had room for it; it is looked for in that order.
 *
 * Invariants:
 * - One id has one content for ever, on whichever disk: what is there already is where it is put again.
 * - Work that creates or deletes copies of an id holds its lock here, and then that of the disk's store.
 * - A chunk may lie on two disks (one was away while it was made anew): then either is as good, it is listed once, and it is removed
 *   from both.
 * - What is on a disk that has failed is missing at once (node-disk.ts).
 * - What is deleted while a disk is away is not on it when it is back (away-removals.ts), whether it has failed, is not mounted, or was
 *   not given at a start: away is what the node knows (known-disks.ts), until it is given up by name.
 * - A disk that is to be emptied (disk-emptier.ts) gets nothing new. It is asked before the others: what is moved is on another one before it
 *   is not there any more, so who finds it on neither has asked in the wrong order.
 * - A disk that hangs is waited for until it counts as failed; what others have then goes on. It keeps no thread that another one needs.
 */
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import { PosixError } from '../../base/errno.js'
import type { DiskReport } from '../../cluster/contract.js'
import type { LeafPlace, LeavesReply, ListReply, ListRequest } from '../contract.js'
import { settledWithin } from '../deadline.js'
import { WorkerPool } from '../pool.js'
import { AwayRemovals } from './away-removals.js'
import type { PlainRange, StoredRange } from './chunk-files.js'
import type { ChunkDisk, PutHow, StoredChunk, UnhashedChunk } from './disk.js'
import { badCopyOr, goodChunkOn, lackedBy, noDisk, notStored, spaceOf, toError, verdictOf } from './disk-answers.js'
import { rankDisks } from './disk-choice.js'
import { DiskEmptier, type EmptierOptions, type Moved } from './disk-emptier.js'
import { KeyedLock } from './keyed-lock.js'
import { noLeaves } from './leaf-reads.js'
import { mergePages } from './list.js'
import { NodeDisk } from './node-disk.js'
import type { DiskFolder, MissingFolder } from './node-folders.js'
import { isAfterRestart, lookAfterRestart, type RestartLookOptions } from './restart-look.js'
import { Retiring, type Confirm } from './retiring.js'
import type { Space } from './space.js'
import { ChunkStore, type ChunkStoreOptions } from './store.js'
import type { Verdict } from './tasks.js'

const REMOVE_BATCH_MAX = 1000
/** No other disk would answer otherwise. */
const REFUSALS = new Set(['CHUNK_CORRUPT', 'CHUNK_CONFLICT', 'EINVAL', 'CANCELLED'])

/** A look that takes longer than this does not hold up those at other disks. */
const PATIENCE_MS = 1_000
/** Who waits longer has the disk looked at. */
const AWAITED_MS = 5_000
/** A disk that does not answer for so long has failed, if another one does. */
const GIVE_UP_MS = 60_000

export interface NodeDisksOptions extends Omit<ChunkStoreOptions, 'folder'> {
  readonly disks: readonly DiskFolder[]
  /** Known, and not there: what is deleted is noted for them. */
  readonly missing?: readonly MissingFolder[]
  /** Ids of disks that do not come back. */
  readonly forgotten?: readonly string[]
  /** Of what is noted for a disk that is away: away-removals.ts. */
  readonly removedMaxBytes?: number
  /**
   * Threads for one disk of several, which are closed with the disks: one that hangs keeps its own threads, and nobody else's. Nothing of
   * such a disk is done on the calling thread, then. Default: all disks use `pool`.
   */
  readonly newPool?: () => WorkerPool
  /** A disk has failed while it was in use. */
  readonly onFailed?: (disk: DiskFolder) => void
  /** Ids of disks that are to be emptied, not all: empty() does it. */
  readonly leaving?: readonly string[]
}

/** What emptying disks needs. */
export type EmptyOptions = Pick<EmptierOptions, 'onBad' | 'pace'>

export class NodeDisks implements ChunkDisk {
  readonly #options: NodeDisksOptions
  readonly #locks = new KeyedLock()
  /** What is given up is no deletion: others have it, and this node may get it again. */
  readonly #retiring = new Retiring(this.#locks, (ids) => this.#removeBatch(ids))
  readonly #away: AwayRemovals
  #disks: readonly NodeDisk[] = []
  #live: readonly NodeDisk[] = []
  /** Not to be had from the start. */
  readonly #missing: MissingFolder[] = []
  readonly #probes: WorkerPool
  readonly #pools: WorkerPool[]
  readonly #leaving: ReadonlySet<string>
  #emptiers: ReadonlyMap<NodeDisk, DiskEmptier> = new Map()
  #isEnding = false

  private constructor(options: NodeDisksOptions) {
    this.#options = options
    this.#probes = new WorkerPool({ threads: options.disks.length + 1, kept: 1 })
    this.#pools = [this.#probes]
    this.#away = new AwayRemovals({ log: options.log, maxBytes: options.removedMaxBytes })
    this.#missing.push(...(options.missing ?? []))
    this.#leaving = new Set(options.leaving)
  }

  /** Errors: what a disk says, if none can be opened. */
  static async open(options: NodeDisksOptions): Promise<NodeDisks> {
    const disks = new NodeDisks(options)
    try {
      await disks.#open()
      return disks
    } catch (error) {
      await disks.close()
      throw error
    }
  }

  async #open(): Promise<void> {
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
    await this.#away.forget(this.#options.forgotten ?? [], this.#disks)
    if (this.#disks.length > 1) await this.#away.apply(this.#disks)
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

  /** In the order in which a chunk is looked for. */
  #ranked(id: number): readonly NodeDisk[] {
    return this.#leavingFirst(rankDisks(id, this.#live))
  }

  /** The machine was started since this node had one of its disks. */
  isAfterRestart(boot: string): boolean {
    return this.#disks.some(({ folder }) => isAfterRestart(folder, boot))
  }

  /** What was written last before that is read and hashed: restart-look.ts. Never rejects. */
  async lookAfterRestart(options: Omit<RestartLookOptions, 'verify' | 'log'>, signal: AbortSignal): Promise<void> {
    await lookAfterRestart(this.#live, { ...this.#options, ...options, verify: (id) => this.verify(id) }, signal)
  }

  /** Empties the disks that are leaving. Resolves when it is told to end. Never rejects. */
  async empty(options: EmptyOptions, signal: AbortSignal): Promise<void> {
    const { volume, clock, log } = this.#options
    const leaving = this.#disks.filter(({ id }) => this.#leaving.has(id))
    this.#emptiers = new Map(
      leaving.map((disk) => {
        const move = (id: number): Promise<Moved> => this.#move(id, disk)
        const onEmpty = (): Promise<void> => this.#away.copy(disk, this.#awayIds(), this.#staying(this.#live))
        return [disk, new DiskEmptier({ ...options, volume, disk, move, onEmpty, clock, log })]
      }),
    )
    await Promise.all([...this.#emptiers.values()].map((one) => one.run(signal)))
  }

  /** Errors: what the disks say; ENOSPC where no other one has room. */
  async #move(id: number, from: NodeDisk): Promise<Moved> {
    return await this.#locks.run(id, async () => {
      const chunk = await goodChunkOn(from, id)
      if (typeof chunk === 'string') return chunk
      try {
        await this.#putOn(this.#staying(this.#ranked(id)), (disk) =>
          disk.run((store) => store.put(chunk, [chunk.range.data], true)),
        )
        await from.run((store) => store.remove([id]))
        return chunk.range.data.length
      } finally {
        chunk.range.release()
      }
    })
  }

  /** Those that work. Last those that are leaving: what the node writes down of itself goes to the first one. */
  get live(): readonly DiskFolder[] {
    const staying = this.#staying(this.#live)
    const leaving = this.#live.slice(0, this.#live.length - staying.length)
    return [...staying, ...leaving].map(({ id, folder }) => ({ disk: id, folder }))
  }

  get chunks(): number {
    return this.#live.reduce((sum, { store }) => sum + store.chunks, 0)
  }

  /** Of the disks that work; folders of one file system count once. */
  space(): Space {
    return spaceOf(this.#staying(this.#live))
  }

  /** For people: those that do not work are told, too. */
  states(): readonly DiskReport[] {
    const none = { totalBytes: 0, freeBytes: 0, chunks: 0, damaged: 0, waiting: 0, leaving: 'no' as const }
    const missing = this.#missing.map((one) => ({ ...one, ...none, state: 'missing' as const }))
    const here = this.#disks.map((disk) => {
      const { id, folder, failure, store } = disk
      const name = { disk: id, folder }
      if (failure !== null) return { ...name, ...none, state: 'failed' as const, why: failure }
      const { chunks, damage, waiting } = store
      const leaving = this.#emptiers.get(disk)?.state ?? (this.#leaving.has(id) ? 'moving' : 'no')
      const found = { chunks, damaged: damage.bad, waiting, leaving }
      return { ...name, ...disk.space(), ...found, state: 'up' as const, why: disk.slow ?? '' }
    })
    return [...here, ...missing]
  }

  /** Something that was written here may have gone bad before it had a file: others are to look for what is missing here. */
  get isDamaged(): boolean {
    return this.#disks.some(({ store: { damage } }) => damage.bad + damage.unfinished > 0)
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

  /** Every chunk that is here now has a file of its own afterwards. */
  async settle(): Promise<void> {
    await Promise.all(this.#live.map(({ store }) => store.settle()))
  }

  async put(chunk: StoredChunk, data: readonly Uint8Array[], sync = false): Promise<void> {
    await this.#put(chunk.id, (disk) => disk.run((store) => store.put(chunk, data, sync)))
  }

  async putUnhashed(chunk: UnhashedChunk, data: readonly Uint8Array[], how: PutHow): Promise<Buffer> {
    return await this.#put(chunk.id, (disk) => disk.putUnhashed(chunk, data, how))
  }

  #put<T>(id: number, put: (disk: NodeDisk) => Promise<T>): Promise<T> {
    return this.#locks.run(id, async () => await this.#putOn(await this.#placesFor(id), put))
  }

  /** On the first of them that takes it. */
  async #putOn<T>(places: readonly NodeDisk[], put: (disk: NodeDisk) => Promise<T>): Promise<T> {
    const failures: Error[] = []
    for (const disk of places) {
      try {
        const stored = await put(disk)
        // Nothing counts as written that a disk took which has failed meanwhile.
        if (disk.isUp) return stored
      } catch (error) {
        if (REFUSALS.has(codeOf(error))) throw error
        failures.push(toError(error))
      }
    }
    throw notStored(failures)
  }

  /** Only on a node with one disk: of several it chooses itself. */
  async putPrepared(chunk: StoredChunk, name: string, sync = false): Promise<void> {
    this.#mustHaveOne()
    const [only] = this.#live
    if (only === undefined || this.#disks.length + this.#missing.length > 1) {
      throw new PosixError('EINVAL', `chunk ${chunk.id} cannot be taken: the node has several disks`)
    }
    await this.#locks.run(chunk.id, () => only.run((store) => store.putPrepared(chunk, name, sync)))
    this.#mustHaveOne()
  }

  /** Where it is, or else may be put: the first choice first. */
  async #placesFor(id: number): Promise<readonly NodeDisk[]> {
    const ranked = this.#staying(rankDisks(id, this.#live))
    if (this.#live.length < 2) return ranked
    const here = (await this.#holders([id])).get(id)
    return here === undefined ? ranked : [here, ...ranked.filter((disk) => disk !== here)]
  }

  /** On which disk each of them is; those that are nowhere are left out. */
  async #holders(ids: readonly number[]): Promise<ReadonlyMap<number, NodeDisk>> {
    const [only] = this.#live
    if (only !== undefined && this.#live.length === 1) return new Map(ids.map((id) => [id, only]))
    const held = new Map<NodeDisk, ReadonlySet<number>>()
    await this.#each(async (disk) => held.set(disk, await disk.run((store) => store.holds(ids))))
    const holders = new Map<number, NodeDisk>()
    for (const id of ids) {
      const holder = this.#ranked(id).find((disk) => held.get(disk)?.has(id) === true)
      if (holder !== undefined) holders.set(id, holder)
    }
    return holders
  }

  /** On all that work: first on those that are leaving. Errors: those of disks that still do. */
  async #each(work: (disk: NodeDisk) => Promise<unknown>): Promise<void> {
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

  #mustHaveOne(): void {
    if (this.#live.length === 0) throw noDisk()
  }

  /** Errors: EIO also when no disk is left to ask: what cannot be told is not missing. */
  async sync(ids: readonly number[]): Promise<readonly number[]> {
    const missing = await this.#syncOnce(ids)
    // It may have been moved between the question where it is and its flush there.
    return missing.length === 0 || this.#leaving.size === 0 ? missing : await this.#syncOnce(missing)
  }

  async #syncOnce(ids: readonly number[]): Promise<readonly number[]> {
    this.#mustHaveOne()
    const holders = await this.#holders(ids)
    const synced = new Set<number>()
    await this.#each(async (disk) => {
      const mine = ids.filter((id) => holders.get(id) === disk)
      if (mine.length === 0) return
      const missing = new Set(await disk.run((store) => store.sync(mine)))
      if (disk.isUp) for (const id of mine) if (!missing.has(id)) synced.add(id)
    })
    // The last one may have failed meanwhile.
    this.#mustHaveOne()
    return ids.filter((id) => !synced.has(id))
  }

  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null {
    for (const { store } of this.#ranked(id)) {
      const range = store.readNow(id, offset, lengthBytes)
      if (range !== null) return range
    }
    return null
  }

  /** On several disks one by one: a slow one is to hold up nobody else's. */
  async readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply> {
    const [disk, other] = this.#live
    if (disk === undefined || other !== undefined) return noLeaves(places)
    return await disk.run(
      (store) => store.readLeaves(places),
      ({ release }) => release(),
    )
  }

  async read(id: number, offset: number, lengthBytes: number, withOrigin = false, check = false): Promise<StoredRange> {
    let failure: Error | undefined
    for (const disk of this.#ranked(id)) {
      try {
        return await disk.run(
          (store) => store.read(id, offset, lengthBytes, withOrigin, check),
          ({ release }) => release(),
        )
      } catch (error) {
        if (codeOf(error) !== 'CHUNK_MISSING' && disk.isUp) failure ??= badCopyOr(error, id)
      }
    }
    throw failure ?? new RingfsError('CHUNK_MISSING', `chunk ${id} is not here`)
  }

  async verify(id: number): Promise<Verdict> {
    return await this.#verdict(id, (store) => store.verify(id))
  }

  async quarantine(id: number): Promise<Verdict> {
    return await this.#locks.run(id, () => this.#verdict(id, (store) => store.quarantine(id)))
  }

  /** Of the first good copy, else of a bad one. A bad copy that is read before a good one is set aside: nobody would come to the good one. */
  async #verdict(id: number, look: (store: ChunkStore) => Promise<Verdict>): Promise<Verdict> {
    let bad: Verdict | undefined
    const before: NodeDisk[] = []
    for (const disk of this.#ranked(id)) {
      const verdict = await verdictOf(disk, look)
      if (verdict.state === 'good') {
        for (const one of before) await verdictOf(one, (store) => store.quarantine(id))
        return verdict
      }
      if (verdict.state !== 'bad') continue
      bad ??= verdict
      before.push(disk)
    }
    return bad ?? { state: 'missing' }
  }

  async list(request: ListRequest): Promise<ListReply> {
    const pages: ListReply[] = []
    await this.#each(async (disk) => pages.push(await disk.run((store) => store.list(request))))
    if (pages.length === 0) throw noDisk()
    return mergePages(pages, request)
  }

  async lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]> {
    let missing = ids
    for (const disk of this.#live) {
      if (missing.length === 0) break
      const asked = missing
      missing = await lackedBy(disk, (store) => store.lacks(asked, verify), asked)
    }
    const absent = new Set(missing)
    // Last: what has begun to go since is missing, too.
    return ids.filter((id) => absent.has(id) || this.#retiring.has(id))
  }

  isRetiring(id: number): boolean {
    return this.#retiring.has(id)
  }

  async retire(ids: readonly number[], confirm: Confirm): Promise<number> {
    return await this.#retiring.retire(ids, confirm)
  }

  async remove(ids: readonly number[]): Promise<void> {
    await this.#locks.runBatches(ids, REMOVE_BATCH_MAX, async (batch) => {
      await this.#removeBatch(batch)
      // Afterwards: what is full has room again, and a disk that has failed meanwhile is among those that are away.
      await this.#away.note(this.#awayIds(), batch, this.#live)
    })
  }

  #awayIds(): readonly string[] {
    return [...this.#missing.map(({ disk }) => disk), ...this.#disks.flatMap(({ id, isUp }) => (isUp ? [] : [id]))]
  }

  async #removeBatch(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return
    // Nothing counts as removed that no disk was there for: its chunks come back with it.
    this.#mustHaveOne()
    await this.#each((disk) => disk.run((store) => store.remove(ids)))
    this.#mustHaveOne()
  }
}
