/** The folder for files that have no name of their own any more. */
import { isErrno } from '../base/errno.js'
import { ROOT_INO } from '../base/limits.js'
import type { Attr, MetaStore } from '../meta/contract.js'

const NAMES_MAX = 1000

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

/**
 * `put` under `base`, or `base.1`, …: the first name that is free, or whose inode `isIt`, which is answered then. Errors: those of `put` but
 * EEXIST.
 */
export async function putUnder<T>(
  meta: MetaStore,
  folder: number,
  base: string,
  put: (name: Buffer) => Promise<T>,
  isIt: (attr: Attr) => T | null,
): Promise<{ readonly name: string; readonly made: T }> {
  for (let number = 0; number < NAMES_MAX; number++) {
    const name = number === 0 ? base : `${base}.${number}`
    try {
      return { name, made: await put(Buffer.from(name)) }
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      const made = isIt(await meta.lookup(folder, Buffer.from(name)))
      if (made !== null) return { name, made }
    }
  }
  throw new Error(`there are ${NAMES_MAX} files called ${base} in lost+found`)
}
