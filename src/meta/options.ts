/** How a client of the metadata behaves. */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Processes } from '../base/processes.js'
import type { DelegationOptions } from './holdings.js'

export interface MetaOptions {
  readonly log: Log
  readonly clock?: Clock
  /** 0 to 1. */
  readonly random?: () => number
  /** Default: those of this machine. */
  readonly processes?: Processes
  /** How long a client may be silent before others clean up after it. Default 30,000. */
  readonly sessionTtlMs?: number
  /** Clean up after clients that died. Default true; false for a client that is to change nothing. */
  readonly reaps?: boolean
  /** A change across partitions that is not decided for so long is aborted by who waits for it. Default 5,000. */
  readonly intentTimeoutMs?: number
  /** Default 30,000; then ETIMEDOUT or REDIS_UNREACHABLE. */
  readonly operationDeadlineMs?: number
  /** Numbers for new directories that are reserved at once: so many in a row lie in one partition. Default 16. */
  readonly numbersAhead?: number
  /** How long a change waits for Redis replicas that are away, before they count as such. Default 1,000. */
  readonly replicasMs?: number
  /** For crash tests: called between the steps of changes across partitions. */
  readonly onStep?: (step: string) => Promise<void>
  /** false: changes across partitions go step by step also where one script can do them. Default true without `onStep`. */
  readonly atOnce?: boolean
  /** What is not used for so long, of the metadata, is not listened to any more. Default 45,000. */
  readonly listenMs?: number
  readonly delegations?: DelegationOptions
}
