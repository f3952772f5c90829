/**
 * Set-id bits that go with what somebody without CAP_FSETID does (HANDLE_KILLPRIV_V2). The kernel leaves them to us, and says
 * neither whether there are any nor whether the caller is in the file's group.
 */
import type { Attr, Caller, VfsContract } from '../../../vfs/contract.js'
import { isInGroup } from '../groups.js'
import { judged, rightsOf } from './owner.js'

const SUID = 0o4000
const SGID = 0o2000
const SGID_AND_EXEC = 0o2010

/**
 * Somebody outside the group takes sgid away also where the group may not execute, and it means nothing. Answers the mode that is left
 * then. undefined: the store takes away what goes.
 */
export async function modeForStranger(caller: Caller, { mode, gid, type }: Attr): Promise<number | undefined> {
  if (type === 'directory' || (mode & SGID_AND_EXEC) !== SGID) return undefined
  return (await isInGroup(caller, gid)) ? undefined : mode & ~(SUID | SGID)
}

/** Before a file is written to. Answers what is left if anything was taken away. */
export function dropSetid(vfs: VfsContract, caller: Caller, node: number): Promise<Attr | undefined> {
  return judged(vfs, caller, node, async (attr) => {
    if (attr.type !== 'file' || (attr.mode & (SUID | SGID)) === 0) return undefined
    const mode = await modeForStranger(caller, attr)
    if (mode === undefined && (attr.mode & SUID) === 0 && (attr.mode & SGID_AND_EXEC) === SGID) return undefined
    const left = mode === undefined ? {} : { mode, seen: rightsOf(attr) }
    return vfs.setattr(caller, node, { dropPrivileges: true, ...left })
  })
}

/**
 * Of a file that is cut: the store takes away with that what needs no look at the caller's groups. Answers what is left if it was
 * not enough. `known`: as it is, if that was just asked.
 */
export function dropOfStranger(
  vfs: VfsContract,
  caller: Caller,
  node: number,
  known?: Attr,
): Promise<Attr | undefined> {
  const drop = async (attr: Attr): Promise<Attr | undefined> => {
    const mode = await modeForStranger(caller, attr)
    return mode === undefined ? undefined : vfs.setattr(caller, node, { mode, seen: rightsOf(attr) })
  }
  return judged(vfs, caller, node, drop, known)
}
