/** Time comes in through the constructor, so that a test can bend it. */
export interface TimeSpec {
  /** Seconds since 1970, may be negative. */
  readonly sec: number
  /** 0 to 999,999,999. */
  readonly nsec: number
}

export interface Clock {
  /** Wall clock, for file times. */
  now(): TimeSpec
  /** Milliseconds that never go back, for deadlines. They stand still while the machine is suspended. */
  monotonicMs(): number
  /** The machine's wall clock in milliseconds, as it is set, also where `now` is corrected: it has gone on when the machine was suspended. */
  wallMs(): number
  sleep(ms: number): Promise<void>
  /** Calls `work` once, unless the timer is closed before. */
  after(ms: number, work: () => void): Timer
}

/** As a NodeJS.Timeout has it. */
export interface Timer {
  /** Idempotent. */
  close(): unknown
  /** The process need not go on for it. */
  unref(): unknown
}

const NS_PER_SEC = 1_000_000_000

/**
 * Where hrtime began, on the wall clock. Date cuts off what is below a millisecond: a clock that began there would be behind Redis's, and a
 * file that is written right after it was made would have been written before.
 */
function hrtimeOrigin(): TimeSpec {
  const nowUs = Math.round((performance.timeOrigin + performance.now()) * 1000)
  const [sec, nsec] = process.hrtime()
  return timeOf(Math.floor(nowUs / 1e6) - sec, (nowUs % 1e6) * 1000 - nsec)
}

/** Nanoseconds may be more than a second, and fewer than none. */
function timeOf(sec: number, nsec: number): TimeSpec {
  const carry = Math.floor(nsec / NS_PER_SEC)
  return { sec: sec + carry, nsec: nsec - carry * NS_PER_SEC }
}

class SystemClock implements Clock {
  readonly #origin = hrtimeOrigin()

  now(): TimeSpec {
    // Date has milliseconds only; hrtime gives the digits below, and a step of the wall clock is followed.
    const wallMs = Date.now()
    const [sec, nsec] = process.hrtime()
    const time = timeOf(this.#origin.sec + sec, this.#origin.nsec + nsec)
    const driftMs = wallMs - (time.sec * 1000 + Math.floor(time.nsec / 1e6))
    return Math.abs(driftMs) > 2 ? timeOf(time.sec, time.nsec + driftMs * 1e6) : time
  }

  monotonicMs(): number {
    return performance.now()
  }

  wallMs(): number {
    return Date.now()
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms))
  }

  after(ms: number, work: () => void): Timer {
    return setTimeout(work, ms)
  }
}

export const systemClock: Clock = new SystemClock()

export function compareTime(a: TimeSpec, b: TimeSpec): number {
  return a.sec - b.sec || a.nsec - b.nsec
}
