/** Who may write to what, where the kernel has not asked: acl(5), ACCESS CHECK ALGORITHM. Of the owner it is not for here. */
import { ACL_TAG, aclName, decodeAcl, type AclEntry } from '../../../base/acl.js'
import { isErrno } from '../../../base/errno.js'
import type { Attr, Caller, VfsContract } from '../../../vfs/contract.js'
import { CAP_DAC_OVERRIDE, hasCapability } from '../capabilities.js'
import { isInGroup } from '../groups.js'

const WRITE = 2
const GROUP_CLASS = 0o070

/** For a caller who does not own it. */
export async function mayWrite(vfs: VfsContract, caller: Caller, attr: Attr): Promise<boolean> {
  // Linux looks at no ACL whose mask lets nobody in.
  const entries = attr.hasXattrs && (attr.mode & GROUP_CLASS) !== 0 ? await entriesOf(vfs, attr.ino) : undefined
  const isLet = entries === undefined ? await byMode(caller, attr) : await byEntries(caller, attr, entries)
  return isLet || (await hasCapability(caller.pid, CAP_DAC_OVERRIDE, attr))
}

async function byMode(caller: Caller, { mode, gid }: Attr): Promise<boolean> {
  const [group, others] = [((mode >> 3) & WRITE) !== 0, (mode & WRITE) !== 0]
  return group === others ? others : (await isInGroup(caller, gid)) === group
}

async function byEntries(caller: Caller, { gid }: Attr, entries: readonly AclEntry[]): Promise<boolean> {
  const { user, groupObj, group, mask, other } = ACL_TAG
  const lets = ({ permissions }: AclEntry): boolean => (permissions & WRITE) !== 0
  const isMasked = entries.some((entry) => entry.tag === mask && !lets(entry))
  const named = entries.find(({ tag, id }) => tag === user && id === caller.uid)
  if (named !== undefined) return lets(named) && !isMasked
  let isOfOne = false
  for (const entry of entries) {
    if (entry.tag !== groupObj && entry.tag !== group) continue
    if (!(await isInGroup(caller, entry.tag === group ? entry.id : gid))) continue
    if (lets(entry)) return !isMasked
    isOfOne = true
  }
  return !isOfOne && entries.some((entry) => entry.tag === other && lets(entry))
}

async function entriesOf(vfs: VfsContract, ino: number): Promise<readonly AclEntry[] | undefined> {
  try {
    return decodeAcl(await vfs.getxattr(ino, aclName('access')))
  } catch (error) {
    if (isErrno(error, 'ENODATA')) return undefined
    throw error
  }
}
