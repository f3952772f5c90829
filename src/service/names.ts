/** Calls that make, remove and move names, with the errors that the kernel's VFS would give before asking (fs/namei.c). */
import { PosixError, isErrno } from '../base/errno.js'
import { PATH_MAX_BYTES } from '../base/limits.js'
import type { Attr, Caller, RenameFlags, VfsContract } from '../vfs/contract.js'
import { resolve, resolveExisting, type Place } from './resolve.js'

type NamedPlace = Extract<Place, { kind: 'name' }>

/** Where a new name goes. Errors: EEXIST; ENOENT for `new/` unless it is to be a directory. */
async function vacant(vfs: VfsContract, caller: Caller, path: Buffer, directory: boolean): Promise<NamedPlace> {
  const place = await resolve(vfs, caller, path, 'never')
  if (place.kind !== 'name' || place.attr !== null) throw new PosixError('EEXIST')
  if (place.trailingSlash && !directory) throw new PosixError('ENOENT')
  return place
}

export async function makeDirectory(vfs: VfsContract, caller: Caller, path: Buffer, mode: number): Promise<Attr> {
  const { parent, name } = await vacant(vfs, caller, path, true)
  return vfs.mkdir(caller, parent, name, mode & 0o7777)
}

/**
 * As `mkdir -p`: a directory that is there, or that another one makes at this moment, is no error.
 * Errors: EEXIST when the path ends at something else, ENOTDIR when something else is on the way.
 */
export async function makeDirectories(vfs: VfsContract, caller: Caller, path: Buffer, mode: number): Promise<Attr> {
  // From the longest prefix that is there downward; each prefix is a path of its own, so symlinks and `..` keep their meaning.
  const missing: Buffer[] = []
  for (let prefix = path; ; prefix = parentOf(prefix)) {
    const attr = await existing(vfs, caller, prefix)
    if (attr !== null) {
      if (attr.type !== 'directory') throw new PosixError(missing.length === 0 ? 'EEXIST' : 'ENOTDIR')
      break
    }
    missing.push(prefix)
  }
  for (const prefix of missing.reverse()) {
    await makeDirectory(vfs, caller, prefix, mode).catch((error: unknown) => {
      if (!isErrno(error, 'EEXIST')) throw error
    })
  }
  const attr = await resolveExisting(vfs, caller, path, 'always')
  if (attr.type !== 'directory') throw new PosixError('EEXIST')
  return attr
}

async function existing(vfs: VfsContract, caller: Caller, path: Buffer): Promise<Attr | null> {
  try {
    return await resolveExisting(vfs, caller, path, 'always')
  } catch (error) {
    if (isErrno(error, 'ENOENT') && path.length > 0) return null
    throw error
  }
}

/** The path without its last component; `/` for a single one. */
function parentOf(path: Buffer): Buffer {
  let end = path.length
  while (end > 0 && path[end - 1] === SLASH) end--
  while (end > 0 && path[end - 1] !== SLASH) end--
  return end === 0 ? ROOT : path.subarray(0, end)
}

const SLASH = 0x2f
const ROOT = Buffer.from('/')

const RMDIR_ERRORS = { root: 'EBUSY', dot: 'EINVAL', dotdot: 'ENOTEMPTY' } as const

export async function removeDirectory(vfs: VfsContract, caller: Caller, path: Buffer): Promise<void> {
  const place = await resolve(vfs, caller, path, 'never')
  if (place.kind !== 'name') throw new PosixError(RMDIR_ERRORS[place.kind])
  if (place.attr === null) throw new PosixError('ENOENT')
  if (place.attr.type !== 'directory') throw new PosixError('ENOTDIR')
  await vfs.rmdir(caller, place.parent, place.name)
}

export async function removeFile(vfs: VfsContract, caller: Caller, path: Buffer): Promise<void> {
  const place = await resolve(vfs, caller, path, 'never')
  if (place.kind !== 'name') throw new PosixError('EISDIR')
  if (place.attr === null) throw new PosixError('ENOENT')
  if (place.attr.type === 'directory') throw new PosixError('EISDIR')
  if (place.trailingSlash) throw new PosixError('ENOTDIR')
  await vfs.unlink(caller, place.parent, place.name)
}

export async function renamePath(
  vfs: VfsContract,
  caller: Caller,
  from: Buffer,
  to: Buffer,
  flags: RenameFlags,
): Promise<void> {
  const [source, target] = await Promise.all([resolve(vfs, caller, from, 'never'), resolve(vfs, caller, to, 'never')])
  if (source.kind !== 'name' || target.kind !== 'name') throw new PosixError('EBUSY')
  if (source.attr === null) throw new PosixError('ENOENT')
  if (flags.exchange === true) checkExchange(target.attr, target.trailingSlash, flags)
  if (target.attr !== null && flags.noReplace === true) throw new PosixError('EEXIST')
  const isFile = source.attr.type !== 'directory'
  if (isFile && (source.trailingSlash || (target.trailingSlash && flags.exchange !== true)))
    throw new PosixError('ENOTDIR')
  await vfs.rename(caller, source.parent, source.name, target.parent, target.name, flags)
}

/** renameat2(2), RENAME_EXCHANGE. */
function checkExchange(target: Attr | null, trailingSlash: boolean, flags: RenameFlags): void {
  if (flags.noReplace === true) throw new PosixError('EINVAL', 'an exchange replaces both names')
  if (target === null) throw new PosixError('ENOENT')
  if (target.type !== 'directory' && trailingSlash) throw new PosixError('ENOTDIR')
}

export async function makeSymlink(vfs: VfsContract, caller: Caller, target: Buffer, path: Buffer): Promise<Attr> {
  if (target.length === 0) throw new PosixError('ENOENT')
  if (target.length >= PATH_MAX_BYTES) throw new PosixError('ENAMETOOLONG')
  if (target.includes(0)) throw new PosixError('EINVAL', 'a NUL byte in the target')
  const { parent, name } = await vacant(vfs, caller, path, false)
  return vfs.symlink(caller, parent, name, target)
}

export async function readSymlink(vfs: VfsContract, caller: Caller, path: Buffer): Promise<Buffer> {
  const attr = await resolveExisting(vfs, caller, path, 'slash')
  if (attr.type !== 'symlink') throw new PosixError('EINVAL', 'not a symlink')
  return vfs.readlink(caller, attr.ino)
}

/** As link(2): a symlink itself gets the new name, not what it points to. */
export async function linkPath(vfs: VfsContract, caller: Caller, from: Buffer, to: Buffer): Promise<Attr> {
  const source = await resolveExisting(vfs, caller, from, 'slash')
  const { parent, name } = await vacant(vfs, caller, to, false)
  if (source.type === 'directory') throw new PosixError('EPERM')
  return vfs.link(caller, source.ino, parent, name)
}

export async function makeNode(
  vfs: VfsContract,
  caller: Caller,
  path: Buffer,
  mode: number,
  rdev: number,
): Promise<Attr> {
  const { parent, name } = await vacant(vfs, caller, path, false)
  return vfs.mknod(caller, parent, name, mode, rdev)
}
