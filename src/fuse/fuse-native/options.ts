/** The -o options of libfuse 2.9 (fuse(8), `fusermount --help`) that make it behave as ringfs needs. */
import { KIB } from '../../base/limits.js'
import { RingfsError } from '../../base/errors.js'
import type { MountOptions } from '../driver.js'
import { FS_SUBTYPE } from '../mounts.js'

/** Most that libfuse 2 takes in one request: 32 pages. */
export const REQUEST_MAX_BYTES = 128 * KIB
/** fuse-native.c copies the options and the mount point into arrays of this length and cuts the rest off silently. */
const ARGUMENT_MAX_BYTES = 1024

/** Flags of the kernel that libfuse 2.9 does not know. What they ask for is done by the VFS. */
const UNKNOWN_FLAGS: ReadonlySet<string> = new Set(['relatime', 'strictatime', 'nodiratime'])

/**
 * Why these:
 * - big_writes, max_write, max_read: without big_writes every write comes in pieces of 4 KiB.
 * - default_permissions: the kernel checks the rights; the VFS relies on it.
 * - use_ino: st_ino is the inode's number, not one made up for each path: hard links are recognised by it.
 * - attr_timeout, entry_timeout, negative_timeout 0: the library cannot be told what other clients changed, so nothing
 *   may be kept. Without kernel_cache and auto_cache the kernel also drops a file's pages at each open: auto_cache would
 *   keep them when size and time are the same, and its times are milliseconds, in which two writes find room.
 * - atomic_o_trunc: O_TRUNC comes with the open, not as a truncation before it.
 * - hard_remove is left out on purpose: see hidden.ts.
 * What comes later wins, so that `extra` can change each of them.
 */
export function fuseOptions(options: MountOptions): string {
  const list = [
    `fsname=${escape(options.fsName)}`,
    `subtype=${FS_SUBTYPE}`,
    'big_writes',
    `max_write=${REQUEST_MAX_BYTES}`,
    `max_read=${REQUEST_MAX_BYTES}`,
    'default_permissions',
    'use_ino',
    'attr_timeout=0',
    'entry_timeout=0',
    'negative_timeout=0',
    'atomic_o_trunc',
    ...(options.readOnly ? ['ro'] : []),
    // Files that others make belong to whoever mounts: with suid bits they would run as him.
    ...(options.allowOther ? ['allow_other', 'nosuid'] : []),
    ...options.extra.filter((option) => !UNKNOWN_FLAGS.has(option)),
  ]
  const text = `-o${list.join(',')}`
  checkLength('mount options', text)
  checkLength('mount point', options.mountpoint)
  return text
}

/** fuse_opt.h: a comma or a backslash in a value is written with a backslash before it. */
function escape(value: string): string {
  return value.replace(/[\\,]/g, '\\$&')
}

function checkLength(what: string, value: string): void {
  if (Buffer.byteLength(value) < ARGUMENT_MAX_BYTES) return
  throw new RingfsError('MOUNT_FAILED', `${what} too long for fuse-native: at most ${ARGUMENT_MAX_BYTES - 1} bytes`)
}
