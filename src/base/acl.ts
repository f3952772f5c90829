/**
 * POSIX ACLs as they come in extended attributes (acl(5), linux/posix_acl_xattr.h), little-endian: u32 version, then
 * entries of u16 tag, u16 permissions, u32 id. The store keeps these bytes. An access ACL and the mode of its inode tell
 * the same of the owner, of others and of the group class, so both are changed in one script only (scripts/lib/acl.lua).
 */
import { PosixError } from './errno.js'
import { ACL_MAX_BYTES } from './limits.js'

export type AclKind = 'access' | 'default'

const NAMES: Readonly<Record<AclKind, Buffer>> = {
  access: Buffer.from('system.posix_acl_access'),
  default: Buffer.from('system.posix_acl_default'),
}
const SYSTEM = Buffer.from('system.')

const VERSION = 2
const ACL_HEADER_BYTES = 4
const ACL_ENTRY_BYTES = 8
const ALL = 7
/** The id of entries that name nobody. */
const NO_ID = 0xffffffff

export const ACL_TAG = { userObj: 0x01, user: 0x02, groupObj: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const

export interface AclEntry {
  readonly tag: number
  readonly permissions: number
  readonly id: number
}

export interface Acl {
  readonly bytes: Buffer
  /** What it says of owner, group class and others: the lower nine bits of a mode. */
  readonly permissions: number
  /** It says no more than these nine bits. */
  readonly isMinimal: boolean
}

export function aclName(kind: AclKind): Buffer {
  return NAMES[kind]
}

/** Which ACL an attribute of this name is; null: none. Errors: EOPNOTSUPP, the namespace `system` has nothing else. */
export function aclKind(name: Buffer): AclKind | null {
  if (name.equals(NAMES.access)) return 'access'
  if (name.equals(NAMES.default)) return 'default'
  if (name.subarray(0, SYSTEM.length).equals(SYSTEM)) throw new PosixError('EOPNOTSUPP', 'no such system attribute')
  return null
}

/** null: no entries, which means no ACL. Errors: EINVAL, EOPNOTSUPP (another version), E2BIG. */
export function parseAcl(value: Buffer): Acl | null {
  if (value.length === 0) return null
  const entries = decodeAcl(value)
  if (entries.length === 0) return null
  checkOrder(entries)
  const of = (tag: number): number => entries.find((entry) => entry.tag === tag)?.permissions ?? 0
  const isMinimal = !entries.some(({ tag }) => tag === ACL_TAG.mask)
  const group = of(isMinimal ? ACL_TAG.groupObj : ACL_TAG.mask)
  const permissions = (of(ACL_TAG.userObj) << 6) | (group << 3) | of(ACL_TAG.other)
  return { bytes: encodeAcl(entries), permissions, isMinimal }
}

export function decodeAcl(value: Buffer): AclEntry[] {
  const entriesBytes = value.length - ACL_HEADER_BYTES
  if (entriesBytes < 0) throw new PosixError('EINVAL', 'an ACL without its header')
  if (value.readUInt32LE(0) !== VERSION) throw new PosixError('EOPNOTSUPP', 'an ACL of another version')
  if (entriesBytes % ACL_ENTRY_BYTES !== 0) throw new PosixError('EINVAL', 'an ACL with half an entry')
  if (value.length > ACL_MAX_BYTES) throw new PosixError('E2BIG', `an ACL has at most ${ACL_MAX_BYTES} bytes`)
  return Array.from({ length: entriesBytes / ACL_ENTRY_BYTES }, (_, index) => {
    const at = ACL_HEADER_BYTES + index * ACL_ENTRY_BYTES
    return { tag: value.readUInt16LE(at), permissions: value.readUInt16LE(at + 2), id: value.readUInt32LE(at + 4) }
  })
}

export function encodeAcl(entries: readonly AclEntry[]): Buffer {
  const out = Buffer.alloc(ACL_HEADER_BYTES + entries.length * ACL_ENTRY_BYTES)
  out.writeUInt32LE(VERSION, 0)
  for (const [index, { tag, permissions, id }] of entries.entries()) {
    const at = ACL_HEADER_BYTES + index * ACL_ENTRY_BYTES
    out.writeUInt16LE(tag, at)
    out.writeUInt16LE(permissions, at + 2)
    out.writeUInt32LE(isNamed(tag) ? id : NO_ID, at + 4)
  }
  return out
}

function isNamed(tag: number): boolean {
  return tag === ACL_TAG.user || tag === ACL_TAG.group
}

/**
 * acl(5), "VALID ACLs": one entry each for owner, group and others; a mask, needed as soon as somebody is named; in the
 * order of the tags, as Linux wants them.
 */
function checkOrder(entries: readonly AclEntry[]): void {
  const count = (tag: number): number => entries.filter((entry) => entry.tag === tag).length
  const isSorted = entries.every(({ tag }, at) => at === 0 || tag >= (entries[at - 1]?.tag ?? 0))
  const { userObj, user, groupObj, group, mask, other } = ACL_TAG
  const hasOnce = [userObj, groupObj, other].every((tag) => count(tag) === 1)
  const named = count(user) + count(group)
  const hasMask = count(mask) === 1 || (count(mask) === 0 && named === 0)
  const known = named + count(mask) + 3 === entries.length
  const isEachValid = entries.every(({ tag, permissions, id }) => permissions <= ALL && !(isNamed(tag) && id === NO_ID))
  if (!(isSorted && hasOnce && hasMask && known && isEachValid)) throw new PosixError('EINVAL', 'not a valid ACL')
}
