/**
 * Names between ringfs (bytes) and fuse-native (JavaScript strings).
 *
 * fuse-native decodes what the kernel gives it as UTF-8, and puts U+FFFD in the place of what is not. The bytes are gone
 * then, so every name with U+FFFD is refused with EILSEQ, also the rare one that really has this character.
 * Listings show a name that is not UTF-8 with U+FFFD in it, rather than leave it out: a backup then fails loudly on it
 * and does not skip it silently.
 */
import { PosixError } from '../../base/errno.js'
import { NAME_MAX_BYTES } from '../../base/limits.js'

const REPLACEMENT = '\ufffd'

/** Errors: PosixError EILSEQ. */
export function encode(text: string): Buffer {
  if (text.includes(REPLACEMENT)) throw new PosixError('EILSEQ', 'not UTF-8')
  return Buffer.from(text)
}

/** Errors: PosixError EILSEQ. */
export function decode(bytes: Buffer): string {
  const text = bytes.toString()
  if (text.includes(REPLACEMENT)) throw new PosixError('EILSEQ', 'not UTF-8')
  return text
}

/** For listings only: see above. */
export function decodeLossy(bytes: Buffer): string {
  return bytes.toString()
}

/** One name of a path. The kernel lets up to 1,024 bytes through. Errors: PosixError EILSEQ, ENAMETOOLONG. */
export function encodeName(name: string): Buffer {
  const bytes = encode(name)
  if (bytes.length > NAME_MAX_BYTES) throw new PosixError('ENAMETOOLONG')
  return bytes
}
