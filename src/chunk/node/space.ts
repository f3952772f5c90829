/**
 * Free space of a data folder, without a statfs for each put: asked again when the figure is a second old, and what was
 * written since is taken off. A reserve is kept free, so that deleting, renaming and folders still work on a full node.
 */
import { statfsSync } from 'node:fs'
import type { Clock } from '../../base/clock.js'
import { PosixError } from '../../base/errno.js'
import { GIB } from '../../base/limits.js'

const FRESH_MS = 1000
/** 1 % of the disk, at most 1 GiB. */
const RESERVE_SHARE = 0.01
const RESERVE_MAX_BYTES = GIB

export interface Space {
  readonly totalBytes: number
  /** What may still be stored: the reserve is taken off. */
  readonly freeBytes: number
}

export class SpaceGauge {
  readonly #folder: string
  readonly #clock: Clock
  readonly #reserveBytes: number | undefined
  #space: Space = { totalBytes: 0, freeBytes: 0 }
  #askedMs = -Infinity

  constructor(folder: string, clock: Clock, reserveBytes?: number) {
    this.#folder = folder
    this.#clock = clock
    this.#reserveBytes = reserveBytes
  }

  space(): Space {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#askedMs < FRESH_MS) return this.#space
    this.#askedMs = nowMs
    const { bsize, blocks, bavail } = statfsSync(this.#folder)
    const totalBytes = blocks * bsize
    const reserveBytes = this.#reserveBytes ?? Math.min(totalBytes * RESERVE_SHARE, RESERVE_MAX_BYTES)
    this.#space = { totalBytes, freeBytes: Math.max(0, Math.floor(bavail * bsize - reserveBytes)) }
    return this.#space
  }

  /** Errors: PosixError ENOSPC. */
  claim(lengthBytes: number): void {
    if (this.space().freeBytes < lengthBytes) this.#askedMs = -Infinity
    const { totalBytes, freeBytes } = this.space()
    if (freeBytes < lengthBytes) throw new PosixError('ENOSPC', `the disk of ${this.#folder} is full`)
    this.#space = { totalBytes, freeBytes: freeBytes - lengthBytes }
  }

  /** Something was deleted, or the disk itself said that it is full: ask anew at the next use. */
  refresh(): void {
    this.#askedMs = -Infinity
  }
}
