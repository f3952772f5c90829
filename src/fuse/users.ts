/**
 * Who keeps a mount from ending: processes with something of it open, and other mount namespaces with a copy of it. Found in
 * /proc (proc(5)), as far as rights go: root sees everybody's, others their own.
 *
 * Nothing here touches the mount: links are read, not followed.
 */
import { readFile, readdir, readlink } from 'node:fs/promises'
import { parseMountinfo, readMounts, type MountEntry } from './mounts.js'

export interface MountUser {
  readonly pid: number
  /** Name of the program, as `ps` shows it. */
  readonly name: string
}

const PROC = '/proc'

/** Processes that keep `umount` from working: working folder, root, program, open and mapped files. */
export async function mountUsers(mountpoint: string): Promise<readonly MountUser[]> {
  return found(async (pid) => ((await uses(pid, mountpoint)) ? { pid, name: await nameOf(pid) } : undefined))
}

/** Mount points below this one: they keep it from being unmounted, too. */
export async function mountsBelow(mountpoint: string): Promise<readonly string[]> {
  const paths = (await readMounts()).map((mount) => mount.mountpoint)
  return paths.filter((path) => path !== mountpoint && isBelow(path, mountpoint))
}

/**
 * One process of each mount namespace that has a copy of the mount: the kernel does not let go of it before they end. To be
 * asked after the unmount here. `device`: of MountEntry. `isOfBefore`: whether a mount of this namespace was there before the unmount; one that
 * came since has been given the number anew. Default: all were.
 */
export async function namespacesWith(
  device: string,
  isOfBefore: (mount: MountEntry) => boolean = () => true,
): Promise<readonly MountUser[]> {
  const own = await readlink(`${PROC}/self/ns/mnt`)
  const seen = new Set<string>()
  return found(async (pid) => {
    const namespace = await readlink(`${PROC}/${pid}/ns/mnt`)
    if (seen.has(namespace)) return undefined
    seen.add(namespace)
    const file = `${PROC}/${pid}/mountinfo`
    const mounts = parseMountinfo(await readFile(file, 'utf8'), file)
    const isCopy = (mount: MountEntry): boolean => namespace !== own || isOfBefore(mount)
    return mounts.some((mount) => mount.device === device && isCopy(mount))
      ? { pid, name: await nameOf(pid) }
      : undefined
  })
}

/** `sh (pid 12), vim (pid 34) and 3 more` */
export function listUsers(users: readonly MountUser[], most = 5): string {
  const named = users.slice(0, most).map(({ pid, name }) => `${name} (pid ${pid})`)
  const more = users.length > most ? ` and ${users.length - most} more` : ''
  return `${named.join(', ')}${more}`
}

/** One after the other: there may be thousands. Those that end meanwhile, or are not ours to see, are passed over. */
async function found(look: (pid: number) => Promise<MountUser | undefined>): Promise<readonly MountUser[]> {
  const users: MountUser[] = []
  for (const name of await readdir(PROC)) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    const user = await look(Number(name)).catch(() => undefined)
    if (user !== undefined) users.push(user)
  }
  return users
}

async function uses(pid: number, mountpoint: string): Promise<boolean> {
  const folder = `${PROC}/${pid}`
  for (const link of ['cwd', 'root', 'exe']) {
    if (isBelow(await readlink(`${folder}/${link}`).catch(() => ''), mountpoint)) return true
  }
  for (const fd of await readdir(`${folder}/fd`)) {
    if (isBelow(await readlink(`${folder}/fd/${fd}`).catch(() => ''), mountpoint)) return true
  }
  return mapped(await readFile(`${folder}/maps`, 'utf8')).some((path) => isBelow(path, mountpoint))
}

/** The sixth field of each line, which may hold blanks. */
function mapped(maps: string): readonly string[] {
  return maps.split('\n').map((line) => line.split(/\s+/).slice(5).join(' '))
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`)
}

async function nameOf(pid: number): Promise<string> {
  return (await readFile(`${PROC}/${pid}/comm`, 'utf8')).trim()
}
