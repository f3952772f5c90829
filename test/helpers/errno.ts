import { PosixError } from '../../src/base/errno.js'

/** `ok`, or the name of the PosixError. Any other error is thrown on. */
export async function outcomeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'ok'
  } catch (error) {
    if (error instanceof PosixError) return error.code
    throw error
  }
}
