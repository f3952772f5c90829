/**
 * In which directory the kernel finds an inode, if only one comes into question.
 *
 * Of several (hard links, moves) it is not known for how long the kernel keeps to each: until the longest lifetime has passed
 * since another than the last one was given, there is none.
 */
import { LIFETIME_MAX_MS } from './handed.js'

export class Way {
  #last = 0
  #severalUntilMs = -Infinity
  #nowMs = -Infinity

  add(directory: number, nowMs: number): void {
    this.#nowMs = nowMs
    if (this.#last !== 0 && this.#last !== directory) this.#severalUntilMs = nowMs + LIFETIME_MAX_MS
    this.#last = directory
  }

  /** undefined: none is known, or several. */
  get only(): number | undefined {
    return this.#last === 0 || this.#nowMs < this.#severalUntilMs ? undefined : this.#last
  }
}

const SYMLINK_DIRECTORIES_MAX = 8

/**
 * In which directories the kernel knows symlinks. Any path may lead through them, and nothing tells which ones do: a way is only
 * held if these directories are, too.
 */
export class SymlinkWays {
  readonly #seenMs = new Map<number, number>()
  #tooManyUntilMs = -Infinity

  /** The name of a symlink in this directory was given a lifetime. */
  add(directory: number, nowMs: number): void {
    if (this.#seenMs.size >= SYMLINK_DIRECTORIES_MAX && !this.#seenMs.has(directory)) this.#forgetOld(nowMs)
    if (this.#seenMs.size < SYMLINK_DIRECTORIES_MAX || this.#seenMs.has(directory)) this.#seenMs.set(directory, nowMs)
    else this.#tooManyUntilMs = nowMs + LIFETIME_MAX_MS
  }

  /** undefined: too many to look at. */
  directories(nowMs: number): Iterable<number> | undefined {
    if (nowMs < this.#tooManyUntilMs) return undefined
    if (this.#seenMs.size > 0) this.#forgetOld(nowMs)
    return this.#seenMs.keys()
  }

  #forgetOld(nowMs: number): void {
    for (const [directory, atMs] of this.#seenMs) if (nowMs - atMs >= LIFETIME_MAX_MS) this.#seenMs.delete(directory)
  }
}
