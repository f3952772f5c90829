/**
 * Paths to inodes, as path_resolution(7) says, inside the volume: an absolute symlink starts at the volume's root.
 * The caller's rights are not checked: whoever may connect acts as the server.
 */
import { isDot, isDotDot } from '../base/dots.js'
import { PosixError, isErrno } from '../base/errno.js'
import { NAME_MAX_BYTES, PATH_MAX_BYTES, ROOT_INO } from '../base/limits.js'
import type { Attr, Caller, VfsContract } from '../vfs/contract.js'

/** path_resolution(7); the kernel's MAXSYMLINKS. */
const SYMLINKS_MAX = 40
const SLASH = 0x2f

/** When a symlink at the end of the path is followed: always, only before a trailing slash, or not even then. */
export type FollowLast = 'always' | 'slash' | 'never'

/** Where a path leads. */
export type Place =
  /** A name in a directory, there (attr) or not (null). */
  | {
      readonly kind: 'name'
      readonly parent: number
      readonly name: Buffer
      readonly attr: Attr | null
      readonly trailingSlash: boolean
    }
  /** The path ends with `.`, `..` or is the root: a directory that is there, under a name that cannot be changed. */
  | { readonly kind: 'root' | 'dot' | 'dotdot'; readonly ino: number }

/** What walking on from a directory needs. */
interface Dir {
  readonly ino: number
  readonly parent: number
}

const ROOT: Dir = { ino: ROOT_INO, parent: ROOT_INO }

/**
 * Errors: ENOENT (empty, or a directory on the way is missing), ENOTDIR, ENAMETOOLONG, ELOOP, EINVAL (a NUL byte).
 * That the last name is missing is no error here.
 */
export async function resolve(vfs: VfsContract, caller: Caller, path: Buffer, follow: FollowLast): Promise<Place> {
  checkPath(path)
  const walk: Walk = { vfs, caller, todo: components(path), links: 0, slash: path.at(-1) === SLASH }
  let dir = ROOT
  for (;;) {
    const name = walk.todo.pop()
    if (name === undefined) return { kind: 'root', ino: dir.ino }
    const step = await takeStep(walk, dir, name, follow)
    if ('place' in step) return step.place
    dir = step.dir
  }
}

/** Attributes of what the path names. Errors: as resolve, and ENOENT; ENOTDIR for a file with a trailing slash. */
export async function resolveExisting(
  vfs: VfsContract,
  caller: Caller,
  path: Buffer,
  follow: FollowLast,
): Promise<Attr> {
  const place = await resolve(vfs, caller, path, follow)
  if (place.kind !== 'name') return vfs.getattr(caller, place.ino)
  if (place.attr === null) throw new PosixError('ENOENT')
  if (place.trailingSlash && place.attr.type !== 'directory') throw new PosixError('ENOTDIR')
  return place.attr
}

interface Walk {
  readonly vfs: VfsContract
  readonly caller: Caller
  /** What is left of the path, the next component last. */
  readonly todo: Buffer[]
  links: number
  slash: boolean
}

async function takeStep(
  walk: Walk,
  dir: Dir,
  name: Buffer,
  follow: FollowLast,
): Promise<{ dir: Dir } | { place: Place }> {
  const last = walk.todo.length === 0
  if (isDot(name)) return last ? { place: { kind: 'dot', ino: dir.ino } } : { dir }
  if (isDotDot(name)) return stepUp(walk, dir, last)
  if (name.length > NAME_MAX_BYTES) throw new PosixError('ENAMETOOLONG')
  const attr = await lookupOrNull(walk, dir.ino, name)
  if (attr?.type === 'symlink' && (!last || follow === 'always' || (follow === 'slash' && walk.slash))) {
    return { dir: await enterSymlink(walk, dir, attr, last) }
  }
  if (last) return { place: { kind: 'name', parent: dir.ino, name, attr, trailingSlash: walk.slash } }
  if (attr === null) throw new PosixError('ENOENT')
  if (attr.type !== 'directory') throw new PosixError('ENOTDIR')
  return { dir: attr }
}

async function stepUp(walk: Walk, dir: Dir, last: boolean): Promise<{ dir: Dir } | { place: Place }> {
  if (last) return { place: { kind: 'dotdot', ino: dir.parent } }
  return { dir: dir.parent === ROOT_INO ? ROOT : await walk.vfs.getattr(walk.caller, dir.parent) }
}

async function enterSymlink(walk: Walk, dir: Dir, link: Attr, last: boolean): Promise<Dir> {
  if (walk.links++ >= SYMLINKS_MAX) throw new PosixError('ELOOP')
  const target = await walk.vfs.readlink(walk.caller, link.ino)
  checkPath(target)
  walk.todo.push(...components(target))
  if (last && target.at(-1) === SLASH) walk.slash = true
  return target[0] === SLASH ? ROOT : dir
}

async function lookupOrNull(walk: Walk, parent: number, name: Buffer): Promise<Attr | null> {
  try {
    return await walk.vfs.lookup(walk.caller, parent, name)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null
    throw error
  }
}

function checkPath(path: Buffer): void {
  if (path.length === 0) throw new PosixError('ENOENT')
  if (path.length >= PATH_MAX_BYTES) throw new PosixError('ENAMETOOLONG')
  if (path.includes(0)) throw new PosixError('EINVAL', 'a NUL byte in a path')
}

/** The names between slashes, in reverse. */
function components(path: Buffer): Buffer[] {
  const names: Buffer[] = []
  for (let at = 0; at < path.length;) {
    const slash = path.indexOf(SLASH, at)
    const end = slash < 0 ? path.length : slash
    if (end > at) names.push(path.subarray(at, end))
    at = end + 1
  }
  return names.reverse()
}
