/** What Linux says of a file, or a folder, that does not give back what was written to it, while others on its disk may well do so. */
import { codeOf } from '../../base/errors.js'
import { toChunkError } from '../outcome.js'

/**
 * A sector: EIO, past the page cache ENODATA. One that dm-integrity finds to be another: EILSEQ. The file system's own notes of a file, which do not
 * match their checksum, or cannot be: EBADMSG, EUCLEAN. What others have put in its place, or taken away from this user: EISDIR, EACCES.
 */
const CODES = new Set(['EIO', 'ENODATA', 'EILSEQ', 'EBADMSG', 'EUCLEAN', 'EISDIR', 'EACCES'])

export function isUnreadable(error: unknown): boolean {
  return CODES.has(codeOf(error))
}

/** Of a folder, or of what a folder says of a file: as above, whether or not libuv has a name for it, or something else is in its place. */
export function isUnlistable(error: unknown): boolean {
  const known = toChunkError(error)
  return isUnreadable(known) || known.code === 'ENOTDIR'
}
