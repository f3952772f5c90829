/** The folder that the bench works in: made in the folder that is measured, and removed whatever happens. */
import { mkdtemp, realpath, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RingfsError, messageOf } from '../../base/errors.js'
import { runCommand } from '../../fuse/command.js'
import { readMounts } from '../../fuse/mounts.js'
import { failureText, systemError } from '../failures.js'
import { humanBytes } from '../units.js'

/** A call that does not come back within this time hangs. */
export const HANG_MS = 10_000
const PREFIX = 'ringfs-bench-'
const DROP_CACHES = '/proc/sys/vm/drop_caches'
/** proc_sys_vm(5): pages, names and attributes. */
const DROP_ALL = '3'
const SYNC_TIMEOUT_MS = 120_000

export interface Place {
  /** What was asked to be measured, by its real path. */
  readonly measured: string
  /** `ext4`, `fuse.ringfs`, … */
  readonly fsType: string
  /** Of the bench alone. */
  readonly folder: string
}

/** Errors: RingfsError USAGE, saying what is wrong with the folder. */
export async function makePlace(path: string, neededBytes: number, neededFiles: number): Promise<Place> {
  const measured = await folderAt(path)
  const { bavail, bsize, files, ffree } = await statfs(measured)
  const freeBytes = bavail * bsize
  if (freeBytes < neededBytes) {
    const space = `${humanBytes(freeBytes)} are free there, ${humanBytes(neededBytes)} are needed`
    throw new RingfsError('USAGE', `too little space on ${path} (${space}): give a smaller --size or fewer --files`)
  }
  // Some file systems do not say how many files there may be.
  if (files > 0 && ffree < neededFiles) {
    throw new RingfsError('USAGE', `${path} has room for ${ffree} more files: give fewer --files`)
  }
  try {
    return { measured, fsType: await fsTypeOf(measured), folder: await mkdtemp(join(measured, PREFIX)) }
  } catch (error) {
    throw new RingfsError('USAGE', `nothing can be made in ${path}: ${because(error)}`, { cause: error })
  }
}

async function folderAt(path: string): Promise<string> {
  try {
    const real = await realpath(path)
    if ((await stat(real)).isDirectory()) return real
  } catch (error) {
    throw new RingfsError('USAGE', `${path} cannot be reached: ${failureText(systemError(error) ?? error)}`, {
      cause: error,
    })
  }
  throw new RingfsError('USAGE', `${path} is not a folder`)
}

function because(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'EROFS') return 'it is read-only'
  if (code === 'EACCES' || code === 'EPERM') return 'you have no right to'
  return messageOf(error)
}

/** The mount that a path lies on is the one with the longest path of those above it; the last one of several there. */
async function fsTypeOf(path: string): Promise<string> {
  const above = (await readMounts()).filter(
    ({ mountpoint }) => mountpoint === '/' || path === mountpoint || path.startsWith(`${mountpoint}/`),
  )
  const nearest = Math.max(0, ...above.map(({ mountpoint }) => mountpoint.length))
  return above.findLast(({ mountpoint }) => mountpoint.length === nearest)?.fsType ?? 'unknown'
}

/** Errors: RingfsError DEADLINE when the file system does not answer meanwhile. */
export async function removePlace({ folder }: Place): Promise<void> {
  let isOver = false
  const removing = rm(folder, { recursive: true, force: true, maxRetries: 3, retryDelay: 20 }).finally(
    () => (isOver = true),
  )
  await Promise.race([removing, whileItAnswers(folder, () => isOver)])
}

/** Many files may take long: only what does not even tell of itself (which no kernel caches) hangs. */
async function whileItAnswers(folder: string, isOver: () => boolean): Promise<void> {
  for (;;) {
    await sleep(HANG_MS, undefined, { ref: false })
    if (isOver()) return
    const { timedOut } = await runCommand('stat', ['--file-system', folder], HANG_MS)
    if (timedOut && !isOver()) throw hanging(folder)
  }
}

export function hanging(folder: string): RingfsError {
  return new RingfsError('DEADLINE', `a call on ${folder} does not come back, so it is left there`)
}

/**
 * Makes the kernel forget everything that it caches, of this machine. Answers why that cannot be, or undefined. What is written
 * first goes to its disk, for only what is there can be forgotten.
 */
export async function dropCaches({ folder }: Place): Promise<string | undefined> {
  await runCommand('sync', ['--file-system', folder], SYNC_TIMEOUT_MS)
  try {
    await writeFile(DROP_CACHES, DROP_ALL)
    return undefined
  } catch {
    return 'dropping the caches of the kernel needs root'
  }
}
