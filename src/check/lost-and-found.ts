/** The folder for files that have no name of their own any more. */
import { isErrno } from '../base/errno.js'
import { ROOT_INO } from '../base/limits.js'
import type { MetaStore } from '../meta/contract.js'

export const LOST_AND_FOUND = Buffer.from('lost+found')

/** Made if it is not there. */
export async function lostAndFound(meta: MetaStore): Promise<number> {
  try {
    return (await meta.mkdir(ROOT_INO, LOST_AND_FOUND, 0o700, 0, 0)).ino
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
    return (await meta.lookup(ROOT_INO, LOST_AND_FOUND)).ino
  }
}
