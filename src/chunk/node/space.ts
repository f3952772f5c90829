/**
 * Free space of a data folder, without a statfs for each put: asked again when the figure is a second old, and what was
 * written since is taken off. A reserve is kept free, so that deleting, renaming and folders still work on a full node.
 *
 * A disk that shares its node with others is asked in a thread, as it may hang, and who asks here is answered what was known last, until it has not answered for SILENT_MS: then it counts as full.
 */
import { statfsSync } from 'node:fs'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { GIB } from '../../base/limits.js'
import type { Job, WorkerPool } from '../pool.js'

const ROOM_JOB: Job<string, Room> = { file: 'disk', name: 'room' }
const FRESH_MS = 1000
const SILENT_MS = 30_000
/** 1 % of the disk, at most 1 GiB. */
const RESERVE_SHARE = 0.01
const RESERVE_MAX_BYTES = GIB

export interface Space {
  readonly totalBytes: number
  /** What may still be stored: the reserve is taken off. */
  readonly freeBytes: number
}

/** As the file system says. */
export interface Room {
  readonly totalBytes: number
  readonly availableBytes: number
}

/** Errors: what the disk says. */
export function roomOf(folder: string): Room {
  const { bsize, blocks, bavail } = statfsSync(folder)
  return { totalBytes: blocks * bsize, availableBytes: bavail * bsize }
}

export interface SpaceGaugeOptions {
  readonly folder: string
  readonly clock: Clock
  readonly pool: WorkerPool
  /** The calling thread asks. */
  readonly isInline: boolean
  /** Default: 1 % of the disk, at most 1 GiB. */
  readonly reserveBytes?: number | undefined
}

export class SpaceGauge {
  readonly #options: SpaceGaugeOptions
  #space: Space = { totalBytes: 0, freeBytes: 0 }
  #askedMs = -Infinity
  #isKnown = false
  #asking: Promise<void> | null = null
  /** Since when a thread asks. */
  #beganMs = 0
  /** Why the last answer was none. */
  #failure: Error | null = null

  constructor(options: SpaceGaugeOptions) {
    this.#options = options
  }

  /** At once. Errors: what the disk said last. */
  space(): Space {
    this.#freshen()
    if (this.#failure !== null) throw this.#failure
    return this.#isSilent ? { ...this.#space, freeBytes: 0 } : this.#space
  }

  /** Errors: PosixError ENOSPC; what the disk says. */
  async claim(lengthBytes: number): Promise<void> {
    this.#freshen()
    if (!this.#isSure) await this.#ask()
    // Twice: what is being asked may be answered as of before something was deleted.
    for (let asked = 0; asked < 2 && this.#space.freeBytes < lengthBytes; asked++) await this.#ask()
    if (!this.#take(lengthBytes)) throw new PosixError('ENOSPC', `the disk of ${this.#options.folder} is full`)
  }

  /** As claim(), in this tick. false: nothing was claimed, and claim() tells why, if anything is wrong. */
  claimNow(lengthBytes: number): boolean {
    try {
      this.#freshen()
    } catch {
      return false
    }
    return this.#isSure && this.#take(lengthBytes)
  }

  get #isSure(): boolean {
    return this.#isKnown && this.#failure === null && !this.#isSilent
  }

  /** false: there is not so much. */
  #take(lengthBytes: number): boolean {
    const { totalBytes, freeBytes } = this.#space
    if (freeBytes < lengthBytes) return false
    this.#space = { totalBytes, freeBytes: freeBytes - lengthBytes }
    return true
  }

  /** Something was deleted, or the disk itself said that it is full: ask anew at the next use. */
  refresh(): void {
    this.#askedMs = -Infinity
  }

  get #isSilent(): boolean {
    return this.#asking !== null && this.#options.clock.monotonicMs() - this.#beganMs > SILENT_MS
  }

  /** If it is time. */
  #freshen(): void {
    const { clock, isInline, folder } = this.#options
    if (this.#asking !== null || clock.monotonicMs() - this.#askedMs < FRESH_MS) return
    if (isInline) this.#took(roomOf(folder))
    else void this.#ask().catch(() => undefined)
  }

  #ask(): Promise<void> {
    return (this.#asking ??= this.#askThread().finally(() => (this.#asking = null)))
  }

  async #askThread(): Promise<void> {
    const { clock, pool, isInline, folder } = this.#options
    this.#beganMs = this.#askedMs = clock.monotonicMs()
    try {
      this.#took(isInline ? roomOf(folder) : await pool.run(ROOM_JOB, folder))
    } catch (error) {
      this.#failure = error instanceof Error ? error : new PosixError('EIO', `no answer of the disk of ${folder}`)
      throw this.#failure
    }
  }

  #took({ totalBytes, availableBytes }: Room): void {
    const { clock, reserveBytes = Math.min(totalBytes * RESERVE_SHARE, RESERVE_MAX_BYTES) } = this.#options
    this.#askedMs = clock.monotonicMs()
    this.#isKnown = true
    this.#failure = null
    this.#space = { totalBytes, freeBytes: Math.max(0, Math.floor(availableBytes - reserveBytes)) }
  }

  /** Before the first use, so that nobody takes a disk that is not known for a full one. Errors: what the disk says. */
  async open(): Promise<void> {
    await this.#ask()
  }
}
