/**
 * How a worker answers. Structured clone drops `code` and the class from an Error, so that a thrown ENOSPC would arrive as a
 * nameless failure: hence workers answer values, and the calling side throws again.
 */
import { ERRNO, PosixError, type ErrnoName } from '../base/errno.js'
import { ERROR_CODES, type ErrorCode, RingfsError, codeOf, messageOf } from '../base/errors.js'

export type Outcome<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly code: string; readonly message: string }

function isErrno(code: string): code is ErrnoName {
  return Object.hasOwn(ERRNO, code)
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code)
}

/** The two languages of failure: whatever was thrown becomes a RingfsError or a PosixError. A full quota is a full disk. */
export function toChunkError(error: unknown): RingfsError | PosixError {
  if (error instanceof RingfsError || error instanceof PosixError) return error
  return errorFrom(codeOf(error), messageOf(error), error)
}

function errorFrom(code: string, message: string, cause?: unknown): RingfsError | PosixError {
  if (isErrorCode(code)) return new RingfsError(code, message, { cause })
  if (code === 'EDQUOT') return new PosixError('ENOSPC', message, { cause })
  if (isErrno(code)) return new PosixError(code, stripCode(message, code), { cause })
  return new PosixError('EIO', message, { cause })
}

/** PosixError puts its code in front of its text by itself. */
function stripCode(message: string, code: string): string {
  const prefix = `${code}: `
  return message.startsWith(prefix) ? message.slice(prefix.length) : message
}

/** Checks the envelope only; what is in it has the type that the worker's function has. */
export function isOutcome<T>(value: unknown): value is Outcome<T> {
  return typeof value === 'object' && value !== null && 'ok' in value && typeof value.ok === 'boolean'
}

export function attempt<T>(work: () => T): Outcome<T> {
  try {
    return { ok: true, value: work() }
  } catch (error) {
    const known = toChunkError(error)
    return { ok: false, code: known.code, message: known.message }
  }
}

/** Errors: what the worker failed with, as RingfsError or PosixError. */
export function unwrap<T>(outcome: Outcome<T>): T {
  if (outcome.ok) return outcome.value
  throw errorFrom(outcome.code, outcome.message)
}
