/**
 * One disk of a node, as long as it works.
 *
 *     up --an error that is not a chunk's, and it cannot be written (disk-probe.ts)--> failed, until the node's next start
 *     up --a look takes 30 s (disk-look.ts)--> slow --it answers--> up
 *                                               +----60 s, and another disk was written meanwhile--> failed
 *
 * Invariants:
 * - From the moment it has failed on, it is neither read nor written, and what is on it is not here. Who waits for it then has EIO.
 * - Who was told that something is on this disk was told before that moment. Who walks after it finds what is lost.
 * - Time alone is no failure where there is no other disk: it may be all that stands still.
 */
import { statSync } from 'node:fs'
import { whileWanted } from '../../base/cancel.js'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { Job, WorkerPool } from '../pool.js'
import { seedOf, weightOf, type Candidate, type DiskSeed } from './disk-choice.js'
import type { PutHow, UnhashedChunk } from './disk.js'
import { Look, SLOW_MS } from './disk-look.js'
import type { ProbeTask } from './disk-probe.js'
import type { DiskFolder } from './node-folders.js'
import type { Space } from './space.js'
import type { ChunkStore } from './store.js'

const PROBE_JOB: Job<ProbeTask, void> = { file: 'disk', name: 'probe' }
const NO_SPACE: Space = { totalBytes: 0, freeBytes: 0 }

export interface NodeDiskOptions {
  /** Volume uuid. */
  readonly volume: string
  readonly pool: WorkerPool
  /** For looks alone: a thread for each disk that hangs, and one more. */
  readonly probes: WorkerPool
  readonly clock: Clock
  readonly log: Log
  /** Asked each second of a disk that is slow: `ranMs` is what the look takes already, which began at `startedMs`. */
  readonly mayGiveUp: (disk: NodeDisk, startedMs: number, ranMs: number) => boolean
  readonly onFailed: (disk: NodeDisk) => void
}

export class NodeDisk implements Candidate {
  readonly id: string
  readonly folder: string
  readonly seed: DiskSeed
  readonly weight: number
  /** Number of the file system on which it lies: folders may share one. */
  readonly device: number
  readonly store: ChunkStore
  /** For work in its folder. */
  readonly pool: WorkerPool
  readonly #options: NodeDiskOptions
  #failure: string | null = null
  #look: Look | null = null
  #slow: string | null = null
  #provenMs = -Infinity
  /** Ends the waiting of each call that is under way; since when it waits. The oldest first. */
  readonly #waiting = new Map<() => void, number>()

  /** `store`: open. Errors: what the disk says. */
  constructor({ disk, folder }: DiskFolder, store: ChunkStore, options: NodeDiskOptions) {
    this.id = disk
    this.folder = folder
    this.store = store
    this.pool = options.pool
    this.seed = seedOf(disk)
    this.device = statSync(folder).dev
    this.weight = weightOf(folder)
    this.#options = options
  }

  get isUp(): boolean {
    return this.#failure === null
  }

  /** Why it has failed; null: it works. */
  get failure(): string | null {
    return this.#failure
  }

  /** Since what it does not answer; null: it does, as far as is known. */
  get slow(): string | null {
    return this.#slow
  }

  /** When the last look began that it answered with all on disk, by the monotonic clock; milliseconds. */
  get provenMs(): number {
    return this.#provenMs
  }

  /** Somebody waits for it. */
  get isInUse(): boolean {
    return this.#waiting.size > 0
  }

  /** For how long the oldest call has been waiting, in milliseconds; 0: nobody waits. */
  get waitsMs(): number {
    const [sinceMs] = this.#waiting.values()
    return sinceMs === undefined ? 0 : this.#options.clock.monotonicMs() - sinceMs
  }

  /**
   * `onLate`: gets what `work` answers after the disk has failed. What it does then changes nothing that anybody looks at before the
   * next start. Errors: those of `work`; EIO when the disk has failed.
   */
  async run<T>(work: (store: ChunkStore) => Promise<T>, onLate: (late: T) => void = () => undefined): Promise<T> {
    this.#mustBeUp()
    try {
      return await this.#unlessFailed(work(this.store), onLate)
    } catch (error) {
      if (isOfDisk(error)) await this.suspect(messageOf(error))
      this.#mustBeUp()
      throw error
    }
  }

  /** As of the store. When the disk has failed, or the chunk was given up, what may still be writing stores nothing. */
  putUnhashed(chunk: UnhashedChunk, data: readonly Uint8Array[], { sync, signal }: PutHow): Promise<Buffer> {
    return whileWanted(signal, (wanted) =>
      this.run((store) => store.putUnhashed(chunk, data, { sync, signal: wanted })),
    )
  }

  #unlessFailed<T>(work: Promise<T>, onLate: (late: T) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        reject(this.#failed())
        work.then(onLate, () => undefined)
      }
      this.#waiting.set(giveUp, this.#options.clock.monotonicMs())
      const done = (): void => void this.#waiting.delete(giveUp)
      void work.then(resolve, reject).then(done, done)
    })
  }

  #mustBeUp(): void {
    if (this.#failure !== null) throw this.#failed()
  }

  #failed(): PosixError {
    return new PosixError('EIO', `the disk ${this.folder} has failed: ${this.#failure ?? ''}`)
  }

  /**
   * Resolves when it is known whether the disk works, by a look that begins after the call, or that it is slow. `sync` false: a look that
   * costs it nothing.
   */
  async suspect(why: string, sync = true): Promise<void> {
    // One that is under way may have looked before it happened.
    await this.#look?.known
    while (this.isUp && this.#slow === null) {
      const look = (this.#look ??= this.#begin(why, sync))
      await look.known
      if (look.sync || !sync) return
    }
  }

  #begin(why: string, sync: boolean): Look {
    const { volume, probes, clock } = this.#options
    const look: Look = new Look({
      ...{ clock, sync },
      ask: (begun) => probes.run(PROBE_JOB, { folder: this.folder, volume, disk: this.id, sync, begun }),
      onAnswer: (error) => this.#answered(look, error, why),
      onLate: (ranMs) => this.#late(look, ranMs, why),
    })
    return look
  }

  #answered(look: Look, error: unknown, why: string): void {
    this.#look = null
    if (error !== null && codeOf(error) !== 'CANCELLED') return this.#fail(`${messageOf(error)} (${why})`)
    if (error === null && look.sync) this.#provenMs = look.startedMs
    if (this.#slow !== null) this.#options.log.warn({ disk: this.id, folder: this.folder }, 'a disk answers again')
    this.#slow = null
  }

  #late(look: Look, ranMs: number, why: string): void {
    const { log, mayGiveUp } = this.#options
    if (this.#slow === null) {
      this.#slow = `a write of 4 KiB takes longer than ${SLOW_MS / 1000} s (${why})`
      log.warn({ disk: this.id, folder: this.folder, why: this.#slow }, 'a disk does not answer')
    }
    if (!mayGiveUp(this, look.startedMs, ranMs)) return
    look.end()
    this.#fail(`a write of 4 KiB has not been done in ${ranMs / 1000} s (${why})`)
  }

  #fail(why: string): void {
    if (!this.isUp) return
    this.#failure = why
    this.#slow = null
    const { log, onFailed } = this.#options
    log.error({ disk: this.id, folder: this.folder, why }, 'a disk has failed, and is not used any more')
    this.store.abandon()
    onFailed(this)
    // Last: who is told that it has failed finds it among the live ones no more.
    for (const giveUp of this.#waiting.keys()) giveUp()
    this.#waiting.clear()
  }

  /** Nothing when it has failed, or does so now. */
  space(): Space {
    if (!this.isUp) return NO_SPACE
    try {
      return this.store.space()
    } catch (error) {
      void this.suspect(messageOf(error))
      return NO_SPACE
    }
  }
}

/** Of the disk itself, and not of a chunk, of lack of room, or of who asks. */
function isOfDisk(error: unknown): boolean {
  return !(error instanceof RingfsError) && codeOf(error) !== 'ENOSPC' && codeOf(error) !== 'EINVAL'
}
