/**
 * One disk of a node, as long as it works.
 *
 *     up --an error that is not a chunk's, and it cannot be written (disk-probe.ts)--> failed, until the node's next start
 *
 * Invariants:
 * - From the moment it has failed on, it is neither read nor written, and what is on it is not here.
 * - Who was told that something is on this disk was told before that moment. Who walks after it finds what is lost.
 */
import { statSync } from 'node:fs'
import { PosixError } from '../../base/errno.js'
import { RingfsError, messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import { withDeadline } from '../deadline.js'
import { codeOf } from '../outcome.js'
import type { Job, WorkerPool } from '../pool.js'
import { seedOf, weightOf, type Candidate, type DiskSeed } from './disk-choice.js'
import type { ProbeTask } from './disk-probe.js'
import type { DiskFolder } from './node-folders.js'
import type { Space } from './space.js'
import type { ChunkStore } from './store.js'

const PROBE_JOB: Job<ProbeTask, void> = { file: 'disk', name: 'probe' }
/** One that takes longer for 4 KiB holds everybody up. */
const PROBE_DEADLINE_MS = 30_000
const NO_SPACE: Space = { totalBytes: 0, freeBytes: 0 }

export interface NodeDiskOptions {
  /** Volume uuid. */
  readonly volume: string
  readonly pool: WorkerPool
  readonly log: Log
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
  readonly #options: NodeDiskOptions
  #failure: string | null = null
  #probing: Promise<void> | null = null

  /** `store`: open. Errors: what the disk says. */
  constructor({ disk, folder }: DiskFolder, store: ChunkStore, options: NodeDiskOptions) {
    this.id = disk
    this.folder = folder
    this.store = store
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

  /** Errors: those of `work`; EIO when the disk has failed. */
  async run<T>(work: (store: ChunkStore) => Promise<T>): Promise<T> {
    this.#mustBeUp()
    try {
      return await work(this.store)
    } catch (error) {
      if (isOfDisk(error)) await this.suspect(messageOf(error))
      this.#mustBeUp()
      throw error
    }
  }

  #mustBeUp(): void {
    if (this.#failure !== null) throw new PosixError('EIO', `the disk ${this.folder} has failed: ${this.#failure}`)
  }

  /** Resolves when it is known whether the disk works. `sync` false: a look that costs it nothing. */
  async suspect(why: string, sync = true): Promise<void> {
    // One that is under way may have looked before it happened.
    if (this.#probing !== null) await this.#probing
    if (!this.isUp) return
    this.#probing ??= this.#probe(why, sync).finally(() => (this.#probing = null))
    await this.#probing
  }

  async #probe(why: string, sync: boolean): Promise<void> {
    const { pool, volume } = this.#options
    try {
      const task = { folder: this.folder, volume, disk: this.id, sync }
      await withDeadline(PROBE_DEADLINE_MS, () => pool.run(PROBE_JOB, task), `a write to ${this.folder}`)
    } catch (error) {
      if (codeOf(error) !== 'CANCELLED') this.#fail(`${messageOf(error)} (${why})`)
    }
  }

  #fail(why: string): void {
    if (!this.isUp) return
    this.#failure = why
    const { log, onFailed } = this.#options
    log.error({ disk: this.id, folder: this.folder, why }, 'a disk has failed, and is not used any more')
    this.store.abandon()
    onFailed(this)
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
