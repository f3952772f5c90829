import { PosixError } from './errno.js'

const DOUBTFUL: ReadonlySet<string> = new Set(['EIO', 'ETIMEDOUT', 'EINTR'])

/**
 * Whether a change that ended with this error may have been made all the same, or may be made later: the reply was lost, nobody
 * waited for it any more, or it was made and then not as durable as was asked. Other errors refuse it for certain.
 */
export function leavesDoubt(error: unknown): boolean {
  return !(error instanceof PosixError) || DOUBTFUL.has(error.code)
}
