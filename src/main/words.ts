/** The arguments of this process. */
import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { RingfsError } from '../base/errors.js'

/** What Node puts in the place of bytes that are no UTF-8; it may also stand in a name. */
const REPLACEMENT = '\uFFFD'

/** Errors: RingfsError USAGE for words that were not UTF-8 when this process was started: they would mean another file than was named. */
export function checkWords(words: readonly string[]): void {
  const word = words.find((one) => one.includes(REPLACEMENT))
  if (word === undefined || wereUtf8()) return
  throw new RingfsError('USAGE', `${word} is not UTF-8: only programs on a mount take such names`)
}

function wereUtf8(): boolean {
  try {
    return isUtf8(readFileSync('/proc/self/cmdline'))
  } catch {
    return true
  }
}
