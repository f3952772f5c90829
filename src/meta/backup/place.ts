/** A file that is whole, and on disk, under a name of its own gets the one that it is for. */
import { link, lstat, rename, rm } from 'node:fs/promises'
import { RingfsError, codeOf } from '../../base/errors.js'

/** Of filesystems that know no second name for a file. */
const NO_LINKS: readonly string[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']

/** Which file is there. */
async function idOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await lstat(path, { bigint: true })
    return `${dev} ${ino}`
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/**
 * `replaces`: whatever is called so; otherwise nothing is replaced, also if it came just now (where the filesystem has links, however close).
 * Errors: USAGE, those of the disk; then `temporary` is still there.
 */
export async function place(temporary: string, file: string, replaces: boolean, linkFile = link): Promise<void> {
  if (replaces || !(await isLinked(temporary, file, linkFile))) return await rename(temporary, file)
  // It has its name: a second one does no harm.
  await rm(temporary, { force: true }).catch(() => undefined)
}

/** false: it cannot be, and nothing is there. */
async function isLinked(temporary: string, file: string, linkFile: typeof link): Promise<boolean> {
  try {
    await linkFile(temporary, file)
    return true
  } catch (error) {
    const there = await idOf(file)
    // Our own, whose answer was lost on the way (NFS).
    if (there !== undefined && there === (await idOf(temporary))) return true
    if (there !== undefined) {
      throw new RingfsError('USAGE', `${file} is there since: give another name, or --force`, { cause: error })
    }
    if (NO_LINKS.includes(codeOf(error))) return false
    throw error
  }
}
