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
import { durableAddon, type DurableAddon } from '../../base/addon.js'
import { KIB, MIB } from '../../base/limits.js'

/** ext2 to ext4, XFS, btrfs: linux/magic.h. */
const FILE_SYSTEMS = new Set([0xef53, 0x5846_5342, 0x9123_683e])
/** Before Linux 5.8 syncfs tells nobody that data could not be written, before 5.17 not that the file system's journal could not. */
const LINUX_MIN = [5, 17] as const
/** More would be open at once than others may leave. */
const FILES_MIN = 4
const FILES_MAX = 512
/** So much may be waiting to be written in all, of whomever: it takes as long as a flush of the file would. */
const DIRTY_PER_FILE_BYTES = 256 * KIB
const DIRTY_MAX_BYTES = 64 * MIB

/**
 * Of each open file whether it could be written; all others are on disk afterwards, and so are all folders of the file system. `folder`: a folder
 * in that file system.
 * null: nothing was done, each has to be flushed by itself. 'failed': something could not be written, and nothing is known. A flush of each file tells
 * of its data, but not for certain of anything else: ext4 tells that its journal was given up only to who waits for it just then.
 */
export type FlushTogether = (fds: readonly number[], folder: string) => readonly boolean[] | 'failed' | null

interface System {
  readonly addon: Pick<DurableAddon, 'flushTogether'> | null
  /** As uname(2) has it. */
  readonly linux: string
  /** What it has not written yet, of all programs. */
  readonly dirtyBytes: () => number
  readonly fileSystemOf: (folder: string) => number
}

export const flushTogether: FlushTogether = (fds, folder) =>
  flushWith({ addon: durableAddon(), linux: release(), dirtyBytes, fileSystemOf }, fds, folder)

export function flushWith(system: System, ...[fds, folder]: Parameters<FlushTogether>): ReturnType<FlushTogether> {
  const place = openKnown(system, fds.length, folder)
  if (place === null || system.addon === null) return null
  try {
    const { dev } = fstatSync(place)
    if (!fds.every((fd) => fstatSync(fd).dev === dev)) return null
    const results = new Int32Array(fds.length)
    if (system.addon.flushTogether(Int32Array.from(fds), place, results) !== 0) return 'failed'
    return Array.from(results, (errno) => errno === 0)
  } finally {
    closeSync(place)
  }
}

export function isNumberForOneFlush(files: number): boolean {
  return files >= FILES_MIN && files <= FILES_MAX
}

/** The folder. null: it is not there, or one flush is not known to do. */
function openKnown(system: System, files: number, folder: string): number | null {
  try {
    if (system.addon === null || !isNumberForOneFlush(files) || !isLinuxNew(system.linux)) return null
    if (system.dirtyBytes() > Math.min(DIRTY_MAX_BYTES, files * DIRTY_PER_FILE_BYTES)) return null
    return FILE_SYSTEMS.has(system.fileSystemOf(folder)) ? openSync(folder, 'r') : null
  } catch {
    // A service may be kept from seeing /proc/meminfo, too.
    return null
  }
}

function fileSystemOf(folder: string): number {
  // Negative where the number has its highest bit.
  return statfsSync(folder).type >>> 0
}

function isLinuxNew(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return process.platform === 'linux' && (major > LINUX_MIN[0] || (major === LINUX_MIN[0] && minor >= LINUX_MIN[1]))
}

function dirtyBytes(): number {
  const text = readFileSync('/proc/meminfo', 'latin1')
  const [dirty, writeback] = ['Dirty', 'Writeback'].map(
    (name) => new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)?.[1],
  )
  return dirty === undefined || writeback === undefined ? Infinity : (Number(dirty) + Number(writeback)) * KIB
}
