/**
 * One line of JSON by which a process that was started in the background tells its starter how the start went: what it
 * has to say, or the failure with its code, so that the starter ends with the same message and exit code.
 */
import type { Readable } from 'node:stream'
import * as z from 'zod'
import { ERROR_CODES, RingfsError, messageOf, type ErrorCode } from '../base/errors.js'

/** More than any of our processes says. */
const LINE_MAX = 65_536
const SHOWN_MAX = 200

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

/** Throws the failure that the line tells. Errors: INTERNAL, too, for a line that says neither. */
export function parseOutcome<T>(line: string, schema: z.ZodType<T>): T {
  const value = parseLine(line)
  const failure = failureSchema.safeParse(value)
  if (failure.success) {
    const { code, message } = failure.data.error
    throw new RingfsError(isErrorCode(code) ? code : 'INTERNAL', message)
  }
  const success = z.object({ ok: schema }).safeParse(value)
  if (success.success) return success.data.ok
  throw new RingfsError(
    'INTERNAL',
    `the process said '${line.slice(0, SHOWN_MAX)}' instead of how its start went: see its log`,
  )
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/**
 * The first line that a process says, without its end; undefined when it says none. What follows is read and dropped, so that nobody waits
 * for a full pipe. Of a line that is too long the beginning is given.
 */
export function firstLine(from: Readable): Promise<string | undefined> {
  return new Promise((resolve) => {
    let said = ''
    const end = (): void => resolve(said === '' ? undefined : said)
    from.setEncoding('utf8').on('data', (part: string) => {
      if (said.length > LINE_MAX || said.includes('\n')) return
      said += part
      const at = said.indexOf('\n')
      if (at >= 0) resolve(said.slice(0, at))
      else if (said.length > LINE_MAX) resolve(said)
    })
    from.once('end', end).once('close', end).once('error', end)
  })
}
