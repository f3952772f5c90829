/**
 * Paths that were walked by names which mean something else now. The kernel walks a path by what it has cached, without asking;
 * when the open of what it found comes here, we may know that a name had changed by then. An open is answered with ESTALE in
 * that case, once: the kernel then walks the path again and asks for each name (LOOKUP_REVAL).
 */
import type { Clock } from '../../base/clock.js'

/** Longer than a walk takes to arrive here as an open, on a busy machine, and than the kernel takes to drop a name. */
const DOUBT_MS = 300
const DOUBTS_MAX = 10_000

/** Inodes whose names changed a moment ago; a directory's stand for all that lies below it, a symlink's for all that it may lead to. */
export class Doubts {
  readonly #until = new Map<number, number>()
  #allUntilMs = -Infinity

  add({ ino, leadsOn }: { readonly ino: number; readonly leadsOn: boolean }, nowMs: number): void {
    if (ino === 0) return
    if (leadsOn || this.#until.size >= DOUBTS_MAX) this.#allUntilMs = nowMs + DOUBT_MS
    else this.#until.set(ino, nowMs + DOUBT_MS)
  }

  has(ino: number, nowMs: number): boolean {
    const isDoubtful = (this.#until.get(ino) ?? -Infinity) > nowMs
    if (!isDoubtful) this.#until.delete(ino)
    if (this.#until.size > DOUBTS_MAX / 2) this.#forgetOld(nowMs)
    return isDoubtful || this.#allUntilMs > nowMs
  }

  #forgetOld(nowMs: number): void {
    for (const [ino, untilMs] of this.#until) if (untilMs <= nowMs) this.#until.delete(ino)
  }
}

/** How long after ESTALE the second open of the same thread comes at most. */
const RETRY_MS = 1_000
const RETRIES_MAX = 1_000

/**
 * Threads that were answered ESTALE and come again. A second ESTALE would go to the program. A thread of another pid namespace
 * has no number (0): it is never sent back.
 */
export class Retries {
  readonly #clock: Clock
  readonly #until = new Map<number, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  begin(thread: number): void {
    if (this.#until.size >= RETRIES_MAX) this.#until.clear()
    this.#until.set(thread, this.#clock.monotonicMs() + RETRY_MS)
  }

  /** Whether this is the thread's second open. */
  take(thread: number): boolean {
    const untilMs = this.#until.get(thread)
    this.#until.delete(thread)
    return untilMs !== undefined && untilMs > this.#clock.monotonicMs()
  }

  /** The second walk came to nothing. */
  forget(thread: number): void {
    this.#until.delete(thread)
  }
}
