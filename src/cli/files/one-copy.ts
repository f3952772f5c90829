/**
 * One process of this machine at a time copies to a temporary file: of two that go on with the same one each would cut away what the other
 * has written, and the first of them give it its name like that.
 */
import { createHash } from 'node:crypto'
import { lockName, type FolderLock } from '../../base/folder-lock.js'

const NAME_DIGITS = 32

/** `temporary`: what it, and all that the copying removes, is told from all others by; `copied`: the file that comes of it. Errors: ALREADY_RUNNING. */
export async function lockCopy(temporary: readonly (string | number)[], copied: string): Promise<FolderLock> {
  const name = createHash('sha256').update(temporary.join('\0')).digest('hex').slice(0, NAME_DIGITS)
  return await lockName(`copy-${name}`, (holder) => `${copied} is being copied by ${holder} already`)
}
