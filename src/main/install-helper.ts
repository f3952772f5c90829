/**
 * /sbin/mount.ringfs, by which mount(8) knows the type `ringfs`, and /sbin/mount.fuse.ringfs, the same for the type that
 * /proc/mounts shows (mount -o remount takes that one).
 *
 * It is a script of a few lines with the paths of Node and of this program, since mount(8) is called at boot, without any
 * PATH of a user's. Moving either means installing it again, which is what it says then.
 */
import { existsSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { RingfsError, messageOf } from '../base/errors.js'
import { makeFolders } from '../base/make-folders.js'
import { BUILD_FOLDER } from '../base/places.js'

const NAME = 'mount.ringfs'
const ALIAS = 'mount.fuse.ringfs'
const MARK = '# Written by ringfs install-mount-helper; ringfs install-mount-helper --remove takes it away.'
const PROGRAM = fileURLToPath(new URL('src/main/mount-helper.js', BUILD_FOLDER))

/** Answers its path. `prefix`: where the system's root is; '' for that of this machine. Errors: RingfsError USAGE. */
export function installMountHelper(prefix: string): string {
  const folder = join(prefix === '' ? '/' : prefix, 'sbin')
  const file = join(folder, NAME)
  refuseForeign(file)
  refuseForeign(join(folder, ALIAS))
  return acting(folder, () => {
    makeFolders(folder)
    writeFileSync(`${file}.new`, script(), { mode: 0o755 })
    renameSync(`${file}.new`, file)
    rmSync(join(folder, ALIAS), { force: true })
    symlinkSync(NAME, join(folder, ALIAS))
    return file
  })
}

/** Answers the path of what was there. Errors: RingfsError USAGE, NOT_RUNNING. */
export function removeMountHelper(prefix: string): string {
  const folder = join(prefix === '' ? '/' : prefix, 'sbin')
  const file = join(folder, NAME)
  if (!existsSync(file)) throw new RingfsError('NOT_RUNNING', `${file} is not there`)
  refuseForeign(file)
  return acting(folder, () => {
    if (isOurAlias(join(folder, ALIAS))) rmSync(join(folder, ALIAS))
    rmSync(file)
    return file
  })
}

function acting<T>(folder: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw new RingfsError('USAGE', `${folder} cannot be changed (${messageOf(error)}): run it as root`, {
      cause: error,
    })
  }
}

/** What somebody else put there is neither replaced nor removed. */
function refuseForeign(file: string): void {
  if (!existsSync(file) || isOurAlias(file) || readFileSync(file, 'latin1').includes(MARK)) return
  throw new RingfsError('USAGE', `${file} is not of ringfs: move it away first`)
}

function isOurAlias(file: string): boolean {
  try {
    return readlinkSync(file) === NAME
  } catch {
    return false
  }
}

function script(): string {
  const [node, program] = [quoted(process.execPath), quoted(PROGRAM)]
  return `#!/bin/sh
${MARK}
if [ ! -x ${node} ] || [ ! -e ${program} ]; then
  echo "mount.ringfs: ringfs or its Node has moved: run ringfs install-mount-helper again" >&2
  exit 32
fi
exec ${node} ${program} "$@"
`
}

/** For sh(1). */
function quoted(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`
}
