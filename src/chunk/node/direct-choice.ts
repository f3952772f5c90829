/**
 * Whether large chunks go past the page cache. On quick disks that is a gain, on slow ones a loss as long as memory takes
 * what they cannot: so both ways are timed, the quicker one is used, and the other tried again now and then.
 */
import { DIRECT_MIN_BYTES } from './direct-file.js'
import type { PrepareResult, ReadResult, ReadTask } from './tasks.js'

const SHARE = 0.2
const TRY_OTHER_EVERY = 64
/** Of these it is known that they were read lately. */
const RANGES_MAX = 4096
/** Of the ranges that are read again one in so many goes through the page cache even if that was not quicker. */
const SAMPLE_EVERY = 32
const RANGE_BYTES = 1024 * 1024
const RANGES_PER_CHUNK = 8

export class DirectChoice {
  /** Microseconds for each MB, moving averages; 0: never measured. */
  #direct = 0
  #cached = 0
  #writes = 0
  /** The same of reads past the page cache, and of those that could have found their range there. */
  #readPast = 0
  #readKept = 0
  /** So many more are not tried: the last one could not be done. */
  #pause = 0
  /** The range read longest ago first. Is it in the page cache, for all that is known? */
  readonly #ranges = new Map<number, boolean>()

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

  /**
   * The first read of a range goes past the page cache, the next ones through it as long as that keeps what was read: that depends on how much memory there
   * is, and on who drops it. A few go through it in any case, and tell.
   */
  forRead(id: number, offset: number): boolean {
    if (!this.#prefers || this.#isPaused()) return false
    const range = rangeOf(id, offset)
    const isKept = this.#ranges.get(range)
    const direct = isKept === undefined || !(this.#isKeeping || range % SAMPLE_EVERY === 0)
    this.#ranges.delete(range)
    this.#ranges.set(range, !direct && isKept)
    if (this.#ranges.size > RANGES_MAX) this.#dropOldest()
    return direct
  }

  /** `direct`: as forRead has said. */
  noteRead(
    { id, offset, direct }: Pick<ReadTask, 'id' | 'offset' | 'direct'>,
    { dataBytes, readUs, direct: wasDirect }: Pick<ReadResult, 'dataBytes' | 'readUs' | 'direct'>,
  ): void {
    if (dataBytes < DIRECT_MIN_BYTES) return
    if (direct && !wasDirect) this.refused()
    const each = readUs / (dataBytes / RANGE_BYTES)
    const range = rangeOf(id, offset)
    const isKept = this.#ranges.get(range)
    if (wasDirect) this.#readPast = averaged(this.#readPast, each)
    else if (isKept === true) this.#readKept = averaged(this.#readKept, each)
    else if (isKept === false) this.#ranges.set(range, true)
  }

  #isPaused(): boolean {
    if (this.#pause === 0) return false
    this.#pause--
    return true
  }

  #dropOldest(): void {
    const oldest = this.#ranges.keys().next()
    if (oldest.done !== true) this.#ranges.delete(oldest.value)
  }

  get #isKeeping(): boolean {
    return this.#readKept === 0 || this.#readKept < this.#readPast
  }

  get #prefers(): boolean {
    return this.#cached === 0 || this.#direct <= this.#cached
  }
}

function rangeOf(id: number, offset: number): number {
  return id * RANGES_PER_CHUNK + Math.floor(offset / RANGE_BYTES)
}

function averaged(average: number, value: number): number {
  return average === 0 ? value : average + (value - average) * SHARE
}
