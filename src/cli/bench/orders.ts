/** What goes between the bench and its threads. */
import type { Amount } from './load.js'
import type { Work } from './plan.js'

/** Where in `control` a 1 means: end after the call that is under way. */
export const STOP = 0

export interface ThreadData {
  /** Of this thread alone. */
  readonly folder: string
  readonly index: number
  /** Shared by all. */
  readonly control: Int32Array
  /** Operations done so far of each thread. */
  readonly progress: Float64Array
}

export interface Order {
  readonly work: Work
  readonly amount: Amount
  /** Then it is enough. */
  readonly limitMs: number
}

export type Outcome = Done | Failed

export interface Done {
  /** The same clock in every thread. */
  readonly startedNs: bigint
  readonly endedNs: bigint
  readonly operations: number
  readonly bytes: number
  readonly buckets: readonly number[]
}

export interface Failed {
  readonly message: string
  /** As libuv has it, for what a call of the system said. */
  readonly errno?: unknown
}
