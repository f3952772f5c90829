/** Mounting: mount(2) where we may, else through fusermount3, which hands back the descriptor (fuse(4), fusermount3(1)). */
import { spawn } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { once } from 'node:events'
import { RingfsError, messageOf } from '../../base/errors.js'
import { atUsualPriority } from '../../base/priority.js'
import type { MountOptions } from '../driver.js'
import { FS_TYPE } from '../mounts.js'
import type { FuseAddon } from './addon.js'

const FUSERMOUNT_DEADLINE_MS = 20_000
const S_IFDIR_OCTAL = '40000'

/** sys/mount.h */
export const MS = { readOnly: 1, remount: 32 } as const

/** sys/mount.h, for the options that are flags of mount(2) and not of the filesystem. */
const FLAGS: ReadonlyMap<string, number> = new Map([
  ['ro', 1],
  ['nosuid', 2],
  ['nodev', 4],
  ['noexec', 8],
  ['sync', 16],
  ['dirsync', 128],
  ['noatime', 1024],
  ['nodiratime', 2048],
  ['relatime', 1 << 21],
  ['strictatime', 1 << 24],
])
const IGNORED = new Set([
  'rw',
  'suid',
  'dev',
  'exec',
  'async',
  'nofail',
  'defaults',
  '_netdev',
  'auto',
  'noauto',
  'atime',
])

/** Flags that fusermount3 of Debian 12 refuses. What they ask for is done by the VFS; /proc/mounts does not show them then. */
const UNKNOWN_TO_HELPER: ReadonlySet<string> = new Set(['relatime', 'strictatime', 'nodiratime'])

/** The open descriptor of the mount. Errors: RingfsError MOUNT_FAILED. */
export async function attach(addon: FuseAddon, mountpoint: string, options: MountOptions): Promise<number> {
  if (process.geteuid?.() === 0) return mountDirectly(addon, mountpoint, options)
  return await mountThroughHelper(addon, mountpoint, options)
}

function mountDirectly(addon: FuseAddon, mountpoint: string, options: MountOptions): number {
  const fd = openDevice()
  const extra = options.extra.filter((one) => !IGNORED.has(one))
  const flags = mountFlags(extra, options.readOnly)
  const data = [
    `fd=${fd}`,
    `rootmode=${S_IFDIR_OCTAL}`,
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    'default_permissions',
    ...(options.allowOther ? ['allow_other'] : []),
    ...extra.filter((one) => !FLAGS.has(one) && one !== 'default_permissions' && one !== 'allow_other'),
  ]
  try {
    addon.mount(options.fsName, mountpoint, FS_TYPE, flags, data.join(','))
    return fd
  } catch (error) {
    closeSync(fd)
    throw new RingfsError('MOUNT_FAILED', `${mountpoint} cannot be mounted: ${messageOf(error)}`, { cause: error })
  }
}

/** The flags of mount(2) that the options ask for. */
export function mountFlags(options: readonly string[], readOnly: boolean): number {
  return options.reduce((sum, one) => sum | (FLAGS.get(one) ?? 0), readOnly ? MS.readOnly : 0)
}

function openDevice(): number {
  try {
    return openSync('/dev/fuse', constants.O_RDWR | constants.O_NONBLOCK)
  } catch (error) {
    const message = `/dev/fuse cannot be opened (${messageOf(error)}): load the module with modprobe fuse`
    throw new RingfsError('MOUNT_FAILED', message, { cause: error })
  }
}

async function mountThroughHelper(addon: FuseAddon, mountpoint: string, options: MountOptions): Promise<number> {
  const [ours, theirs] = addon.socketPair()
  const text = [
    `fsname=${options.fsName.replace(/[\\,]/g, '\\$&')}`,
    `subtype=${FS_TYPE.replace(/^fuse\./, '')}`,
    'default_permissions',
    ...(options.readOnly ? ['ro'] : []),
    ...(options.allowOther ? ['allow_other'] : []),
    ...options.extra.filter((one) => !IGNORED.has(one) && !UNKNOWN_TO_HELPER.has(one)),
  ]
  try {
    const output = await runHelper(['-o', text.join(','), '--', mountpoint], theirs)
    if (output !== null) throw new RingfsError('MOUNT_FAILED', `${mountpoint} cannot be mounted: ${output}`)
    return addon.receiveDescriptor(ours)
  } finally {
    closeSync(ours)
    closeSync(theirs)
  }
}

/** null: it worked. The socket is the helper's descriptor 3. */
async function runHelper(args: readonly string[], socket: number): Promise<string | null> {
  const child = atUsualPriority(() =>
    spawn('fusermount3', args, {
      stdio: ['ignore', 'ignore', 'pipe', socket],
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', _FUSE_COMMFD: '3' },
      timeout: FUSERMOUNT_DEADLINE_MS,
    }),
  )
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  try {
    await once(child, 'close')
    return child.exitCode === 0 ? null : stderr.trim() || `fusermount3 ended with ${child.exitCode ?? 'a signal'}`
  } catch (error) {
    return `fusermount3 cannot be run (${messageOf(error)}): install the package fuse3`
  }
}
