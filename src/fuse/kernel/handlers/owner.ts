/**
 * Whose an inode is. Before SETATTR, and before an ACL is set or removed, the kernel compares the caller with the owner and the group
 * that it holds, and does not ask for them first (setattr_prepare, set_posix_acl), as it does where it compares the mode: of what another
 * client has given away since, these are the ones of before. So it is looked at again here.
 *
 * Invariant: the store makes the change of an inode that is as it was looked at, or not at all; then it is judged anew.
 */
import { ChangedHandsError, PosixError, isErrno } from '../../../base/errno.js'
import type { Attr, AttrChange, Caller, Seen, TimeSpec, VfsContract } from '../../../vfs/contract.js'
import { CAP_CHOWN, CAP_FOWNER, CAP_FSETID, hasCapability } from '../capabilities.js'
import { isInGroup } from '../groups.js'
import { mayWrite } from './access.js'

const SET_ID = 0o6000
const SGID = 0o2000
/** In each of these it was given away anew. */
const TRIES_MAX = 16

/**
 * Has `change` made, which throws what the caller may not do to an inode with these attributes, and takes them along as `seen`. What is known
 * here may be of before, as long as nobody has told: nobody is refused by that alone.
 */
export async function judged<T>(
  vfs: VfsContract,
  caller: Caller,
  node: number,
  change: (attr: Attr) => Promise<T>,
  known?: Attr,
): Promise<T> {
  let attr = known
  let isAsked = false
  for (let tries = 1; ; tries++) {
    try {
      return await change(attr ?? vfs.atHand.getattr(node) ?? (await vfs.getattr(caller, node)))
    } catch (error) {
      if (tries === TRIES_MAX) throw error
      if (error instanceof ChangedHandsError) attr = undefined
      else if (isRefusal(error) && !isAsked) {
        isAsked = true
        attr = await vfs.getattr(caller, node, true)
      } else throw error
    }
  }
}

function isRefusal(error: unknown): boolean {
  return isErrno(error, 'EPERM') || isErrno(error, 'EACCES')
}

/** What a change rests on for whose making it counts who the owner is, and nothing else. */
export function ownerOf({ uid }: Attr): Seen {
  return { uid }
}

/** The same where the group counts, too. */
export function ownersOf({ uid, gid }: Attr): Seen {
  return { uid, gid }
}

/** The same where the mode does. */
export function rightsOf({ uid, gid, mode }: Attr): Seen {
  return { uid, gid, mode }
}

/** Whether it is for us to judge. Root has all rights; to cut a file takes the right to write, which the kernel asks for. */
export function isJudged({ uid: caller }: Caller, change: AttrChange): boolean {
  if (caller === 0) return false
  const { mode, uid, gid, sizeBytes } = change
  return (mode ?? uid ?? gid) !== undefined || setsTimes(change) || sizeBytes === undefined
}

/** Such a change as the caller may make it, but for a size. `older`: the kernel is without HANDLE_KILLPRIV_V2. Errors: EPERM, EACCES. */
export async function rightful(
  vfs: VfsContract,
  caller: Caller,
  attr: Attr,
  change: AttrChange,
  older: boolean,
): Promise<AttrChange> {
  const { mode, uid, gid, atime, mtime } = change
  if ((uid ?? gid) !== undefined) await checkChown(caller, attr, gid)
  // Older kernels take set-id bits away in this way, for whoever writes.
  if (older && takesSetidOnly(attr.mode, change)) return { ...change, seen: rightsOf(attr) }
  if (mode !== undefined || setsTimes(change)) await checkOwner(caller, attr)
  else if ((atime ?? mtime) !== undefined) await checkTouch(vfs, caller, attr)
  const isForeign = mode !== undefined && (await isForeignSgid(caller, { ...attr, mode, gid: gid ?? attr.gid }))
  const seen = restsOnGroup(caller, attr, change) ? ownersOf(attr) : ownerOf(attr)
  return { ...change, ...(isForeign ? { mode: mode & ~SGID } : {}), seen }
}

/** Whose group it is counts for a new owner, for set-gid, and for a touch by who does not own it. */
function restsOnGroup(caller: Caller, attr: Attr, change: AttrChange): boolean {
  const { mode, uid, gid } = change
  if ((uid ?? gid) !== undefined) return true
  return mode === undefined ? !setsTimes(change) && caller.uid !== attr.uid : (mode & SGID) !== 0
}

/** Errors: EPERM. */
export async function checkOwner(caller: Caller, attr: Attr): Promise<void> {
  if (await isOwner(caller, attr)) return
  throw new PosixError('EPERM', 'it belongs to somebody else')
}

/** A set-gid bit that he may not give. Who cannot be seen may: the kernel has judged before us. */
export async function isForeignSgid(caller: Caller, { mode, uid, gid }: Attr): Promise<boolean> {
  if (caller.uid === 0 || (mode & SGID) === 0 || (await isInGroup(caller, gid))) return false
  return !(await hasCapability(caller.pid, CAP_FSETID, { uid, gid }))
}

async function isOwner({ uid, pid }: Caller, attr: Attr): Promise<boolean> {
  return uid === attr.uid || (await hasCapability(pid, CAP_FOWNER, { uid: attr.uid }))
}

/** Who owns it may give it to a group of his, and leave it to the one that it has. */
async function checkChown(caller: Caller, attr: Attr, gid = attr.gid): Promise<void> {
  if (attr.uid === caller.uid && (gid === attr.gid || (await isInGroup(caller, gid)))) return
  if (await hasCapability(caller.pid, CAP_CHOWN, attr)) return
  throw new PosixError('EPERM', 'it belongs to somebody else')
}

/** Both times of now take no more than the right to write. The kernel has asked for that, unless it took him for the owner. */
async function checkTouch(vfs: VfsContract, caller: Caller, attr: Attr): Promise<void> {
  if (caller.uid === attr.uid || (await mayWrite(vfs, caller, attr)) || (await isOwner(caller, attr))) return
  throw new PosixError('EACCES', 'it belongs to somebody else')
}

/** What only the owner may: one of both alone is not a touch, be it now (utimensat(2), ATTR_TIMES_SET). With a size it is the cut's. */
function setsTimes({ atime, mtime, sizeBytes }: AttrChange): boolean {
  const isAlone = (atime === undefined) !== (mtime === undefined)
  return isGiven(atime) || isGiven(mtime) || (isAlone && sizeBytes === undefined)
}

function isGiven(time: TimeSpec | 'now' | undefined): boolean {
  return time !== undefined && time !== 'now'
}

function takesSetidOnly(before: number, { mode, atime, mtime }: AttrChange): boolean {
  if (mode === undefined || (atime ?? mtime) !== undefined) return false
  return (mode | SET_ID) === (before | SET_ID) && (mode & ~before) === 0
}
