/**
 * Many files of one file system on disk, with one flush. By themselves each file, and each folder above it, is a flush of the disk, and mostly
 * a commit of the file system's journal; syncfs(2) writes all of them at once, and with them whatever others have not written yet.
 *
 * Only where that is known to promise what fdatasync of each file and fsync of each folder does: on these file systems syncfs waits for data,
 * inodes and names, and says if it could not; and only while little else is waiting to be written.
 * What went wrong with a file is asked of the file itself, as fdatasync would have told it: somebody else's syncfs takes no error away.
 */
import { closeSync, fstatSync, openSync, readFileSync, statfsSync } from 'node:fs'
import { release } from 'node:os'
import { durableAddon } from '../../base/addon.js'
import { KIB, MIB } from '../../base/limits.js'

/** ext2 to ext4, XFS, btrfs: linux/magic.h. */
const FILE_SYSTEMS = new Set([0xef53, 0x5846_5342, 0x9123_683e])
/** Before Linux 5.8 syncfs tells of no error. */
const LINUX_MIN = [5, 8] as const
const FILES_MIN = 4
const FILES_MAX = 512
/** So much may be waiting to be written in all, of whomever: it takes as long as a flush of the file would. */
const DIRTY_PER_FILE_BYTES = 256 * KIB
const DIRTY_MAX_BYTES = 64 * MIB

/**
 * Of each open file whether it could be written; all others are on disk afterwards, and so are all folders of the file system. null: nothing is
 * known, each has to be flushed by itself. `folder`: a folder in that file system.
 */
export function flushTogether(fds: readonly number[], folder: string): readonly boolean[] | null {
  const addon = durableAddon()
  if (addon === null || !isWorthwhile(fds.length)) return null
  const place = openKnown(folder)
  if (place === null) return null
  try {
    const { dev } = fstatSync(place)
    if (!fds.every((fd) => fstatSync(fd).dev === dev)) return null
    const results = new Int32Array(fds.length)
    if (addon.flushTogether(Int32Array.from(fds), place, results) !== 0) return null
    return Array.from(results, (errno) => errno === 0)
  } finally {
    closeSync(place)
  }
}

function isWorthwhile(files: number): boolean {
  if (files < FILES_MIN || files > FILES_MAX || !isLinuxNew()) return false
  return dirtyBytes() <= Math.min(DIRTY_MAX_BYTES, files * DIRTY_PER_FILE_BYTES)
}

/** null: it is not there, or its file system is none of these. */
function openKnown(folder: string): number | null {
  try {
    // Negative where the number has its highest bit.
    return FILE_SYSTEMS.has(statfsSync(folder).type >>> 0) ? openSync(folder, 'r') : null
  } catch {
    return null
  }
}

function isLinuxNew(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return process.platform === 'linux' && (major > LINUX_MIN[0] || (major === LINUX_MIN[0] && minor >= LINUX_MIN[1]))
}

/** What the system has not written yet, of all programs. */
function dirtyBytes(): number {
  const text = readFileSync('/proc/meminfo', 'latin1')
  const [dirty, writeback] = ['Dirty', 'Writeback'].map(
    (name) => new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)?.[1],
  )
  return dirty === undefined || writeback === undefined ? Infinity : (Number(dirty) + Number(writeback)) * KIB
}
