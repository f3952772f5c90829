/**
 * To which partitions a session listens: those that it uses. Each change by others costs every listener of its partition some work.
 *
 *   heard --unused for listenMs, nothing open in it--> ignored --used--> asked for --confirmed--> heard
 *     ^                                                                                            |
 *     +------------ at the start all are heard, and nothing is different from hearing all ---------+
 *
 * Whether the subscription as a whole can be relied on is known elsewhere (hearing.ts): while it cannot, nothing is kept of any partition,
 * and before it can again all that is heard or asked for is subscribed.
 *
 * Invariants, and what each is for:
 * - Nothing is asked of a partition, nor changed there, while it is ignored (`use`), unless nothing can be relied on. So an open, a lock that is
 *   waited for and a delegation find it heard.
 * - What was learned of a partition before `heard` was told (by a question to another partition, too) is not kept: it may have been
 *   overtaken unheard. What is kept of it goes with `ignored`, before its messages may stop.
 * - What was given away with a lifetime, to somebody who would have to be told, has run out by then: giving it away is a use, and no
 *   lifetime is longer than `lifetimeMs`.
 * - A partition in which something is open, or waited for, stays heard: who maps a file looks at its pages without asking. Of a file that is not
 *   open the kernel's pages stay when its partition is ignored: the next open asks for the version of the contents.
 */
import type { Clock, Timer } from '../base/clock.js'

/** Longer than any lifetime by more than somebody takes to come for his answer. */
export const LISTEN_MS = 45_000

export interface ListeningDeps {
  readonly clock: Clock
  readonly partitions: number
  /** How long one is heard that is not used; for at most twice as long. */
  readonly listenMs: number
  /** Resolves when the partition's messages come, or the subscription as a whole cannot be relied on. */
  readonly listen: (p: number) => Promise<void>
  readonly ignore: (p: number) => void
  /** Whether the subscription can be relied on, and the lease is good. */
  readonly isCoherent: () => boolean
  /** Partitions in which something is open, or waited for. */
  readonly inUse: () => Iterable<number>
  readonly onHeard: (p: number) => void
  readonly onIgnored: (partitions: ReadonlySet<number>) => void
}

export class Listening {
  readonly #deps: ListeningDeps
  readonly #isHeard: boolean[]
  /** Since the last sweep. */
  readonly #isUsed: boolean[]
  readonly #asked = new Map<number, Promise<void>>()
  #timer: Timer | undefined
  #isClosed = false

  constructor(deps: ListeningDeps) {
    this.#deps = deps
    this.#isHeard = new Array<boolean>(deps.partitions).fill(true)
    this.#isUsed = new Array<boolean>(deps.partitions).fill(false)
  }

  start(): void {
    this.#timer = this.#deps.clock.after(this.#deps.listenMs, () => {
      this.#sweep()
      if (!this.#isClosed) this.start()
    })
    this.#timer.unref()
  }

  /** From now on nothing is asked for or ignored. */
  close(): void {
    this.#isClosed = true
    this.#timer?.close()
  }

  /** For how long something may be kept of a partition by who cannot be told. */
  get lifetimeMs(): number {
    return (this.#deps.listenMs * 2) / 3
  }

  /** How many are heard. */
  get count(): number {
    return this.#isHeard.reduce((count, isHeard) => count + Number(isHeard), 0)
  }

  /** Counts as a use. */
  hears(p: number): boolean {
    this.#isUsed[p] = true
    return this.#isHeard[p] === true
  }

  /** Something is about to be asked of the partition, or changed there. Resolves when it is heard; undefined: it is. */
  use(p: number): Promise<void> | undefined {
    return this.hears(p) || this.#isClosed ? undefined : (this.#asked.get(p) ?? this.#ask(p))
  }

  #ask(p: number): Promise<void> {
    const asked = this.#deps.listen(p).then(() => {
      this.#asked.delete(p)
      this.#isHeard[p] = true
      this.#isUsed[p] = true
      this.#deps.onHeard(p)
    })
    this.#asked.set(p, asked)
    return asked
  }

  #sweep(): void {
    // Not while it is mended: which channels are subscribed is not known then.
    if (!this.#deps.isCoherent()) return
    const unused = new Set<number>()
    for (const [p, isHeard] of this.#isHeard.entries()) if (isHeard && this.#isUsed[p] !== true) unused.add(p)
    this.#isUsed.fill(false)
    if (unused.size === 0) return
    for (const p of this.#deps.inUse()) unused.delete(p)
    if (unused.size === 0) return
    for (const p of unused) this.#isHeard[p] = false
    this.#deps.onIgnored(unused)
    for (const p of unused) this.#deps.ignore(p)
  }
}
