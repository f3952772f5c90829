/**
 * A mount whose process is gone is over, whatever the kernel waits for.
 *
 * The kernel ends a mount when the last descriptor of its device is closed. A thread of ours that waits in the kernel for a
 * directory's lock (notifier.ts) has one, and cannot be killed; who has that lock may wait for an answer that nobody will
 * give. So another process, a shell of its own session, holds the file by which a mount is ended (fusectl,
 * Documentation/filesystems/fuse/fuse.rst), and writes into it when its standard input ends: when we do, however that is. The
 * file belongs to this one mount: once that is over, writing does nothing, whoever has its number by then.
 *
 * Without it (no right to mount fusectl, no shell) all is as before, but for mounts that hang when they are killed with
 * SIGKILL at such a moment, until somebody writes into that file, or unmounts by force.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import { atUsualPriority } from '../../base/priority.js'
import type { FuseAddon } from './addon.js'

const FUSECTL = '/sys/fs/fuse/connections'
/** What asks a service to end asks the mount, too: that flushes and unmounts first. */
const SCRIPT = 'trap "" HUP INT TERM; read -r nothing; echo 1 >&3'

export interface Guard {
  /** The mount is over, or is to be. */
  end(): void
}

const NOBODY: Guard = { end: () => undefined }

/** `device`: `major:minor` of the mount, from /proc/self/mountinfo. Never throws. */
export function startGuard(addon: FuseAddon, device: string, log: Log): Guard {
  let abort: number | undefined
  try {
    abort = openAbort(addon, device)
    const stdio = ['pipe', 'ignore', 'ignore', abort] as const
    const child = atUsualPriority(() =>
      spawn('/bin/sh', ['-c', SCRIPT, 'ringfs-guard'], { cwd: '/', env: {}, detached: true, stdio: [...stdio] }),
    )
    const failed = (error: unknown): void => log.debug({ error: messageOf(error) }, 'the mount has no guard')
    child.on('error', failed)
    child.stdin?.on('error', failed)
    child.unref()
    // A pipe that nobody writes to keeps no process alive.
    if (child.stdin instanceof Socket) child.stdin.unref()
    return { end: () => child.stdin?.end() }
  } catch (error) {
    log.debug({ error: messageOf(error) }, 'the mount has no guard')
    return NOBODY
  } finally {
    if (abort !== undefined) closeSync(abort)
  }
}

/** The kernel names a mount's folder by its device number (fs/fuse/control.c); the major number of such is 0. */
function openAbort(addon: FuseAddon, device: string): number {
  const [major, minor] = device.split(':')
  if (major !== '0' || minor === undefined) throw new Error(`no number of a mount: ${device}`)
  const path = `${FUSECTL}/${minor}/abort`
  try {
    return openSync(path, 'w')
  } catch (error) {
    if (process.geteuid?.() !== 0) throw error
    // systemd mounts it; there are machines without.
    addon.mount('fusectl', FUSECTL, 'fusectl', 0, '')
    return openSync(path, 'w')
  }
}
