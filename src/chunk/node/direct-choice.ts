/**
 * Whether large chunks go past the page cache. On quick disks that is a gain, on slow ones a loss as long as memory takes
 * what they cannot: so both ways are timed, the quicker one is used, and the other tried again now and then.
 */
import { DIRECT_MIN_BYTES } from './direct-file.js'
import type { PrepareResult } from './tasks.js'

const SHARE = 0.2
const TRY_OTHER_EVERY = 64
/** Ranges read lately; read again they are worth their place in the page cache. */
const RANGES_MAX = 4096
const RANGE_BYTES = 1024 * 1024
const RANGES_PER_CHUNK = 8

export class DirectChoice {
  /** Microseconds for each MB, moving averages; 0: never measured. */
  #direct = 0
  #cached = 0
  #writes = 0
  /** So many more are not tried: the last one could not be done. */
  #pause = 0
  readonly #ranges = new Set<number>()

  forWrite(): boolean {
    if (this.#isPaused()) return false
    this.#writes++
    const other = this.#writes % TRY_OTHER_EVERY === 0
    return this.#prefers !== other
  }

  wrote(direct: boolean, lengthBytes: number, tookUs: number): void {
    const each = tookUs / (lengthBytes / RANGE_BYTES)
    if (direct) this.#direct = averaged(this.#direct, each)
    else this.#cached = averaged(this.#cached, each)
  }

  /** `asked`: whether it was to go past the page cache. */
  noteWrite(asked: boolean, { direct, writeUs }: PrepareResult, lengthBytes: number): void {
    if (asked && !direct) this.refused()
    else if (lengthBytes >= DIRECT_MIN_BYTES) this.wrote(direct, lengthBytes, writeUs)
  }

  /** It was asked for, and cannot be done with this memory or this filesystem. */
  refused(): void {
    this.#pause = TRY_OTHER_EVERY
  }

  /** The first read of a range goes past the page cache, the next one through it. */
  forRead(id: number, offset: number): boolean {
    if (!this.#prefers || this.#isPaused()) return false
    const range = id * RANGES_PER_CHUNK + Math.floor(offset / RANGE_BYTES)
    if (this.#ranges.delete(range)) return false
    this.#ranges.add(range)
    if (this.#ranges.size > RANGES_MAX) this.#dropOldest()
    return true
  }

  #isPaused(): boolean {
    if (this.#pause === 0) return false
    this.#pause--
    return true
  }

  #dropOldest(): void {
    const oldest = this.#ranges.values().next()
    if (oldest.done !== true) this.#ranges.delete(oldest.value)
  }

  get #prefers(): boolean {
    return this.#cached === 0 || this.#direct <= this.#cached
  }
}

function averaged(average: number, value: number): number {
  return average === 0 ? value : average + (value - average) * SHARE
}
