/** What went wrong, as one line and an exit code. docs/operations.md lists the codes. */
import { getSystemErrorMap } from 'node:util'
import { CommanderError } from 'commander'
import { ERRNO, PosixError, errnoName } from '../base/errno.js'
import { ERROR_CODES, RingfsError, messageOf } from '../base/errors.js'

export const EXIT_FAILED = 1

/** An error of Node's own file calls without what its text says of the call; undefined for any other. */
export function systemError(error: unknown): PosixError | undefined {
  if (!(error instanceof Error) || !('errno' in error) || typeof error.errno !== 'number') return undefined
  const [, text] = getSystemErrorMap().get(error.errno) ?? []
  return text === undefined ? undefined : new PosixError(errnoName(-error.errno), text, { cause: error })
}

/** Of ringfs's own and of Node's file errors; undefined for any other. */
function posixText(error: unknown): string | undefined {
  if (error instanceof PosixError) {
    const [, text = error.code] = getSystemErrorMap().get(-ERRNO[error.code]) ?? []
    return error.message === error.code ? text : error.message.replace(`${error.code}: `, '')
  }
  const known = systemError(error)
  return known?.message.replace(`${known.code}: `, '')
}

/** One line: whatever a failure of elsewhere says. */
export function failureText(error: unknown): string {
  const text = error instanceof PosixError ? (posixText(error) ?? error.code) : messageOf(error)
  return text
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .trim()
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof RingfsError) return error.exitCode
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : ERROR_CODES.USAGE
  if (posixText(error) !== undefined) return EXIT_FAILED
  return ERROR_CODES.INTERNAL
}

/** Told by commander already, by printing the help. */
export function isHelp(error: unknown): boolean {
  return error instanceof CommanderError && error.code === 'commander.help'
}
