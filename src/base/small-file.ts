/**
 * Files that are small by their nature, which another process, a disk or a person may have changed into anything: no more memory is taken
 * than a good one could need, and a pipe in its place is not waited for.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { RingfsError } from './errors.js'
import { MIB } from './limits.js'

const SMALL_FILE_MAX_BYTES = MIB

/** Errors: RingfsError USAGE for one that is too long; what the system says (ENOENT, …). */
export function readSmallFile(file: string): string {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const parts: Buffer[] = []
    for (let length = 0; ;) {
      const part = Buffer.allocUnsafe(16_384)
      const got = readSync(fd, part)
      if (got === 0) return Buffer.concat(parts, length).toString()
      if ((length += got) > SMALL_FILE_MAX_BYTES) throw new RingfsError('USAGE', `${file} is too long to be of ringfs`)
      parts.push(part.subarray(0, got))
    }
  } finally {
    closeSync(fd)
  }
}
