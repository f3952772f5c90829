/**
 * Chunks that were acknowledged from memory only: fsync of their file must bring them to disk.
 *
 * Invariant: a chunk leaves only when it is on disk, or when its file does not name it any more (overwritten, truncated,
 * deleted) and the store has freed it. One whose commit is still to come is not yet named: it stays.
 */
import { isErrno } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { ChunksMissing, type ChunkClient } from '../chunk/contract.js'
import type { MetaStore } from '../meta/contract.js'
import type { VfsLimits } from './limits.js'

export interface UnsyncedDeps {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly limits: VfsLimits
  readonly log: Log
}

/** Windows that are looked through for chunks that are missing. */
const SEARCH_AT_ONCE = 32

export class UnsyncedChunks {
  readonly #deps: UnsyncedDeps
  /** Oldest file first. */
  readonly #byIno = new Map<number, Set<number>>()
  /** Of those, what was uploaded, and no commit of it has ended yet. */
  readonly #uncommitted = new Set<number>()
  #count = 0
  #trimming = false

  constructor(deps: UnsyncedDeps) {
    this.#deps = deps
  }

  get count(): number {
    return this.#count
  }

  /** Of a chunk that was just uploaded: commitEnded() follows, or forget(). */
  addUploaded(ino: number, id: number): void {
    this.#uncommitted.add(id)
    this.add(ino, id)
  }

  /** Whatever came of it. */
  commitEnded(ids: Iterable<number>): void {
    for (const id of ids) this.#uncommitted.delete(id)
  }

  /** Of a chunk that the file names. */
  add(ino: number, id: number): void {
    const ids = this.#byIno.get(ino) ?? new Set<number>()
    if (ids.has(id)) return
    this.#byIno.set(ino, ids.add(id))
    this.#count++
    if (this.#count > this.#deps.limits.unsyncedChunks) void this.#syncOldest()
  }

  /** The chunks are named by nothing. */
  forget(ids: readonly number[]): void {
    this.commitEnded(ids)
    for (const [ino, set] of this.#byIno) this.#remove(ino, set, ids)
  }

  /** The file is gone. */
  forgetFile(ino: number): void {
    const set = this.#byIno.get(ino)
    if (set !== undefined) this.#remove(ino, set, [...set])
  }

  /** Resolves when every chunk of the file that was here is on disk. They stay here if it fails. */
  async sync(ino: number): Promise<void> {
    const set = this.#byIno.get(ino)
    if (set === undefined) return
    const ids = [...set]
    const uncommitted = new Set(ids.filter((id) => this.#uncommitted.has(id)))
    const gone = await this.#gone(ino, ids)
    this.#remove(
      ino,
      set,
      ids.filter((id) => !gone.has(id) || !uncommitted.has(id)),
    )
  }

  /** Which of them nobody has any more, and the file does not name; the others are on disk. */
  async #gone(ino: number, ids: readonly number[]): Promise<ReadonlySet<number>> {
    try {
      await this.#deps.chunks.sync(ids)
      return new Set()
    } catch (error) {
      if (!(error instanceof ChunksMissing)) throw error
      const missing = new Set(error.ids)
      if (await this.#isOneNamed(ino, missing)) throw error
      return missing
    }
  }

  async syncAll(): Promise<void> {
    await Promise.all([...this.#byIno.keys()].map((ino) => this.sync(ino)))
  }

  /** Whether the file names one of them. However long it is: another mount may have packed or overwritten them all. */
  async #isOneNamed(ino: number, ids: ReadonlySet<number>): Promise<boolean> {
    const { meta } = this.#deps
    try {
      for (let from = 0; ;) {
        const { windows } = await meta.windows(ino, from, SEARCH_AT_ONCE)
        const some = await Promise.all(windows.map((window) => meta.extents(ino, window)))
        if (some.some(({ extents }) => extents.some(({ chunk }) => chunk !== null && ids.has(chunk.id)))) return true
        const last = windows.at(-1)
        if (last === undefined || windows.length < SEARCH_AT_ONCE) return false
        from = last + 1
      }
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      return false
    }
  }

  #remove(ino: number, set: Set<number>, ids: readonly number[]): void {
    for (const id of ids) if (set.delete(id)) this.#count--
    if (set.size === 0 && this.#byIno.get(ino) === set) this.#byIno.delete(ino)
  }

  /** Keeps the list bounded. What cannot be synced now is owed still: it stays, behind the others. */
  async #syncOldest(): Promise<void> {
    const oldest = this.#byIno.keys().next()
    if (this.#trimming || oldest.done === true) return
    this.#trimming = true
    const ino = oldest.value
    try {
      await this.sync(ino)
    } catch (error) {
      this.#deps.log.warn({ ino, error: messageOf(error) }, 'chunks could not be synced yet')
      const set = this.#byIno.get(ino)
      if (set !== undefined && this.#byIno.delete(ino)) this.#byIno.set(ino, set)
    } finally {
      this.#trimming = false
    }
  }
}
