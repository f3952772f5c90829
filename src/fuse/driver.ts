/** What a FUSE driver is to the rest: it mounts a VFS and answers the kernel until it is unmounted. */
import type { Log } from '../base/log.js'
import type { Metrics } from '../base/metrics.js'
import type { VfsContract } from '../vfs/contract.js'

export type DriverName = 'kernel' | 'fuse-native'
/** Whether processors are kept from going to sleep between calls (kernel/stay-awake.ts). `auto`: where that is worth it. */
export type StayAwakeMode = 'auto' | 'on' | 'off'

export interface MountOptions {
  readonly mountpoint: string
  /** Shown as the source in `mount` and `df`. */
  readonly fsName: string
  readonly readOnly: boolean
  readonly allowOther: boolean
  /** Further -o options in the usual form, passed through. */
  readonly extra: readonly string[]
  /** Default `auto`. */
  readonly stayAwake?: StayAwakeMode
  /** Where requests are counted. */
  readonly metrics?: Metrics
}

export interface Mounted {
  /** As MountEntry has it. undefined: it was over at once. */
  readonly device: string | undefined
  /** Settles when the file system is unmounted, by us or by anyone (`umount`, `fusermount -u`). */
  readonly ended: Promise<void>
  /** Flushes and unmounts. With `lazy`, also while busy. Errors: RingfsError MOUNTPOINT_BUSY. */
  unmount(lazy: boolean): Promise<void>
}

export interface FuseDriver {
  readonly name: DriverName
  /** Errors: RingfsError DRIVER_MISSING, MOUNTPOINT_BAD, MOUNTPOINT_BUSY, MOUNT_FAILED, each saying what to do. */
  mount(vfs: VfsContract, options: MountOptions, log: Log): Promise<Mounted>
}
