/** POSIX ACLs as acl(5) has them, for doubles of the store: the same as scripts/lib/acl.lua, written another way. */
import { ACL_TAG, aclKind, aclName, decodeAcl, encodeAcl, parseAcl, type AclEntry } from '../../src/base/acl.js'
import { ChangedHandsError, PosixError } from '../../src/base/errno.js'
import type { InodeType, Seen } from '../../src/meta/contract.js'

const ACCESS = key(aclName('access'))
const DEFAULT = key(aclName('default'))
const CAPABILITY = 'security.capability'
const SGID = 0o2000

/** What an inode of a double must have. */
export interface AclInode {
  readonly type: InodeType
  mode: number
  /** Attributes by latin1 name, ACLs among them. */
  readonly xattrs: Map<string, Buffer>
}

/** Of a change whose maker's rights were judged by `seen`. */
export function checkSeen({ uid, gid, mode }: Required<Seen>, seen: Seen | undefined): void {
  if (seen === undefined) return
  if (seen.uid === uid && (seen.gid ?? gid) === gid && (seen.mode ?? mode) === mode) return
  throw new ChangedHandsError()
}

function key(name: Buffer): string {
  return name.toString('latin1')
}

function bitsOf(mode: number, tag: number, groupClass: number): number | null {
  if (tag === ACL_TAG.userObj) return (mode >> 6) & 7
  if (tag === groupClass) return (mode >> 3) & 7
  return tag === ACL_TAG.other ? mode & 7 : null
}

/** Entries that the mode mirrors are replaced. */
function mirror(entries: readonly AclEntry[], mode: number, change: (old: number, bits: number) => number): AclEntry[] {
  const groupClass = entries.some(({ tag }) => tag === ACL_TAG.mask) ? ACL_TAG.mask : ACL_TAG.groupObj
  return entries.map((entry) => {
    const bits = bitsOf(mode, entry.tag, groupClass)
    return bits === null ? entry : { ...entry, permissions: change(entry.permissions, bits) }
  })
}

/** chmod(2). */
export function changeMode(inode: AclInode, mode: number): void {
  inode.mode = mode
  const acl = inode.xattrs.get(ACCESS)
  if (acl !== undefined) inode.xattrs.set(ACCESS, encodeAcl(mirror(decodeAcl(acl), mode, (_old, bits) => bits)))
}

/** acl(5), OBJECT CREATION AND DEFAULT ACLs: `made` has the mode that was asked for. */
export function inherit(directory: Pick<AclInode, 'xattrs'>, made: AclInode, umask: number): void {
  if (made.type === 'symlink') return
  const given = directory.xattrs.get(DEFAULT)
  if (given === undefined) {
    made.mode &= ~umask
    return
  }
  const acl = parseAcl(encodeAcl(mirror(decodeAcl(given), made.mode, (old, bits) => old & bits)))
  if (acl === null) throw new Error('an empty ACL is never kept')
  made.mode = (made.mode & ~0o777) | acl.permissions
  if (!acl.isMinimal) made.xattrs.set(ACCESS, acl.bytes)
  if (made.type === 'directory') made.xattrs.set(DEFAULT, given)
}

/** setxattr(2) of an ACL. false: the name is not one of an ACL. */
export function setAcl(inode: AclInode, name: Buffer, value: Buffer, clearSgid: boolean): boolean {
  const kind = aclKind(name)
  if (kind === null) return false
  const acl = parseAcl(value)
  if (inode.type === 'symlink') throw new PosixError('EOPNOTSUPP')
  if (kind === 'default' && inode.type !== 'directory') throw new PosixError('EACCES')
  if (acl !== null && kind === 'access') {
    inode.mode = (inode.mode & ~0o777) | acl.permissions
    if (clearSgid) inode.mode &= ~SGID
  }
  if (acl === null || (kind === 'access' && acl.isMinimal)) inode.xattrs.delete(key(name))
  else inode.xattrs.set(key(name), acl.bytes)
  return true
}

/** What writing or cutting takes away; the set-id bits only if the caller has no CAP_FSETID. */
export function dropPrivileges(inode: AclInode, alsoSetid: boolean): void {
  inode.xattrs.delete(CAPABILITY)
  if (!alsoSetid) return
  inode.mode &= ~0o4000
  if ((inode.mode & 0o010) !== 0) inode.mode &= ~SGID
}
