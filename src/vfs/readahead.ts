/**
 * Decides how far ahead of a reader to fetch. Pure bookkeeping of one handle: it grows while reads follow each other and
 * ends at the first that does not.
 */
import { KIB } from '../base/limits.js'

const FIRST_BYTES = 256 * KIB

export class ReadAhead {
  #expected = 0
  #windowBytes = 0
  /** Fetched or being fetched up to here. */
  #ahead = 0
  /** Of the longest window: what a file takes that lies in small pieces is a multiple of its bytes. */
  #share = 1

  /**
   * A read of [start, end) of a file of `size` bytes happened: the range to fetch now, or null. A new range is asked for
   * when less than half of the last is left, so that fetches are few and the reader does not wait for them.
   */
  next(
    start: number,
    end: number,
    size: number,
    maxBytes: number,
  ): { readonly start: number; readonly end: number } | null {
    const sequential = start === this.#expected
    this.#expected = end
    if (!sequential) {
      this.#windowBytes = 0
      this.#ahead = end
      return null
    }
    this.#windowBytes = Math.min(
      Math.floor(maxBytes * this.#share),
      this.#windowBytes === 0 ? FIRST_BYTES : this.#windowBytes * 2,
    )
    const from = Math.max(end, this.#ahead)
    const to = Math.min(size, end + this.#windowBytes)
    if (to <= from || (from - end > this.#windowBytes / 2 && to < size)) return null
    this.#ahead = to
    return { start: from, end: to }
  }

  /** What was fetched took `times` as many bytes of memory as of the file. Twice as many are allowed for. */
  takes(times: number): void {
    this.#share = times > 2 ? 2 / times : 1
  }
}
