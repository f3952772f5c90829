/** What Linux says of a file that does not give back what was written to it, while others on its disk may well do so. */
import { codeOf } from '../../base/errors.js'

/**
 * A sector: EIO, past the page cache ENODATA. One that dm-integrity finds to be another: EILSEQ. The file system's own notes of a file, which do not
 * match their checksum, or cannot be: EBADMSG, EUCLEAN. What others have put in its place, or taken away from this user: EISDIR, EACCES.
 */
const CODES = new Set(['EIO', 'ENODATA', 'EILSEQ', 'EBADMSG', 'EUCLEAN', 'EISDIR', 'EACCES'])

export function isUnreadable(error: unknown): boolean {
  return CODES.has(codeOf(error))
}
