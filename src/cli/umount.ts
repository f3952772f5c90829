import { Command } from 'commander'
import { systemClock } from '../base/clock.js'
import { PosixError } from '../base/errno.js'
import { RingfsError, hasCode } from '../base/errors.js'
import { resolveMounted } from '../fuse/mountpoint.js'
import { FS_TYPE, readMounts, type MountEntry } from '../fuse/mounts.js'
import { unmountPath } from '../fuse/unmount.js'
import { listUsers, mountUsers, mountsBelow, namespacesWith } from '../fuse/users.js'
import { END_LIMIT_MS } from '../main/stop-signal.js'
import { isRunning, readRunFiles, takeWord, type RunFile } from '../main/runfiles.js'
import { print, type CommonOptions, type Surroundings } from './surroundings.js'

interface Options extends CommonOptions {
  readonly lazy?: boolean
}

const EXAMPLES = `
Waits until everything is written and the process that served the mount has ended. The mount of a ringfs up ends that.
While it is in use it is refused, and says by whom. With --lazy it disappears at once, and is served to those who use it
until they are done.

Examples:
  $ ringfs umount /mnt/home
  $ ringfs umount --lazy /mnt/home`

export function umountCommand(surroundings: Surroundings): Command {
  return new Command('umount')
    .summary('unmount')
    .description('Unmounts a volume.')
    .argument('<mountpoint>')
    .option('-l, --lazy', 'also while it is in use')
    .addHelpText('after', EXAMPLES)
    .action(async (path: string, options: Options) => {
      print(surroundings, `${await unmount(surroundings, path, options.lazy === true)}\n`)
    })
}

/** Answers what was done, in a line. */
async function unmount(surroundings: Surroundings, path: string, lazy: boolean): Promise<string> {
  const mountpoint = await resolveMounted(path)
  const mounts = await readMounts()
  const mount = mounts.findLast((entry) => entry.mountpoint === mountpoint)
  if (mount?.fsType !== FS_TYPE) throw new RingfsError('NOT_RUNNING', `no ringfs is mounted on ${path}`)
  const owner = readRunFiles(surroundings.environment.runFolder).findLast((run) => run.mountpoint === mountpoint)
  try {
    await unmountPath(mountpoint, lazy)
  } catch (error) {
    throw hasCode(error, 'MOUNTPOINT_BUSY') ? await busy(mountpoint, error) : error
  }
  if (owner === undefined || lazy) return `${mountpoint} is unmounted`
  const copies = mounts.filter(({ id, device }) => device === mount.device && id !== mount.id).map(({ id }) => id)
  const done = await untilOver(mount, new Set(copies), owner)
  const word = takeWord(surroundings.environment.runFolder, owner)
  if (word === undefined) return done
  throw new PosixError('EIO', `${done}, but not everything may be written: ${word}`)
}

/** Root sees all that have something open; not who waits for an answer of the mount at this moment. */
const UNSEEN =
  process.getuid?.() === 0 ? 'a call that is under way' : 'a process of another user, or a call that is under way'

async function busy(mountpoint: string, cause: unknown): Promise<RingfsError> {
  const [users, below] = await Promise.all([mountUsers(mountpoint), mountsBelow(mountpoint)])
  const by = [...(users.length > 0 ? [listUsers(users)] : []), ...below.map((path) => `what is mounted on ${path}`)]
  const who = by.length > 0 ? by.join(', ') : UNSEEN
  const message = `${mountpoint} is in use by ${who}: end that, or unmount with --lazy`
  return new RingfsError('MOUNTPOINT_BUSY', message, { cause })
}

const POLL_MS = 50
/** It writes what is buffered first, and ends itself when that takes too long. */
const END_WAIT_MS = END_LIMIT_MS + 30_000
/** It ends by itself in this time, unless something holds it. */
const LOOK_AFTER_MS = 1_000

/**
 * Waits for the end of the process. Not when another mount namespace (a container, a service of systemd) has a copy of the
 * mount: the process serves that for as long as it is there. `copies`: those in this namespace, from before the unmount (mount --bind).
 */
async function untilOver(
  { device, mountpoint }: MountEntry,
  copies: ReadonlySet<number>,
  owner: RunFile,
): Promise<string> {
  const startMs = systemClock.monotonicMs()
  for (let lookMs = startMs + LOOK_AFTER_MS; isRunning(owner);) {
    const nowMs = systemClock.monotonicMs()
    if (nowMs > startMs + END_WAIT_MS) {
      throw new RingfsError('INTERNAL', `process ${owner.pid} still stops after ${END_WAIT_MS / 1000} s`)
    }
    if (nowMs >= lookMs) {
      const holders = await namespacesWith(device, ({ id }) => copies.has(id))
      const rest = `process ${owner.pid} serves it to another mount namespace until that ends`
      if (holders.length > 0) return `${mountpoint} is unmounted here; ${rest}: ${listUsers(holders)}`
      lookMs = nowMs + LOOK_AFTER_MS
    }
    await systemClock.sleep(POLL_MS)
  }
  return `${mountpoint} is unmounted`
}
