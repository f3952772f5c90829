/** What the options of a mount mean to the parts that it is made of. */
import { RingfsError } from '../base/errors.js'
import type { VolumeSettings } from '../cluster/contract.js'
import type { FuseDriver, MountOptions } from '../fuse/driver.js'
import type { MountOptionSet } from '../fuse/mount-options.js'
import { DEFAULT_LIMITS, type VfsLimits } from '../vfs/limits.js'
import type { FilesOptions } from './volume.js'

/** Errors: RingfsError USAGE, for sizes that do not fit the volume. */
export function filesOptions(settings: VolumeSettings, options: MountOptionSet): FilesOptions {
  const { durability, readOnly, durableChanges, atime, dirAtime, sessionTtlMs } = options
  const times = { atime, nodiratime: !dirAtime }
  return {
    durability,
    readOnly,
    durableChanges,
    sessionTtlMs,
    ...times,
    limits: limitsOf(options, settings.chunkBytes),
  }
}

/** A writer may fill half of the buffer, and a chunk is uploaded while the next one is filled. */
const BUFFER_MIN_CHUNKS = 4

/** Errors: RingfsError USAGE. */
function limitsOf(options: MountOptionSet, chunkBytes: number): Partial<VfsLimits> {
  const { readCacheBytes, writeBufferBytes, readAheadBytes, packAfterMs, spillAfterMs } = options
  const least = BUFFER_MIN_CHUNKS * chunkBytes
  if (writeBufferBytes !== undefined && writeBufferBytes < least) {
    throw new RingfsError('USAGE', `write-buffer=${writeBufferBytes}: this volume needs ${least} bytes or more`)
  }
  return {
    ...(readCacheBytes === undefined ? {} : { dataCacheBytes: readCacheBytes }),
    ...(readAheadBytes === undefined ? {} : { readAheadBytes }),
    ...(packAfterMs === undefined ? {} : { packRestMs: packAfterMs }),
    ...(spillAfterMs === undefined ? {} : { spillRestMs: spillAfterMs }),
    ...(writeBufferBytes === undefined ? {} : bufferLimits(writeBufferBytes)),
  }
}

function bufferLimits(dirtyBytes: number): Pick<VfsLimits, 'dirtyBytes' | 'dirtyInodeBytes'> {
  return { dirtyBytes, dirtyInodeBytes: Math.min(DEFAULT_LIMITS.dirtyInodeBytes, Math.floor(dirtyBytes / 2)) }
}

/**
 * root mounts for everybody, as with any other file system: the kernel checks the rights. Not so with fuse-native, which
 * does not know who calls and would give files of others to root.
 */
export function driverOptions(
  settings: VolumeSettings,
  mountpoint: string,
  driver: FuseDriver,
  options: MountOptionSet,
): MountOptions {
  const { fsName, readOnly, allowOther, extra, stayAwake } = options
  return {
    mountpoint,
    fsName: fsName ?? `ringfs:${settings.name}`,
    readOnly,
    allowOther: allowOther ?? (process.geteuid?.() === 0 && driver.name === 'kernel'),
    extra,
    ...(stayAwake === undefined ? {} : { stayAwake }),
  }
}
