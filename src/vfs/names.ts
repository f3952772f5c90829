/**
 * Checks of what callers hand in, answered as Linux answers them (fs/namei.c, fs/xattr.c). The kernel makes most of them
 * itself before a request reaches a FUSE driver; FileService has no kernel above it.
 */
import {
  FILE_MAX_BYTES,
  NAME_MAX_BYTES,
  SYMLINK_MAX_BYTES,
  XATTR_NAME_MAX_BYTES,
  XATTR_VALUE_MAX_BYTES,
} from '../base/limits.js'
import { isDot, isDotDot } from '../base/dots.js'
import { PosixError, type ErrnoName } from '../base/errno.js'
import type { NewInode } from '../meta/contract.js'
import type { Caller } from './contract.js'
import { XATTR_CREATE, XATTR_REPLACE } from './flags.js'

const NUL = 0x00
const SLASH = 0x2f

/** ENOENT for an empty name, ENAMETOOLONG, EINVAL for bytes that no name has. */
export function checkName(name: Buffer): void {
  if (name.length === 0) throw new PosixError('ENOENT', 'an empty name')
  if (name.length > NAME_MAX_BYTES) throw new PosixError('ENAMETOOLONG', `a name has at most ${NAME_MAX_BYTES} bytes`)
  if (name.includes(NUL) || name.includes(SLASH)) throw new PosixError('EINVAL', 'a name has no NUL and no slash')
}

/** As checkName, and `.` and `..` get what the system call answers for them. */
export function checkEntry(name: Buffer, dot: ErrnoName, dotDot: ErrnoName): void {
  checkName(name)
  if (isDot(name)) throw new PosixError(dot, 'the name is "."')
  if (isDotDot(name)) throw new PosixError(dotDot, 'the name is ".."')
}

export function checkTarget(target: Buffer): void {
  if (target.length === 0) throw new PosixError('ENOENT', 'an empty link target')
  if (target.length > SYMLINK_MAX_BYTES) {
    throw new PosixError('ENAMETOOLONG', `a link target has at most ${SYMLINK_MAX_BYTES} bytes`)
  }
  if (target.includes(NUL)) throw new PosixError('EINVAL', 'a link target has no NUL')
}

/** Whose a new inode is. */
export function ownerOf({ uid, gid, umask = 0 }: Caller): Pick<NewInode, 'uid' | 'gid'> & { readonly umask: number } {
  return { uid, gid, umask }
}

/** CAP_FSETID. */
export function keepsSetid({ uid, keepsSetid = uid === 0 }: Caller): boolean {
  return keepsSetid
}

export function checkXattrName(name: Buffer): void {
  if (name.length === 0 || name.length > XATTR_NAME_MAX_BYTES || name.includes(NUL)) {
    throw new PosixError('ERANGE', `an attribute name has 1 to ${XATTR_NAME_MAX_BYTES} bytes`)
  }
}

export function checkXattrValue(value: Buffer): void {
  if (value.length > XATTR_VALUE_MAX_BYTES) {
    throw new PosixError('E2BIG', `an attribute value has at most ${XATTR_VALUE_MAX_BYTES} bytes`)
  }
}

export function xattrMode(flags: number): 'any' | 'create' | 'replace' | 'both' {
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new PosixError('EINVAL', `unknown flags ${flags}`)
  return (['any', 'create', 'replace', 'both'] as const)[flags & 3] ?? 'any'
}

export function checkRange(offset: number, lengthBytes: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(lengthBytes) || lengthBytes < 0) {
    throw new PosixError('EINVAL', `no such range: ${offset}, ${lengthBytes}`)
  }
}

export function checkSize(sizeBytes: number): void {
  if (sizeBytes > FILE_MAX_BYTES) throw new PosixError('EFBIG', `a file has at most ${FILE_MAX_BYTES} bytes`)
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw new PosixError('EINVAL', `no such size: ${sizeBytes}`)
}
