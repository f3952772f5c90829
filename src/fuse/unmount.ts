/** Unmounting through the system's programs: umount as root, fusermount for everybody else. */
import { spawn } from 'node:child_process'
import { systemClock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { atUsualPriority } from '../base/priority.js'
import { type CommandResult, runCommand } from './command.js'
import type { VfsContract } from '../vfs/contract.js'
import { alone } from './mountpoint-lock.js'
import { mountOn, mountOnNow } from './mounts.js'
import { namespacesWith } from './users.js'

const UNMOUNT_TIMEOUT_MS = 30_000
/** Closing what was left open, with what is buffered, takes a moment; who holds the mount cannot always be seen. */
const END_WAIT_MS = 15_000
const LOOK_EVERY_MS = 500

/** Before an unmount. What cannot be written must not keep a lazy one from happening: nobody would come back for it. */
export async function writeAll(vfs: VfsContract, lazy: boolean, log: Log): Promise<void> {
  try {
    await vfs.syncAll(false)
  } catch (error) {
    if (!lazy) throw error
    log.error({ error: messageOf(error) }, 'not everything could be written before the unmount')
  }
}

/**
 * Takes the topmost mount off a folder. With `lazy` also while it is in use: it disappears now and ends with its last user.
 * Errors: RingfsError MOUNTPOINT_BUSY, MOUNT_FAILED.
 */
export async function unmountPath(path: string, lazy: boolean): Promise<void> {
  let result: CommandResult | undefined
  for (const [program, ...args] of candidates(path, lazy)) {
    result = await runCommand(program, args, UNMOUNT_TIMEOUT_MS)
    if (result.exitCode === 0) return
    if (!result.missing) break
  }
  throw failure(path, result)
}

/**
 * Whether a mount is on its folder still: it may have been unmounted lazily and go on for those who use it, with another one
 * on the folder by now, which is not ours to take off. `device`: of its MountEntry.
 */
export async function isMountedOn(path: string, device: string | undefined): Promise<boolean> {
  return device !== undefined && (await mountOn(path))?.device === device
}

/**
 * Until a mount that was unmounted has `ended`. A container or service with a mount namespace of its own, started meanwhile, holds a
 * copy of it, and the kernel does not let go for as long as that runs: whoever unmounts here is not kept waiting for it.
 */
export async function untilReleased(
  ended: Promise<void>,
  mountpoint: string,
  device: string | undefined,
  log: Log,
): Promise<void> {
  const over = ended.then(() => true)
  const deadlineMs = systemClock.monotonicMs() + END_WAIT_MS
  while (systemClock.monotonicMs() < deadlineMs) {
    if (await Promise.race([over, systemClock.sleep(LOOK_EVERY_MS).then(() => false)])) return
    const holders = device === undefined ? [] : await namespacesWith(device)
    if (holders.length === 0) continue
    log.warn({ mountpoint, holders }, 'unmounted here, still held by another mount namespace')
    return
  }
}

/**
 * The kernel has ended a mount that is on its folder still: an abort, or `umount -f` while it was in use. Who mounts there next may take it
 * off first: not what he mounts is taken off then.
 */
export async function takeOffEnded(path: string, device: string | undefined): Promise<void> {
  if (!(await isMountedOn(path, device))) return
  await alone(path, async () => {
    if (await isMountedOn(path, device)) await unmountPath(path, true)
  })
}

/**
 * For a process that ends this moment: a program that outlives it takes the mount off, so that no dead one is left. Nothing
 * is done when the topmost mount there is another: it may be that of the process that has taken the place of this one. Throws nothing: the
 * process is to end whatever the machine lacks (processes, descriptors, /proc).
 */
export function abandonMount(path: string, device: string | undefined): void {
  try {
    const top = mountOnNow(path)
    if (top === undefined || top.device !== device) return
    const [command] = candidates(path, true)
    if (command === undefined) return
    const [program, ...args] = command
    const child = atUsualPriority(() => spawn(program, args, { detached: true, stdio: 'ignore' }))
    child.on('error', () => undefined)
    child.unref()
  } catch {
    // The dead mount is taken off by the next one there.
  }
}

type Command = readonly [string, ...string[]]

function candidates(path: string, lazy: boolean): readonly Command[] {
  // --no-canonicalize: nothing may look up the folder itself, whose server may be dead, or be this very process.
  const umount: Command = ['umount', '--no-canonicalize', ...(lazy ? ['--lazy'] : []), '--', path]
  const flags = lazy ? ['-u', '-z'] : ['-u']
  const helpers: Command[] = ['fusermount3', 'fusermount'].map((program) => [program, ...flags, '--', path])
  return process.getuid?.() === 0 ? [umount, ...helpers] : helpers
}

function failure(path: string, result: CommandResult | undefined): RingfsError {
  if (result === undefined || result.missing) {
    return new RingfsError('MOUNT_FAILED', `cannot unmount ${path}: no fusermount3 here; install the package fuse3`)
  }
  if (/busy/i.test(result.output)) {
    return new RingfsError('MOUNTPOINT_BUSY', `${path} is in use: close what is open there, or unmount it lazily`)
  }
  const reason = result.timedOut ? 'it took too long' : oneLine(result.output)
  return new RingfsError('MOUNT_FAILED', `cannot unmount ${path}: ${reason}`)
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}
