/**
 * How far the kernel reads ahead on this mount. INIT can only lower its 128 KiB; root may raise them in sysfs
 * (Documentation/ABI/testing/sysfs-class-bdi).
 */
import { writeFile } from 'node:fs/promises'
import { messageOf } from '../../base/errors.js'
import { KIB, MIB } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import { mountOn } from '../mounts.js'

const READ_AHEAD_BYTES = 4 * MIB

/** Without the right to do it the mount is as it was. Call it after INIT is answered, which sets the value. */
export async function raiseReadAhead(mountpoint: string, log: Log): Promise<void> {
  try {
    const mount = await mountOn(mountpoint)
    if (mount === undefined) return
    await writeFile(`/sys/class/bdi/${mount.device}/read_ahead_kb`, String(READ_AHEAD_BYTES / KIB))
  } catch (error) {
    log.debug({ mountpoint, error: messageOf(error) }, 'the read-ahead of the kernel stays as it is')
  }
}
