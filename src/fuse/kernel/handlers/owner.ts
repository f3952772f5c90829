/**
 * Whose an inode is. Before SETATTR, and before an ACL is set or removed, the kernel compares the caller with the owner that it
 * holds, and does not ask for him first (setattr_prepare, set_posix_acl), as it does where it compares the mode: of what another client has given
 * away since, that is the one of before. So it is looked at again here.
 */
import { PosixError } from '../../../base/errno.js'
import type { Attr, AttrChange, Caller, TimeSpec, VfsContract } from '../../../vfs/contract.js'
import { CAP_CHOWN, CAP_FOWNER, hasCapability } from '../capabilities.js'

const SET_ID = 0o6000

/** Errors: EPERM. */
export async function checkOwner(vfs: VfsContract, caller: Caller, node: number): Promise<void> {
  if (caller.uid === 0) return
  await check(caller, await look(vfs, caller, node), CAP_FOWNER)
}

/** For a change of attributes. Errors: EPERM. */
export async function checkChange(vfs: VfsContract, caller: Caller, node: number, change: AttrChange): Promise<void> {
  const { mode, uid, gid, atime, mtime } = change
  const isOwners = mode !== undefined || isGiven(atime) || isGiven(mtime)
  const isChown = (uid ?? gid) !== undefined
  if (caller.uid === 0 || !(isOwners || isChown)) return
  const attr = await look(vfs, caller, node)
  // Older kernels take set-id bits away in this way, for whoever writes.
  if (isOwners && !takesSetidOnly(attr.mode, change)) await check(caller, attr, CAP_FOWNER)
  if (isChown) await check(caller, attr, CAP_CHOWN)
}

/** What is set to the time of now takes no more than the right to write, which the kernel has asked for. */
function isGiven(time: TimeSpec | 'now' | undefined): boolean {
  return time !== undefined && time !== 'now'
}

function takesSetidOnly(before: number, { mode = before, atime, mtime }: AttrChange): boolean {
  return (mode | SET_ID) === (before | SET_ID) && (mode & ~before) === 0 && !isGiven(atime) && !isGiven(mtime)
}

async function look(vfs: VfsContract, caller: Caller, node: number): Promise<Attr> {
  return vfs.atHand.getattr(node) ?? (await vfs.getattr(caller, node))
}

async function check({ uid, pid }: Caller, attr: Attr, capability: number): Promise<void> {
  if (attr.uid === uid) return
  const owned = capability === CAP_CHOWN ? attr : { uid: attr.uid }
  if (await hasCapability(pid, capability, owned)) return
  throw new PosixError('EPERM', 'it belongs to somebody else')
}
