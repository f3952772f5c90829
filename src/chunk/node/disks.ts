/**
 * The chunks of a node on one disk or several (disk-roster.ts). Each chunk has an order of the disks (disk-choice.ts) and lies on the first
 * of them that had room for it; it is looked for in that order.
 *
 * Invariants:
 * - One id has one content for ever, on whichever disk: what is there already is where it is put again.
 * - Work that creates or deletes copies of an id holds its lock here, and then that of the disk's store.
 * - A chunk may lie on two disks (one was away while it was made anew): then either is as good, it is listed once, and it is removed
 *   from both.
 * - What is deleted while a disk is away is not on it when it is back (away-removals.ts), whether it has failed, is not mounted, or was
 *   not given at a start: away is what the node knows (known-disks.ts), until it is given up by name.
 */
import { RingfsError, codeOf } from '../../base/errors.js'
import { PosixError } from '../../base/errno.js'
import type { DiskReport } from '../../cluster/contract.js'
import type { LeafPlace, LeavesReply, ListReply, ListRequest } from '../contract.js'
import { AwayRemovals } from './away-removals.js'
import type { PlainRange, StoredRange } from './chunk-files.js'
import type { ChunkDisk, PutHow, StoredChunk, UnhashedChunk } from './disk.js'
import { badCopyOr, goodChunkOn, lackedBy, listedOn, noDisk, notStored, toError, verdictOf } from './disk-answers.js'
import { DiskEmptier, type EmptierOptions, type Moved } from './disk-emptier.js'
import { DiskRoster, type DiskRosterOptions } from './disk-roster.js'
import { KeyedLock } from './keyed-lock.js'
import { noLeaves } from './leaf-reads.js'
import { mergePages } from './list.js'
import type { NodeDisk } from './node-disk.js'
import type { DiskFolder } from './node-folders.js'
import { isAfterRestart, lookAfterRestart, type RestartLookOptions } from './restart-look.js'
import { Retiring, type Confirm } from './retiring.js'
import type { Space } from './space.js'
import type { ChunkStore } from './store.js'
import type { Verdict } from './tasks.js'

const REMOVE_BATCH_MAX = 1000
/** No other disk would answer otherwise. */
const REFUSALS = new Set(['CHUNK_CORRUPT', 'CHUNK_CONFLICT', 'EINVAL', 'CANCELLED'])

export interface NodeDisksOptions extends DiskRosterOptions {
  /** Ids of disks that do not come back. */
  readonly forgotten?: readonly string[]
  /** Of what is noted for a disk that is away: away-removals.ts. */
  readonly removedMaxBytes?: number
}

/** What emptying disks needs. */
export type EmptyOptions = Pick<EmptierOptions, 'onBad' | 'pace'>

export class NodeDisks implements ChunkDisk {
  readonly #options: NodeDisksOptions
  readonly #locks = new KeyedLock()
  /** What is given up is no deletion: others have it, and this node may get it again. */
  readonly #retiring = new Retiring(this.#locks, (ids) => this.#removeBatch(ids))
  readonly #away: AwayRemovals
  readonly #roster: DiskRoster
  #emptiers: ReadonlyMap<NodeDisk, DiskEmptier> = new Map()

  private constructor(options: NodeDisksOptions) {
    this.#options = options
    this.#roster = new DiskRoster(options)
    this.#away = new AwayRemovals({ log: options.log, maxBytes: options.removedMaxBytes })
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
    await this.#roster.open()
    const { all } = this.#roster
    await this.#away.forget(this.#options.forgotten ?? [], all)
    if (all.length > 1) await this.#away.apply(all)
  }

  /** The node is ending: of a disk that does not answer nothing is waited for any more. */
  letGo(): void {
    this.#roster.letGo()
  }

  /** Ends the threads. Nothing is asked any more. */
  async close(): Promise<void> {
    await this.#roster.close()
  }

  /** The machine was started since this node had one of its disks. */
  isAfterRestart(boot: string): boolean {
    return this.#roster.all.some(({ folder }) => isAfterRestart(folder, boot))
  }

  /** What was written last before that is read and hashed: restart-look.ts. Never rejects. */
  async lookAfterRestart(options: Omit<RestartLookOptions, 'verify' | 'log'>, signal: AbortSignal): Promise<void> {
    await lookAfterRestart(this.#roster.live, { ...this.#options, ...options, verify: (id) => this.verify(id) }, signal)
  }

  /** Empties the disks that are leaving. Resolves when it is told to end. Never rejects. */
  async empty(options: EmptyOptions, signal: AbortSignal): Promise<void> {
    const { volume, clock, log } = this.#options
    const roster = this.#roster
    this.#emptiers = new Map(
      roster.leaving.map((disk) => {
        const move = (id: number): Promise<Moved> => this.#move(id, disk)
        const onEmpty = (): Promise<void> => this.#away.copy(disk, roster.awayIds, roster.staying)
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
        await this.#putOn(this.#roster.placesFor(id), (disk) =>
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
    return this.#roster.folders
  }

  get chunks(): number {
    return this.#roster.chunks
  }

  /** Of the disks that work; folders of one file system count once. */
  space(): Space {
    return this.#roster.space()
  }

  /** For people: those that do not work are told, too. */
  states(): readonly DiskReport[] {
    return this.#roster.states((disk) => this.#emptiers.get(disk)?.state)
  }

  /** Something that was written here may have gone bad before it had a file, or with its folder: others are to look for what is missing here. */
  get isDamaged(): boolean {
    return this.#roster.isDamaged
  }

  /** No disk that has not failed answers: what is asked of this node waits. */
  get isStuck(): boolean {
    return this.#roster.isStuck
  }

  /** Looks whether all disks are still there; with `sync`, or where somebody waits for one, whether they still write. */
  async check(sync: boolean): Promise<void> {
    await this.#roster.check(sync)
  }

  /** Every chunk that is here now has a file of its own afterwards. */
  async settle(): Promise<void> {
    await Promise.all(this.#roster.live.map(({ store }) => store.settle()))
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
    this.#roster.mustHaveOne()
    const [only] = this.#roster.live
    if (only === undefined || !this.#roster.isOne) {
      throw new PosixError('EINVAL', `chunk ${chunk.id} cannot be taken: the node has several disks`)
    }
    await this.#locks.run(chunk.id, () => only.run((store) => store.putPrepared(chunk, name, sync)))
    this.#roster.mustHaveOne()
  }

  /** Where it is, or else may be put: the first choice first. */
  async #placesFor(id: number): Promise<readonly NodeDisk[]> {
    const ranked = this.#roster.placesFor(id)
    if (this.#roster.live.length < 2) return ranked
    const here = (await this.#holders([id])).get(id)
    return here === undefined ? ranked : [here, ...ranked.filter((disk) => disk !== here)]
  }

  /** On which disk each of them is; those that are nowhere are left out. */
  async #holders(ids: readonly number[]): Promise<ReadonlyMap<number, NodeDisk>> {
    const [only] = this.#roster.live
    if (only !== undefined && this.#roster.live.length === 1) return new Map(ids.map((id) => [id, only]))
    const held = new Map<NodeDisk, ReadonlySet<number>>()
    await this.#roster.each(async (disk) => held.set(disk, await disk.run((store) => store.holds(ids))))
    const holders = new Map<number, NodeDisk>()
    for (const id of ids) {
      const holder = this.#roster.ranked(id).find((disk) => held.get(disk)?.has(id) === true)
      if (holder !== undefined) holders.set(id, holder)
    }
    return holders
  }

  /** Errors: EIO also when no disk is left to ask: what cannot be told is not missing. */
  async sync(ids: readonly number[]): Promise<readonly number[]> {
    const missing = await this.#syncOnce(ids)
    // It may have been moved between the question where it is and its flush there.
    return missing.length === 0 || this.#roster.leaving.length === 0 ? missing : await this.#syncOnce(missing)
  }

  async #syncOnce(ids: readonly number[]): Promise<readonly number[]> {
    this.#roster.mustHaveOne()
    const holders = await this.#holders(ids)
    const synced = new Set<number>()
    await this.#roster.each(async (disk) => {
      const mine = ids.filter((id) => holders.get(id) === disk)
      if (mine.length === 0) return
      const missing = new Set(await disk.run((store) => store.sync(mine)))
      if (disk.isUp) for (const id of mine) if (!missing.has(id)) synced.add(id)
    })
    // The last one may have failed meanwhile.
    this.#roster.mustHaveOne()
    return ids.filter((id) => !synced.has(id))
  }

  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null {
    for (const { store } of this.#roster.ranked(id)) {
      const range = store.readNow(id, offset, lengthBytes)
      if (range !== null) return range
    }
    return null
  }

  /** On several disks one by one: a slow one is to hold up nobody else's. */
  async readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply> {
    const [disk, other] = this.#roster.live
    if (disk === undefined || other !== undefined) return noLeaves(places)
    return await disk.run(
      (store) => store.readLeaves(places),
      ({ release }) => release(),
    )
  }

  async read(id: number, offset: number, lengthBytes: number, withOrigin = false, check = false): Promise<StoredRange> {
    let failure: Error | undefined
    for (const disk of this.#roster.ranked(id)) {
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
    for (const disk of this.#roster.ranked(id)) {
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
    await this.#roster.each(async (disk) => pages.push(await listedOn(disk, request)))
    if (pages.length === 0) throw noDisk()
    return mergePages(pages, request)
  }

  async lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]> {
    let missing = ids
    for (const disk of this.#roster.live) {
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
      await this.#away.note(this.#roster.awayIds, batch, this.#roster.live)
    })
  }

  async #removeBatch(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return
    // Nothing counts as removed that no disk was there for: its chunks come back with it.
    this.#roster.mustHaveOne()
    await this.#roster.each((disk) => disk.run((store) => store.remove(ids)))
    this.#roster.mustHaveOne()
  }
}
