/**
 * One process at a time for a mount point. Two that look at a folder at the same moment both find it free, or with the same dead mount on
 * it: the second would cover what the first mounts, take that for its own, or take it off. Held while a mount comes or a dead one goes.
 */
import { createHash } from 'node:crypto'
import { basename, dirname } from 'node:path'
import { systemClock } from '../base/clock.js'
import { RingfsError, hasCode, messageOf } from '../base/errors.js'
import { lockFolder, type FolderLock } from '../base/folder-lock.js'

/** Taking off a dead mount takes a moment. */
const WAIT_MS = 30_000
const POLL_MS = 20

/** `mountpoint`: real path. Never inside itself. Errors: RingfsError MOUNTPOINT_BUSY when others do not come to an end; those of `work`. */
export async function alone<T>(mountpoint: string, work: () => Promise<T>): Promise<T> {
  const lock = await takeLock(mountpoint)
  try {
    return await work()
  } finally {
    // It is free at once; who asked for its holder may keep his connection.
    void lock.release()
  }
}

/** Of the folder above: this one may carry a dead mount, and is another inode by what is mounted on it. */
async function takeLock(mountpoint: string): Promise<FolderLock> {
  const name = createHash('sha256').update(basename(mountpoint)).digest('hex').slice(0, 16)
  const deadlineMs = systemClock.monotonicMs() + WAIT_MS
  for (;;) {
    try {
      return await lockFolder(dirname(mountpoint), `mount-${name}`)
    } catch (error) {
      if (!hasCode(error, 'ALREADY_RUNNING')) throw error
      if (systemClock.monotonicMs() > deadlineMs) {
        const message = `another process is about to mount on ${mountpoint}, or to unmount it: ${messageOf(error)}`
        throw new RingfsError('MOUNTPOINT_BUSY', message, { cause: error })
      }
    }
    await systemClock.sleep(POLL_MS)
  }
}
