/** How failures of the parts below become errno: what they know as POSIX results passes, the rest is EIO or nearer. */
import { RingfsError, messageOf } from '../base/errors.js'
import { PosixError } from '../base/errno.js'

export function toPosix(error: unknown): PosixError {
  if (error instanceof PosixError) return error
  if (error instanceof RingfsError && error.code === 'NODE_FULL') {
    return new PosixError('ENOSPC', error.message, { cause: error })
  }
  return new PosixError('EIO', messageOf(error), { cause: error })
}

/** Of written data: that the file is gone, with the session that had it open, is no answer to close(2) or fsync(2). */
export function toLoss(error: unknown): PosixError {
  const loss = toPosix(error)
  return loss.code === 'ENOENT' ? new PosixError('EIO', 'the file is gone', { cause: error }) : loss
}

/** Codes of failures that another attempt may not meet. Redis is asked to queue what an owner lacks: its master may be on the machine of that owner. */
const TRANSIENT: ReadonlySet<string> = new Set([
  'NO_QUORUM',
  'NODE_UNREACHABLE',
  'DEADLINE',
  'CONNECTION_LOST',
  'OVERLOADED',
  'REDIS_UNREACHABLE',
])

export function isTransient(error: unknown): boolean {
  return error instanceof RingfsError && TRANSIENT.has(error.code)
}
