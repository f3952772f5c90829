/**
 * What this process has seen of each node by itself, quicker than membership can say: how long it takes to answer, and whether
 * it failed lately. A node in trouble is asked after the others for a while; each failure in a row doubles the while.
 */
import type { Clock } from '../base/clock.js'

const TROUBLE_MIN_MS = 500
const TROUBLE_MAX_MS = 10_000
/** Weight of the newest latency in the moving average. */
const EWMA_SHARE = 0.2
/** Of a node never asked. */
const UNKNOWN_MS = 0.05

interface Seen {
  ewmaMs: number
  inFlight: number
  failures: number
  troubledUntilMs: number
}

export class NodeHealth {
  readonly #clock: Clock
  readonly #seen = new Map<string, Seen>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  succeeded(nodeId: string, latencyMs: number): void {
    const seen = this.#of(nodeId)
    seen.failures = 0
    seen.troubledUntilMs = 0
    seen.ewmaMs += seen.ewmaMs === 0 ? latencyMs : (latencyMs - seen.ewmaMs) * EWMA_SHARE
  }

  /** Did not answer, or not in time. An answer that says no is an answer. */
  failed(nodeId: string): void {
    const seen = this.#of(nodeId)
    seen.failures++
    const troubleMs = Math.min(TROUBLE_MAX_MS, TROUBLE_MIN_MS * 2 ** (seen.failures - 1))
    seen.troubledUntilMs = this.#clock.monotonicMs() + troubleMs
  }

  isTroubled(nodeId: string): boolean {
    return this.#of(nodeId).troubledUntilMs > this.#clock.monotonicMs()
  }

  /** A call to the node begins; call what it answers once, when it has ended. */
  began(nodeId: string): () => void {
    const seen = this.#of(nodeId)
    seen.inFlight++
    return () => {
      seen.inFlight--
    }
  }

  /**
   * Milliseconds that one more call would take, as far as is known: the moving average for each that is under way already.
   * So many calls at once spread over equal nodes, and a node never asked gets its chance.
   */
  expectedMs(nodeId: string): number {
    const { ewmaMs, inFlight } = this.#of(nodeId)
    return Math.max(ewmaMs, UNKNOWN_MS) * (1 + inFlight)
  }

  #of(nodeId: string): Seen {
    let seen = this.#seen.get(nodeId)
    if (seen === undefined) {
      seen = { ewmaMs: 0, inFlight: 0, failures: 0, troubledUntilMs: 0 }
      this.#seen.set(nodeId, seen)
    }
    return seen
  }
}

/** Did the node answer at all? Losing the connection or the deadline says something about it, ENOSPC does not. */
export function isNoAnswer(code: string): boolean {
  return NO_ANSWER.has(code)
}

const NO_ANSWER = new Set([
  'CONNECTION_LOST',
  'DEADLINE',
  'NODE_UNREACHABLE',
  'OVERLOADED',
  'CANCELLED',
  'ETIMEDOUT',
  'FRAME_BAD',
])
