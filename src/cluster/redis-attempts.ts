/** What the attempts of one call to Redis failed with, and what is told of that: redis.ts. */
import { RingfsError, messageOf } from '../base/errors.js'
import { LinkLostError, isAbsent, type Verdict } from './redis-errors.js'
import { resolveAddress } from './redis-topology.js'

/** A redirection with the address of whom it came from, where it names none. */
export function resolved(verdict: Verdict, asked: string): Verdict {
  if (verdict.kind !== 'moved' && verdict.kind !== 'ask') return verdict
  const [one = asked] = asked.split(',')
  return { ...verdict, address: resolveAddress(verdict.address, one) }
}

export function doubtful(address: string, what: string, cause: unknown): RingfsError {
  const message =
    `Redis at ${address} gave no reply to ${what} and refused to repeat it (${messageOf(cause)}): ` +
    'whether it was carried out is not known'
  return new RingfsError('REDIS_UNREACHABLE', message, { cause })
}

/** The deadline ended an attempt. What an earlier attempt met tells more. */
export class LateError extends LinkLostError {}

export function telling(failure: unknown, earlier: unknown): unknown {
  return failure instanceof LateError ? (earlier ?? failure) : failure
}

/** Somebody listens. What the deadline cut off at once says nothing. */
export function isSilence(error: unknown, tookMs: number, connectTimeoutMs: number): boolean {
  return error instanceof LateError ? tookMs > connectTimeoutMs / 2 : !isAbsent(error)
}
