/**
 * One look at a disk (disk-probe.ts), in a thread that no other work of the node waits for.
 *
 *     begun --it answers--> known
 *       |
 *       +-- 30 s --> known, slow --> told each second, until it answers or is ended
 *
 * Time is counted from when a thread has begun with it, in ticks of this process: neither a busy machine nor a process that was stopped is
 * a slow disk.
 */
import type { Clock, Timer } from '../../base/clock.js'
import { Gate } from '../deadline.js'
import { notBegun } from './disk-probe.js'

const TICK_MS = 1_000
/** One that takes longer for 4 KiB holds everybody up. */
export const SLOW_MS = 30_000

export interface LookOptions {
  readonly clock: Clock
  /** Waits until it is on disk. */
  readonly sync: boolean
  /** `begun`: disk-probe.ts. Settles when the disk has answered. */
  readonly ask: (begun: Int32Array) => Promise<void>
  /** Before it counts as known. `error` null: the disk works. */
  readonly onAnswer: (error: unknown) => void
  /** Once a second, from when it is slow. `ranMs`: how long it takes already. */
  readonly onLate: (ranMs: number) => void
}

export class Look {
  readonly sync: boolean
  /** By the monotonic clock; milliseconds. */
  readonly startedMs: number
  readonly #options: LookOptions
  readonly #begun = notBegun()
  readonly #known = new Gate()
  #ranMs = 0
  #timer: Timer | undefined
  #isOver = false

  constructor(options: LookOptions) {
    this.#options = options
    this.sync = options.sync
    this.startedMs = options.clock.monotonicMs()
    options.ask(this.#begun).then(
      () => this.#answered(null),
      (error: unknown) => this.#answered(error),
    )
    this.#wait()
  }

  /** Resolves when it has answered, or is slow. */
  get known(): Promise<void> {
    return this.#known.opened
  }

  /** Its answer is not waited for any more. */
  end(): void {
    this.#isOver = true
    this.#timer?.close()
    this.#known.open()
  }

  #answered(error: unknown): void {
    if (this.#isOver) return
    this.#options.onAnswer(error)
    this.end()
  }

  #wait(): void {
    this.#timer = this.#options.clock.after(TICK_MS, () => this.#tick())
    this.#timer.unref()
  }

  #tick(): void {
    if (this.#isOver) return
    if (Atomics.load(this.#begun, 0) !== 0) this.#ranMs += TICK_MS
    this.#wait()
    if (this.#ranMs < SLOW_MS) return
    this.#options.onLate(this.#ranMs)
    this.#known.open()
  }
}
