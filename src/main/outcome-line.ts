/**
 * One line of JSON by which a process that was started in the background tells its starter how the start went: what it
 * has to say, or the failure with its code, so that the starter ends with the same message and exit code.
 */
import { z } from 'zod'
import { ERROR_CODES, RingfsError, messageOf, type ErrorCode } from '../base/errors.js'

const failureSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) })

export function successLine(value: object): string {
  return `${JSON.stringify({ ok: value })}\n`
}

export function failureLine(error: unknown): string {
  const code: ErrorCode = error instanceof RingfsError ? error.code : 'INTERNAL'
  return `${JSON.stringify({ error: { code, message: messageOf(error) } })}\n`
}

function isErrorCode(code: string): code is ErrorCode {
  return code in ERROR_CODES
}

/** Throws the failure that the line tells. */
export function parseOutcome<T>(line: string, schema: z.ZodType<T>): T {
  const value: unknown = JSON.parse(line)
  const failure = failureSchema.safeParse(value)
  if (failure.success) {
    const { code, message } = failure.data.error
    throw new RingfsError(isErrorCode(code) ? code : 'INTERNAL', message)
  }
  return z.object({ ok: schema }).parse(value).ok
}
