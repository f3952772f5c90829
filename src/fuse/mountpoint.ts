/** What is checked of a mount point before anything is mounted on it, the same for every driver. */
import { lstat, opendir, readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { runCommand } from './command.js'
import { alone } from './mountpoint-lock.js'
import { FS_TYPE, type MountEntry, mountOn } from './mounts.js'
import { unmountPath } from './unmount.js'

const PROBE_TIMEOUT_MS = 5_000
/** Symbolic links followed (as the kernel's ELOOP limit, path_resolution(7)) and dead mounts taken off, at most. */
const STEPS_MAX = 40

/**
 * Makes sure that a folder can be mounted on and answers its real path. A mount of ringfs on it whose process was
 * killed is taken off first; any other mount is left alone.
 * Errors: RingfsError MOUNTPOINT_BAD (missing, not a folder, not empty), MOUNTPOINT_BUSY (already mounted).
 */
export function prepareMountpoint(path: string, log: Log): Promise<string> {
  return mountAlone(path, log, (real) => Promise.resolve(real))
}

/**
 * The same, and runs `mount` with the real path before any other process looks at the folder: what is on top of it behind that is what was
 * mounted. What a `mount` that fails has left there dead is taken off. Errors: as above, and those of `mount`.
 */
export async function mountAlone<T>(path: string, log: Log, mount: (mountpoint: string) => Promise<T>): Promise<T> {
  const real = await resolveMountpoint(path)
  return await alone(real, async () => {
    await makeFree(path, real, log)
    try {
      return await mount(real)
    } catch (error) {
      await takeOff(real, log).catch(() => undefined)
      throw error
    }
  })
}

async function makeFree(path: string, real: string, log: Log): Promise<void> {
  for (let step = 0; step < STEPS_MAX; step++) {
    const mounted = await mountOn(real)
    if (mounted === undefined) {
      await checkEmptyFolder(real)
      return
    }
    await takeOffDead(mounted, log)
  }
  throw new RingfsError('MOUNTPOINT_BUSY', `${path} carries too many dead mounts: umount -l ${path}`)
}

/**
 * The real path of a folder to mount on, found without touching what is mounted there: a dead mount answers ENOTCONN to
 * everything, and one whose process hangs does not answer at all.
 */
export function resolveMountpoint(path: string): Promise<string> {
  return realPath(path, (real) => `make it with mkdir -p ${real}`)
}

/** As resolveMountpoint, of a folder on which something should be mounted. */
export function resolveMounted(path: string): Promise<string> {
  return realPath(path, () => 'ringfs status shows the mounts of a volume')
}

/** `advice`: for a path that is not there. */
async function realPath(path: string, advice: (real: string) => string): Promise<string> {
  let next = resolve(path)
  for (let step = 0; step < STEPS_MAX; step++) {
    const real = join(await realParent(next), basename(next))
    if ((await mountOn(real)) !== undefined) return real
    const target = await linkTarget(real, advice)
    if (target === undefined) return real
    next = resolve(dirname(real), target)
  }
  throw new RingfsError('MOUNTPOINT_BAD', `${path}: too many levels of symbolic links`)
}

async function realParent(path: string): Promise<string> {
  try {
    return await realpath(dirname(path))
  } catch (error) {
    throw new RingfsError('MOUNTPOINT_BAD', `mount point ${path} cannot be reached: ${messageOf(error)}`)
  }
}

async function linkTarget(path: string, advice: (path: string) => string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined
  } catch (error) {
    if (!isMissing(error)) throw new RingfsError('MOUNTPOINT_BAD', `mount point ${path}: ${messageOf(error)}`)
    throw new RingfsError('MOUNTPOINT_BAD', `mount point ${path} does not exist: ${advice(path)}`)
  }
}

async function checkEmptyFolder(path: string): Promise<void> {
  if (!(await lstat(path)).isDirectory()) throw new RingfsError('MOUNTPOINT_BAD', `mount point ${path} is not a folder`)
  const folder = await opendir(path)
  const first = await folder.read()
  await folder.close()
  if (first === null) return
  throw new RingfsError('MOUNTPOINT_BAD', `mount point ${path} is not empty (${first.name}): mount on an empty folder`)
}

/** Takes off what a killed process left on that path. Answers whether there was one; leaves a living mount alone. */
export async function takeOffIfDead(mountpoint: string, log: Log): Promise<boolean> {
  if ((await mountOn(mountpoint))?.fsType !== FS_TYPE) return false
  return await alone(mountpoint, () => takeOff(mountpoint, log))
}

async function takeOff(mountpoint: string, log: Log): Promise<boolean> {
  const mount = await mountOn(mountpoint)
  if (mount?.fsType !== FS_TYPE || (await probe(mountpoint)) !== 'dead') return false
  await takeOffDead(mount, log)
  return true
}

async function takeOffDead(mount: MountEntry, log: Log): Promise<void> {
  const { mountpoint, fsType, source } = mount
  const state = await probe(mountpoint)
  if (state === 'alive') {
    throw new RingfsError(
      'MOUNTPOINT_BUSY',
      `${mountpoint} is already mounted (${source}, ${fsType}): unmount it first`,
    )
  }
  if (state === 'silent') {
    throw new RingfsError('MOUNTPOINT_BUSY', `${mountpoint} is mounted (${source}, ${fsType}) and does not answer`)
  }
  if (fsType !== FS_TYPE) {
    throw new RingfsError('MOUNTPOINT_BUSY', `a dead mount of ${fsType} is on ${mountpoint}: umount -l ${mountpoint}`)
  }
  log.warn({ mountpoint, source }, 'taking off a mount whose process was killed')
  await unmountPath(mountpoint, true)
}

/** `dead`: no process serves it any more (ENOTCONN). `silent`: there is one that does not answer. */
async function probe(mountpoint: string): Promise<'alive' | 'dead' | 'silent'> {
  const result = await runCommand('stat', ['--', mountpoint], PROBE_TIMEOUT_MS)
  if (result.timedOut) return 'silent'
  return /not connected/i.test(result.output) ? 'dead' : 'alive'
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}
