/** `mount -o remount`: what the kernel can change of a mount that is there. The process that serves it is not told. */
import { RingfsError, messageOf } from '../base/errors.js'
import { loadAddon } from './kernel/addon.js'
import { MS, mountFlags } from './kernel/attach.js'
import type { MountOptionSet } from './mount-options.js'
import { FS_TYPE, mountOn, type MountEntry } from './mounts.js'

/**
 * ro and rw, nosuid, nodev and noexec. mount(8) hands the other options of now over with the new ones.
 * Errors: RingfsError NOT_RUNNING, MOUNT_FAILED.
 */
export async function remount(mountpoint: string, options: MountOptionSet): Promise<void> {
  const mount = await mountOn(mountpoint)
  if (mount?.fsType !== FS_TYPE) throw new RingfsError('NOT_RUNNING', `no ringfs is mounted on ${mountpoint}`)
  if (atimeOf(mount) !== options.atime) {
    throw new RingfsError('MOUNT_FAILED', `${options.atime} cannot be set by a remount: unmount and mount anew`)
  }
  try {
    const flags = MS.remount | mountFlags(options.extra, options.readOnly)
    loadAddon().mount(mount.source, mountpoint, FS_TYPE, flags, '')
  } catch (error) {
    throw new RingfsError('MOUNT_FAILED', `${mountpoint} cannot be remounted: ${messageOf(error)}`, { cause: error })
  }
}

function atimeOf({ options }: MountEntry): MountOptionSet['atime'] {
  if (options.includes('noatime')) return 'noatime'
  return options.includes('relatime') ? 'relatime' : 'strictatime'
}
