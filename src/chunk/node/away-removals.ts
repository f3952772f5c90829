/**
 * What is deleted from a node while one of its disks is away is noted on those that are there (removed-file.ts), and removed from that
 * disk when it is back, before anybody is told what is on it. Otherwise it would come back with all its chunks, and healing would copy
 * what was deleted to all its owners.
 *
 * Invariants:
 * - A removal is acknowledged only when a disk that works has the note, on disk. But for more than MAX_BYTES of them: then what else was
 *   removed comes back with that disk, as orphans.
 * - Notes on one disk are written one after the other: several threads serve it, and each writes behind what it finds there.
 * - Only what is deleted for good is noted, and ids are not used twice: a note that is applied late, or again, does no harm. So the notes
 *   for one disk may lie on several others, of which some are away when it is back: what only those know goes when they are back, too.
 */
import { PosixError } from '../../base/errno.js'
import { messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { Job } from '../pool.js'
import { KeyedLock } from './keyed-lock.js'
import type { NodeDisk } from './node-disk.js'
import { removedFile, type DropTask, type NoteTask, type NotedTask } from './removed-file.js'

const NOTE_JOB: Job<NoteTask, readonly boolean[]> = { file: 'disk', name: 'noteRemoved' }
const READ_JOB: Job<NotedTask, Float64Array> = { file: 'disk', name: 'readRemoved' }
const DROP_JOB: Job<DropTask, void> = { file: 'disk', name: 'dropRemoved' }
/** For each disk that is away, on each other: four million chunks. */
const MAX_BYTES = 48 * 1024 * 1024
const REMOVE_BATCH = 1000

export interface AwayRemovalsOptions {
  readonly log: Log
  /** Of notes for one disk on another. Default 48 MiB, for four million chunks. */
  readonly maxBytes?: number | undefined
}

export class AwayRemovals {
  readonly #log: Log
  readonly #maxBytes: number
  #isFull = false
  /** Of a disk: notes on it are written one after the other. */
  readonly #locks = new KeyedLock<string>()

  constructor({ log, maxBytes = MAX_BYTES }: AwayRemovalsOptions) {
    this.#log = log
    this.#maxBytes = maxBytes
  }

  /** `away`: ids of disks. `there`: where the notes go. Errors: what the disks say, if none of them has the notes. */
  async note(away: readonly string[], ids: readonly number[], there: readonly NodeDisk[]): Promise<void> {
    if (away.length === 0 || ids.length === 0) return
    const noted = await Promise.allSettled(there.map((disk) => this.#noteOn(disk, away, ids)))
    const written = noted.filter((one) => one.status === 'fulfilled')
    if (written.length === 0) throw failureAmong(noted)
    if (written.some(({ value }) => !value.includes(false)) || this.#isFull) return
    this.#isFull = true
    this.#log.warn({ disks: away }, 'more was deleted than is noted for disks that are away: it comes back with them')
  }

  async #noteOn(disk: NodeDisk, away: readonly string[], ids: readonly number[]): Promise<readonly boolean[]> {
    const files = away.map((id) => removedFile(disk.folder, id))
    return await disk.run(() =>
      this.#locks.run(disk.id, () => disk.pool.run(NOTE_JOB, { files, ids, maxBytes: this.#maxBytes })),
    )
  }

  /** Removes from each of the disks what was deleted while it was away. Never rejects: a disk that cannot do it may have failed. */
  async apply(disks: readonly NodeDisk[]): Promise<void> {
    for (const disk of disks) {
      try {
        await this.#applyTo(disk, disks)
      } catch (error) {
        const { folder } = disk
        this.#log.warn({ folder, err: messageOf(error) }, 'what was deleted while this disk was away may come back')
      }
    }
  }

  async #applyTo(disk: NodeDisk, disks: readonly NodeDisk[]): Promise<void> {
    const read = await Promise.all(disks.map((other) => this.#notedOn(other, disk.id)))
    const ids = [...new Set(read.flatMap((some) => [...some]))]
    if (ids.length === 0) return
    for (let at = 0; at < ids.length; at += REMOVE_BATCH) {
      await disk.run((store) => store.remove(ids.slice(at, at + REMOVE_BATCH)))
    }
    // Nothing of it comes back after a loss of power, when the notes are gone.
    await disk.run(() => disk.pool.run(DROP_JOB, { files: [], after: disk.store.foldersOf(ids) }))
    this.#log.info({ folder: disk.folder, chunks: ids.length }, 'deleted while this disk was away, now here, too')
    await this.forget([disk.id], disks)
  }

  async #notedOn(other: NodeDisk, disk: string): Promise<Float64Array> {
    const files = [removedFile(other.folder, disk)]
    return await other.run(() => other.pool.run(READ_JOB, { files }))
  }

  /** What is noted on that disk is noted on those `there`, too. Errors: what the disks say. */
  async copy(from: NodeDisk, away: readonly string[], there: readonly NodeDisk[]): Promise<void> {
    for (const disk of away) {
      const ids = [...(await this.#notedOn(from, disk))]
      for (let at = 0; at < ids.length; at += REMOVE_BATCH) {
        await this.note([disk], ids.slice(at, at + REMOVE_BATCH), there)
      }
    }
  }

  /** `away`: disks that do not come back, or have what is noted. */
  async forget(away: readonly string[], disks: readonly NodeDisk[]): Promise<void> {
    if (away.length === 0) return
    await Promise.allSettled(
      disks.map((disk) => {
        const files = away.map((id) => removedFile(disk.folder, id))
        return disk.run(() => disk.pool.run(DROP_JOB, { files, after: [] }))
      }),
    )
  }
}

function failureAmong(results: readonly PromiseSettledResult<unknown>[]): Error {
  const [first] = results.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []))
  return first instanceof Error ? first : new PosixError('EIO', 'no disk of this node works')
}
