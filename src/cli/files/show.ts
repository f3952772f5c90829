/** How attributes are shown: as ls(1) and stat(1) do, and as JSON. */
import type { Attr, TimeSpec } from '../../vfs/contract.js'

const LETTERS: Readonly<Record<Attr['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  char: 'c',
  block: 'b',
}

/** `-rwxr-xr-x`, with s, S, t and T as ls(1) has them. */
export function modeText({ type, mode }: Attr): string {
  const bit = (shift: number, letter: string): string => ((mode >> shift) & 1 ? letter : '-')
  const exec = (shift: number, special: number, letter: string): string => {
    if (((mode >> special) & 1) === 0) return bit(shift, 'x')
    return (mode >> shift) & 1 ? letter : letter.toUpperCase()
  }
  const owner = bit(8, 'r') + bit(7, 'w') + exec(6, 11, 's')
  const group = bit(5, 'r') + bit(4, 'w') + exec(3, 10, 's')
  const other = bit(2, 'r') + bit(1, 'w') + exec(0, 9, 't')
  return LETTERS[type] + owner + group + other
}

/** ISO 8601 in UTC, with nanoseconds. */
export function timeText({ sec, nsec }: TimeSpec): string {
  const date = new Date(sec * 1000)
  const text = Number.isNaN(date.getTime()) ? `@${sec}.` : date.toISOString().replace(/\.000Z$/, '.')
  return `${text}${String(nsec).padStart(9, '0')}Z`
}

function shortTime({ sec }: TimeSpec): string {
  const date = new Date(sec * 1000)
  return Number.isNaN(date.getTime()) ? `@${sec}` : date.toISOString().slice(0, 16).replace('T', ' ')
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** 1536 -> `1.5 KiB`. */
export function bytesText(bytes: number): string {
  const step = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** step
  return `${step === 0 ? String(bytes) : value.toFixed(1)} ${UNITS[step] ?? 'B'}`
}

export interface ShownAttr {
  readonly name: string
  readonly ino: number
  readonly type: Attr['type']
  /** Octal. */
  readonly mode: string
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  readonly allocatedBytes: number
  readonly atime: string
  readonly mtime: string
  readonly ctime: string
  readonly btime: string
}

export function shown(name: string, attr: Attr): ShownAttr {
  return {
    name,
    ino: attr.ino,
    type: attr.type,
    mode: attr.mode.toString(8).padStart(4, '0'),
    nlink: attr.nlink,
    uid: attr.uid,
    gid: attr.gid,
    sizeBytes: attr.sizeBytes,
    allocatedBytes: attr.allocatedBytes,
    atime: timeText(attr.atime),
    mtime: timeText(attr.mtime),
    ctime: timeText(attr.ctime),
    btime: timeText(attr.btime),
  }
}

export function longLine(name: string, attr: Attr, widths: { readonly nlink: number; readonly size: number }): string {
  const nlink = String(attr.nlink).padStart(widths.nlink)
  const size = String(attr.sizeBytes).padStart(widths.size)
  return `${modeText(attr)} ${nlink} ${attr.uid} ${attr.gid} ${size} ${shortTime(attr.mtime)} ${name}`
}

/** Names come from outside: what would steer a terminal is shown as an escape. */
export function safe(name: string): string {
  return name.replace(
    /[\u0000-\u001f\u007f-\u009f]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
