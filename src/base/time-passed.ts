/**
 * How much time has passed, for what others count, too, on machines of their own: leases.
 *
 * The steady clock stands still while the machine is suspended (CLOCK_MONOTONIC), or while a virtual machine is paused; the wall clock
 * has gone on afterwards, but may be set. So it is what the one says that has come further: a wall clock that is set forward ends a lease
 * too early, which costs a renewal.
 */
import type { Clock } from './clock.js'

export interface Moment {
  readonly steadyMs: number
  readonly wallMs: number
}

type Clocks = Pick<Clock, 'monotonicMs' | 'wallMs'>

export function momentOf(clock: Clocks): Moment {
  return { steadyMs: clock.monotonicMs(), wallMs: clock.wallMs() }
}

/** Not less than 0. */
export function passedMs(clock: Clocks, since: Moment): number {
  return Math.max(clock.monotonicMs() - since.steadyMs, clock.wallMs() - since.wallMs)
}
