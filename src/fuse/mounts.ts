/** The kernel's list of mounts, as this process sees it (proc_pid_mountinfo(5)). */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { RingfsError } from '../base/errors.js'

/** The type under which every driver mounts: `fuse.` and the subtype. */
export const FS_SUBTYPE = 'ringfs'
export const FS_TYPE = `fuse.${FS_SUBTYPE}`

const OWN = '/proc/self/mountinfo'
const SHOWN_MAX = 200

export interface MountEntry {
  /** Unique among the mounts of now; used again after an unmount. */
  readonly id: number
  /** `major:minor` of its st_dev, the same for every copy of the mount, in whatever namespace. */
  readonly device: string
  readonly mountpoint: string
  readonly fsType: string
  readonly source: string
  /** Those of this mount point (ro, noatime, …), not those of the file system. */
  readonly options: readonly string[]
  /** This mount point, or the file system wherever it is mounted. */
  readonly isReadOnly: boolean
}

/** In the order they were mounted: of several on one folder the last is on top. */
export async function readMounts(): Promise<readonly MountEntry[]> {
  return parseMountinfo(await readFile(OWN, 'utf8'))
}

/** The mount on top of a folder, if it is a mount point. */
export async function mountOn(path: string): Promise<MountEntry | undefined> {
  return (await readMounts()).findLast((entry) => entry.mountpoint === path)
}

/** As mountOn, at once, for who cannot wait: the list is short and made by the kernel. */
export function mountOnNow(path: string): MountEntry | undefined {
  return parseMountinfo(readFileSync(OWN, 'utf8')).findLast((entry) => entry.mountpoint === path)
}

/** At once, as mountOnNow. */
export function hasMountBelow(mountpoint: string): boolean {
  const entries = parseMountinfo(readFileSync(OWN, 'utf8'))
  return entries.some((entry) => entry.mountpoint.startsWith(`${mountpoint}/`))
}

/** Whether a file system (`device` of its MountEntry) can only be read wherever it is mounted here. false where it is not. */
export function isReadOnly(device: string): boolean {
  const entries = parseMountinfo(readFileSync(OWN, 'utf8')).filter((entry) => entry.device === device)
  return entries.length > 0 && entries.every((entry) => entry.isReadOnly)
}

/** `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext3 /dev/root rw`, any number of fields before the dash. Errors: RingfsError INTERNAL. */
export function parseMountinfo(text: string, file = OWN): readonly MountEntry[] {
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.map((line) => parseLine(line, file))
}

function parseLine(line: string, file: string): MountEntry {
  const fields = line.split(' ')
  const dash = fields.indexOf('-', 6)
  const [id, , device, , mountpoint, options] = fields
  const [fsType, source = '', ofFileSystem = ''] = fields.slice(dash + 1)
  const isNumbered = /^\d+$/.test(id ?? '')
  if (dash < 0 || !isNumbered || !device || !mountpoint || !options || !fsType) {
    const shown = line.slice(0, SHOWN_MAX)
    throw new RingfsError(
      'INTERNAL',
      `${file} has the line '${shown}', which is no mount as proc(5) has it: report it to us`,
    )
  }
  return {
    id: Number(id),
    device,
    mountpoint: unescape(mountpoint),
    fsType: unescape(fsType),
    source: unescape(source),
    options: options.split(','),
    isReadOnly: [options, ofFileSystem].some((some) => some.split(',').includes('ro')),
  }
}

/** Blank, tab, newline and backslash stand there as three octal digits. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
