/**
 * How far the clock of this machine is from that of Redis, which all machines share: measured with every look at the
 * membership, as NTP does (RFC 5905, section 8): the answer was made somewhere between asking and hearing.
 */
import type { Clock, TimeSpec, Timer } from '../base/clock.js'

const SAMPLES = 8
/** A clock that differs by less is left alone: file times would jump for nothing. */
const TOLERATED_MS = 1_000
const NS_PER_MS = 1_000_000
const NS_PER_S = 1_000_000_000

interface Sample {
  readonly offsetMs: number
  readonly tookMs: number
}

export function wallMs(clock: Clock): number {
  const { sec, nsec } = clock.now()
  return sec * 1000 + nsec / NS_PER_MS
}

export class ClockOffset {
  #samples: readonly Sample[] = []
  #bestMs = 0
  /** Our wall clock minus our clock that never steps, at the last measurement. */
  #aheadMs: number | undefined

  /**
   * Heard at `endMs` of our wall clock, which was `steadyMs` of the clock that never steps, `tookMs` of which after asking; Redis said
   * `redisMs`. A wall clock that was set meanwhile is measured as it is now.
   */
  note(tookMs: number, endMs: number, redisMs: number, steadyMs: number): void {
    this.#aheadMs = endMs - steadyMs
    const sample = { offsetMs: endMs - tookMs / 2 - redisMs, tookMs }
    const isStep = this.#samples.length > 0 && Math.abs(sample.offsetMs - this.#bestMs) > tookMs + TOLERATED_MS
    this.#samples = isStep ? [sample] : [...this.#samples.slice(1 - SAMPLES), sample]
    // The quickest answer leaves the least room for error.
    this.#bestMs = this.#samples.reduce((best, one) => (one.tookMs <= best.tookMs ? one : best)).offsetMs
  }

  /** Our clock minus that of Redis; positive: ours is ahead. */
  get ms(): number {
    return this.#bestMs
  }

  /** As `ms` when our wall clock shows `wallMs`, and the one that never steps `steadyMs`: with what it was set by since it was measured. */
  msAt(wallMs: number, steadyMs: number): number {
    return this.#aheadMs === undefined ? this.#bestMs : this.#bestMs + wallMs - steadyMs - this.#aheadMs
  }
}

/** Tells the time of Redis where the machine's own is wrong, so that file times of all clients can be compared. */
export class SharedClock implements Clock {
  readonly #base: Clock
  readonly #offset: ClockOffset
  #correctionMs = 0

  constructor(base: Clock, offset: ClockOffset) {
    this.#base = base
    this.#offset = offset
  }

  now(): TimeSpec {
    const { sec, nsec } = this.#base.now()
    const offsetMs = this.#offset.msAt(sec * 1000 + nsec / NS_PER_MS, this.#base.monotonicMs())
    // Held until it is wrong by more than is tolerated: the digits of a good clock are better than ours of the offset.
    if (Math.abs(offsetMs - this.#correctionMs) > TOLERATED_MS) {
      this.#correctionMs = Math.abs(offsetMs) > TOLERATED_MS ? Math.round(offsetMs) : 0
    }
    return shifted({ sec, nsec }, -this.#correctionMs)
  }

  monotonicMs(): number {
    return this.#base.monotonicMs()
  }

  wallMs(): number {
    return this.#base.wallMs()
  }

  sleep(ms: number): Promise<void> {
    return this.#base.sleep(ms)
  }

  after(ms: number, work: () => void): Timer {
    return this.#base.after(ms, work)
  }
}

function shifted({ sec, nsec }: TimeSpec, ms: number): TimeSpec {
  if (ms === 0) return { sec, nsec }
  const wholeS = Math.floor(ms / 1000)
  const sum = nsec + (ms - wholeS * 1000) * NS_PER_MS
  return { sec: sec + wholeS + Math.floor(sum / NS_PER_S), nsec: sum % NS_PER_S }
}
