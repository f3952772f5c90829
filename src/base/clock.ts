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
  /** Milliseconds that never go back, for deadlines and leases. */
  monotonicMs(): number
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

const NS_PER_SEC = 1_000_000_000n

/**
 * Where hrtime began, on the wall clock. Date cuts off what is below a millisecond: a clock that began there would be behind Redis's, and a
 * file that is written right after it was made would have been written before.
 */
function originNs(): bigint {
  const nowMs = performance.timeOrigin + performance.now()
  return BigInt(Math.round(nowMs * 1000)) * 1000n - process.hrtime.bigint()
}

class SystemClock implements Clock {
  readonly #originNs = originNs()

  now(): TimeSpec {
    // Date has milliseconds only; hrtime gives the digits below, and a step of the wall clock is followed.
    const wallMs = Date.now()
    let ns = this.#originNs + process.hrtime.bigint()
    const driftMs = wallMs - Number(ns / 1_000_000n)
    if (Math.abs(driftMs) > 2) ns += BigInt(driftMs) * 1_000_000n
    return { sec: Number(ns / NS_PER_SEC), nsec: Number(ns % NS_PER_SEC) }
  }

  monotonicMs(): number {
    return performance.now()
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
