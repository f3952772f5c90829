/**
 * What a process has done since it began: counts, times and levels, for `ringfs stats`.
 *
 * Hot paths pay an increment, and two looks at the clock for a time; nothing is sorted, summed or sent until somebody asks,
 * and there are no timers. All figures only grow (but for levels): who asks twice takes the difference.
 *
 * Times are kept in buckets that are a quarter of a power of two wide, as in HdrHistogram: 1.2 KB for a time, and every
 * percentile is right to an eighth of its value.
 */

/** Four buckets for each power of two, from 1 us to 2^31 us (36 minutes). */
export const TIMER_BUCKETS = 120
const LONGEST_US = 2 ** 31 - 1

/** The bucket of a time in whole microseconds. */
function bucketOf(us: number): number {
  if (us < 4) return us
  const power = 31 - Math.clz32(us)
  return (power - 1) * 4 + ((us >>> (power - 2)) & 3)
}

/** The shortest time of a bucket, in microseconds. */
export function bucketStartUs(bucket: number): number {
  if (bucket < 4) return bucket
  return (4 + (bucket & 3)) * 2 ** ((bucket >> 2) - 1)
}

/** How often something was done, how long it took, and how often it failed. */
export class Timer {
  count = 0
  errors = 0
  totalMs = 0
  readonly buckets = new Float64Array(TIMER_BUCKETS)

  record(ms: number): void {
    this.count++
    this.totalMs += ms
    const bucket = ms > 0 ? bucketOf(Math.min(LONGEST_US, Math.floor(ms * 1000))) : 0
    this.buckets[bucket] = (this.buckets[bucket] ?? 0) + 1
  }
}

/** In milliseconds, or undefined when there was nothing. `share`: 0.5 for the median. */
export function percentileMs(buckets: ArrayLike<number>, share: number): number | undefined {
  const total = Array.from(buckets).reduce((sum, count) => sum + count, 0)
  if (total === 0) return undefined
  let left = Math.max(1, Math.ceil(total * share))
  for (let bucket = 0; bucket < buckets.length; bucket++) {
    left -= buckets[bucket] ?? 0
    if (left <= 0) return (bucketStartUs(bucket) + bucketStartUs(bucket + 1)) / 2 / 1000
  }
  return undefined
}

export interface TimerFigures {
  /** What kind of work: `fuse`, `redis`. */
  readonly group: string
  /** Which: an opcode, a script. */
  readonly label: string
  readonly count: number
  readonly errors: number
  readonly totalMs: number
  /** TIMER_BUCKETS counts. */
  readonly buckets: readonly number[]
}

export interface NamedValue {
  readonly name: string
  readonly value: number
}

export interface MetricsSnapshot {
  /** Those that were used. */
  readonly timers: readonly TimerFigures[]
  readonly counters: readonly NamedValue[]
  readonly gauges: readonly NamedValue[]
}

/** Of one volume. Parts count in plain fields of their own and say here under what name; the last one to say so counts. */
export class Metrics {
  readonly #timers = new Map<string, Map<string, Timer>>()
  readonly #counters = new Map<string, () => number>()
  readonly #gauges = new Map<string, () => number>()

  /** The same object for the same name. */
  timer(group: string, label: string): Timer {
    return this.timers(group)(label)
  }

  /** Those of one group, for who asks for each call. */
  timers(group: string): (label: string) => Timer {
    const timers = this.#timers.get(group) ?? new Map<string, Timer>()
    this.#timers.set(group, timers)
    return (label) => {
      let timer = timers.get(label)
      if (timer === undefined) timers.set(label, (timer = new Timer()))
      return timer
    }
  }

  /** What only grows. Read when somebody asks. */
  counter(name: string, read: () => number): void {
    this.#counters.set(name, read)
  }

  /** A level, read when somebody asks. */
  gauge(name: string, read: () => number): void {
    this.#gauges.set(name, read)
  }

  snapshot(): MetricsSnapshot {
    const timers = [...this.#timers].flatMap(([group, labels]) =>
      [...labels].map(([label, { count, errors, totalMs, buckets }]) => {
        return { group, label, count, errors, totalMs, buckets: [...buckets] }
      }),
    )
    return {
      timers: timers.filter(({ count, errors }) => count + errors > 0),
      counters: read(this.#counters),
      gauges: read(this.#gauges),
    }
  }
}

function read(values: ReadonlyMap<string, () => number>): readonly NamedValue[] {
  return [...values].map(([name, value]) => ({ name, value: value() }))
}
