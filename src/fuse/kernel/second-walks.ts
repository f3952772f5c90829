/**
 * Threads that were answered ESTALE and walk their path again, asking for each name on it (LOOKUP_REVAL). The kernel does that
 * once: a second ESTALE goes to the program, which then misses a name that was there all the time.
 *
 * Invariant: what a second walk is led to stays until it is opened or asked about. A file or symlink that is answered to a LOOKUP
 * of such a walk is pinned, so that it outlives the loss of its last name by another rename; what is gone by then is not
 * answered, the name is asked for again. A local file system has the same by its references in memory.
 *
 * A thread of another pid namespace has no number (0), so its second walk is not known from its first.
 */
import type { Clock } from '../../base/clock.js'
import { isErrno } from '../../base/errno.js'
import type { Attr, VfsContract } from '../../vfs/contract.js'

/** How long after an answer the next request of such a walk comes at most, on a busy machine. */
const STEP_MS = 3_000
const WALKS_MAX = 1_000
/** A path has at most 2,048 names. Those of symlinks come to that: a walk through several of such length is not known at its end. */
const FOUND_MAX = 4_096
/** No path leads through more than 40 symlinks: who was led to more has gone other ways since. He would pin all that he looks at. */
const PINNED_MAX = 100
/** Of all walks. Threads whose paths have a hundred names each, all at once, come to it; what they pin takes more room than what they found. */
const NAMES_MAX = 100_000
const PINS_MAX = 10_000

export class SecondWalks {
  readonly #clock: Clock
  readonly #vfs: Pick<VfsContract, 'pin' | 'unpin'>
  readonly #walks = new Map<number, SecondWalk>()
  #names = 0
  #pins = 0
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(clock: Clock, vfs: Pick<VfsContract, 'pin' | 'unpin'>) {
    this.#clock = clock
    this.#vfs = vfs
  }

  /** The thread is answered ESTALE, of this inode. */
  begin(thread: number, ino: number): void {
    if (thread === 0 || this.#isClosed) return
    this.end(thread)
    const oldest = this.#walks.size >= WALKS_MAX ? this.#walks.keys().next().value : undefined
    if (oldest !== undefined) this.end(oldest)
    this.#walks.set(thread, new SecondWalk(ino, this.#clock.monotonicMs()))
    this.#wait()
  }

  has(thread: number): boolean {
    return this.#of(thread) !== undefined
  }

  /** On the monotonic clock. */
  beganMs(thread: number): number | undefined {
    return this.#of(thread)?.beganMs
  }

  /**
   * A LOOKUP of a second walk found this. Resolves to false when that is gone: the name means something else by now.
   */
  async found(thread: number, { ino, type }: Attr): Promise<boolean> {
    const walk = this.#of(thread)
    if (walk === undefined) return true
    const isMore = walk.found.size >= FOUND_MAX || (type !== 'directory' && walk.pinned.size >= PINNED_MAX)
    if (isMore && !walk.found.has(ino)) {
      this.end(thread)
      return true
    }
    if (type !== 'directory' && !walk.pinned.has(ino)) {
      try {
        await this.#vfs.pin(ino)
      } catch (error) {
        if (isErrno(error, 'ENOENT')) return false
        throw error
      }
      // It may have ended meanwhile, or pinned the same.
      if (this.#walks.get(thread) !== walk || walk.pinned.has(ino)) this.#vfs.unpin(ino)
      else {
        walk.pinned.add(ino)
        this.#pins++
      }
    }
    if (this.#walks.get(thread) !== walk) return true
    if (!walk.found.has(ino)) {
      walk.found.add(ino)
      this.#names++
    }
    walk.untilMs = this.#clock.monotonicMs() + STEP_MS
    this.#bound()
    return true
  }

  /** Ends those that take the most room: who looks at so much has gone other ways since. */
  #bound(): void {
    while (this.#pins > PINS_MAX) this.#endLongest(({ pinned }) => pinned.size)
    while (this.#names > NAMES_MAX) this.#endLongest(({ found }) => found.size)
  }

  #endLongest(length: (walk: SecondWalk) => number): void {
    let [longest, most] = [0, -1]
    for (const [thread, walk] of this.#walks) {
      if (length(walk) > most) [longest, most] = [thread, length(walk)]
    }
    this.end(longest)
  }

  /**
   * Whether the thread came to the inode by its second walk: by a LOOKUP in it, or where it begins. Otherwise it was on another way since,
   * whose names were not asked for.
   */
  ledTo(thread: number, ino: number): boolean {
    const walk = this.#of(thread)
    return walk !== undefined && (walk.found.size === 0 || walk.found.has(ino))
  }

  /** The same of what it opens. Without a LOOKUP it can only have come to where it was before (/proc/self/fd). */
  opens(thread: number, ino: number): boolean {
    const walk = this.#of(thread)
    return walk !== undefined && (walk.found.has(ino) || (walk.found.size === 0 && walk.stale === ino))
  }

  /** The walk has come to its end, or to nothing. */
  end(thread: number): void {
    const walk = this.#walks.get(thread)
    if (walk === undefined) return
    this.#walks.delete(thread)
    this.#names -= walk.found.size
    this.#pins -= walk.pinned.size
    for (const ino of walk.pinned) this.#vfs.unpin(ino)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    for (const thread of [...this.#walks.keys()]) this.end(thread)
  }

  #of(thread: number): SecondWalk | undefined {
    if (this.#walks.size === 0) return undefined
    const walk = this.#walks.get(thread)
    return walk !== undefined && walk.untilMs > this.#clock.monotonicMs() ? walk : undefined
  }

  #wait(): void {
    this.#timer ??= setTimeout(() => this.#endOld(), STEP_MS).unref()
  }

  #endOld(): void {
    const nowMs = this.#clock.monotonicMs()
    for (const [thread, { untilMs }] of [...this.#walks]) if (untilMs <= nowMs) this.end(thread)
    this.#timer = undefined
    if (this.#walks.size > 0) this.#wait()
  }
}

class SecondWalk {
  readonly found = new Set<number>()
  readonly pinned = new Set<number>()
  /** The inode that was answered ESTALE. */
  readonly stale: number
  readonly beganMs: number
  untilMs: number

  constructor(stale: number, beganMs: number) {
    this.stale = stale
    this.beganMs = beganMs
    this.untilMs = beganMs + STEP_MS
  }
}
