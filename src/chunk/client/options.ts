/** What the parts of the chunk client share. */
import type { Clock } from '../../base/clock.js'
import type { Log } from '../../base/log.js'
import type { ChunkNodeApi, TogetherPut } from '../contract.js'
import type { Hasher } from '../jobs.js'
import type { NodeHealth } from '../node-health.js'
import type { Enqueue } from '../replication.js'
import type { PlacementSource } from './placement.js'

/** Since the mount began. */
export class ChunkCounts {
  /** Second nodes that were asked because the first was slow. */
  hedges = 0
  /** Rounds through all nodes after the first. */
  retries = 0
  /** Nodes that were asked and gave nothing. */
  failures = 0
  /** Copies that were not what they should be. */
  bad = 0
}

export interface ClientParts {
  /** Volume uuid. */
  readonly volume: string
  readonly replicas: number
  readonly writeQuorum: number
  readonly placement: PlacementSource
  /** May throw when the node's address is not known. */
  readonly node: (id: string) => ChunkNodeApi
  /** The chunk store in this process, if there is one. */
  readonly localNode: string | undefined
  /** Writes small chunks to several nodes of this machine at once, where there are such. */
  readonly together: () => TogetherPut | undefined
  readonly hasher: Hasher
  readonly health: NodeHealth
  readonly enqueue: Enqueue
  readonly clock: Clock
  readonly counts: ChunkCounts
  readonly log: Log
  /** How long one node may take before the next is tried as well; doubles with each round. */
  readonly attemptMs: number
  /** Of calls that do not say. */
  readonly deadlineMs: number
}

export const RETRY_MIN_MS = 20
export const RETRY_MAX_MS = 1000

/** How long to wait before round `round` (from 0), not beyond the deadline. */
export function retryMs(round: number, leftMs: number): number {
  return Math.max(0, Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** round, leftMs))
}
