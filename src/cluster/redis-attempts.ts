/** The attempts of one call to Redis: how long they may take, what they failed with, and what is told of that (redis-router.ts). */
import type { Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import { LinkLostError, classify, isAbsent, type Verdict } from './redis-errors.js'
import { resolveAddress } from './redis-topology.js'

const BACKOFF_FIRST_MS = 5
const BACKOFF_MAX_MS = 500

/** Deadlines are on the monotonic clock. */
export class Attempts {
  readonly #clock: Clock
  readonly #random: () => number
  readonly #replyTimeoutMs: number

  /** `random`: 0 to 1. `replyTimeoutMs`: after so long without an answer a link ends by itself. */
  constructor(clock: Clock, random: () => number, replyTimeoutMs: number) {
    this.#clock = clock
    this.#random = random
    this.#replyTimeoutMs = replyTimeoutMs
  }

  /** Sleeps with backoff and jitter; false when the deadline would pass meanwhile. */
  async pause(attempt: number, deadline: number): Promise<boolean> {
    const longestMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 16))
    const leftMs = deadline - this.#clock.monotonicMs()
    if (leftMs <= 0) return false
    await this.#clock.sleep(Math.min(leftMs, longestMs * (0.5 + this.#random() / 2)))
    return true
  }

  /**
   * The promise, or LinkLostError at the deadline. What is further off than the links' own timeouts needs no timer of
   * its own: so the usual call costs none.
   */
  async before<T>(deadline: number, promise: Promise<T>): Promise<T> {
    const leftMs = deadline - this.#clock.monotonicMs()
    if (leftMs > 2 * this.#replyTimeoutMs) return promise
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new LateError('no answer before the deadline')), Math.max(0, leftMs))
    })
    try {
      return await Promise.race([promise, late])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** A redirection with the address of whom it came from, where it names none. */
export function resolved(verdict: Verdict, asked: string): Verdict {
  if (verdict.kind !== 'moved' && verdict.kind !== 'ask') return verdict
  const [one = asked] = asked.split(',')
  return { ...verdict, address: resolveAddress(verdict.address, one) }
}

export function doubtful(address: string, what: string, cause: unknown): RingfsError {
  const message =
    `Redis at ${address} refused ${what} when it was sent again (${messageOf(cause)}): ` +
    'whether it was carried out before is not known'
  return new RingfsError('REDIS_UNREACHABLE', message, { cause })
}

/** The deadline ended an attempt. What an earlier attempt met tells more. */
class LateError extends LinkLostError {}

export function telling(failure: unknown, earlier: unknown): unknown {
  return failure instanceof LateError ? (earlier ?? failure) : failure
}

/** Somebody listens. What the deadline cut off at once says nothing. */
export function isSilence(error: unknown, tookMs: number, connectTimeoutMs: number): boolean {
  return error instanceof LateError ? tookMs > connectTimeoutMs / 2 : !isAbsent(error)
}

/** For people: the servers that the URL names. */
export function serversAt(seeds: readonly string[]): string {
  return `Redis at ${seeds.join(',')}`
}

export function unreachable(seeds: readonly string[], timeoutMs: number, cause: unknown): RingfsError {
  const code = classify(cause).kind === 'wait' ? 'is not ready' : 'cannot be reached'
  return new RingfsError(
    'REDIS_UNREACHABLE',
    `${serversAt(seeds)} ${code} (${messageOf(cause)}; tried for ${Math.round(timeoutMs)} ms): ` +
      'start redis-server there, or run `ringfs up`, which starts its own',
    { cause },
  )
}
