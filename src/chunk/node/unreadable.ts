/** What Linux says where a disk does not give back what was written to it, while it may well do so elsewhere. */
import { codeOf } from '../../base/errors.js'

/**
 * A sector: EIO, past the page cache ENODATA. One that dm-integrity finds to be another: EILSEQ. The file system's own notes of a file, which do not
 * match their checksum, or cannot be: EBADMSG, EUCLEAN.
 */
const CODES = new Set(['EIO', 'ENODATA', 'EILSEQ', 'EBADMSG', 'EUCLEAN'])

export function isUnreadable(error: unknown): boolean {
  return CODES.has(codeOf(error))
}
