/** open(2) on a path: create, follow, truncate, and what may not be opened. */
import { PosixError, isErrno } from '../base/errno.js'
import { OPEN_FLAG } from '../rpc/open-flags.js'
import type { Attr, Caller, VfsContract } from '../vfs/contract.js'
import type { OpenHandle } from './handles.js'
import { resolve, type Place } from './resolve.js'

/** A name that others create and remove all the time is tried again; each try sees a newer state. */
const RACES_MAX = 8

export interface OpenedFile {
  readonly open: OpenHandle
  readonly attr: Attr
}

/**
 * Errors: as open(2). EISDIR for a directory, even for reading: it is listed with readdir. ENXIO for what is no file.
 */
export async function openFile(
  vfs: VfsContract,
  caller: Caller,
  path: Buffer,
  flags: number,
  mode: number,
): Promise<OpenedFile> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openOnce(vfs, caller, path, flags, mode)
    } catch (error) {
      if (attempt === RACES_MAX || !isRace(error)) throw error
    }
  }
}

/**
 * With O_CREAT and without O_EXCL the name cannot be missing, unless it was removed between lookup and open. ESTALE: what
 * the name was looked up as is gone, look again.
 */
function isRace(error: unknown): boolean {
  return error instanceof LostRace || isErrno(error, 'ESTALE')
}

class LostRace extends PosixError {
  constructor(cause: PosixError) {
    super('ENOENT', '', { cause })
  }
}

async function openOnce(
  vfs: VfsContract,
  caller: Caller,
  path: Buffer,
  flags: number,
  mode: number,
): Promise<OpenedFile> {
  const exclusive = wants(flags, 'O_CREAT') && wants(flags, 'O_EXCL')
  const place = await resolve(vfs, caller, path, exclusive ? 'never' : wants(flags, 'O_NOFOLLOW') ? 'slash' : 'always')
  if (place.kind !== 'name') throw new PosixError('EISDIR')
  if (place.attr === null) return createAt(vfs, caller, place, flags, mode)
  if (exclusive) throw new PosixError('EEXIST')
  checkOpenable(place.attr, place.trailingSlash, flags)
  try {
    const { attr, handle } = await vfs.open(caller, place.attr.ino, flags)
    return { attr, open: { kind: 'file', handle, ino: attr.ino, flags } }
  } catch (error) {
    const gone = isErrno(error, 'ENOENT') && wants(flags, 'O_CREAT')
    throw gone ? new LostRace(error) : error
  }
}

async function createAt(
  vfs: VfsContract,
  caller: Caller,
  place: Extract<Place, { kind: 'name' }>,
  flags: number,
  mode: number,
): Promise<OpenedFile> {
  if (!wants(flags, 'O_CREAT')) throw new PosixError('ENOENT')
  if (place.trailingSlash) throw new PosixError('EISDIR')
  const { attr, handle } = await vfs.create(caller, place.parent, place.name, mode & 0o7777, flags)
  return { attr, open: { kind: 'file', handle, ino: attr.ino, flags } }
}

function checkOpenable(attr: Attr, trailingSlash: boolean, flags: number): void {
  if (attr.type === 'directory') throw new PosixError('EISDIR')
  if (trailingSlash || wants(flags, 'O_DIRECTORY')) throw new PosixError('ENOTDIR')
  if (attr.type === 'symlink') throw new PosixError('ELOOP')
  if (attr.type !== 'file') throw new PosixError('ENXIO', 'not a regular file')
}

export function wants(flags: number, flag: Exclude<keyof typeof OPEN_FLAG, 'O_RDONLY' | 'O_ACCMODE'>): boolean {
  return (flags & OPEN_FLAG[flag]) === OPEN_FLAG[flag]
}

export function writable(flags: number): boolean {
  return (flags & OPEN_FLAG.O_ACCMODE) !== OPEN_FLAG.O_RDONLY
}
