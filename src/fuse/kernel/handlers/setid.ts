/**
 * Set-id bits that go with what somebody without CAP_FSETID does (HANDLE_KILLPRIV_V2). The kernel leaves them to us, and says
 * neither whether there are any nor whether the caller is in the file's group.
 */
import type { Attr, Caller, VfsContract } from '../../../vfs/contract.js'
import { isInGroup } from '../groups.js'

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
export async function dropSetid(vfs: VfsContract, caller: Caller, node: number): Promise<Attr | undefined> {
  const attr = await vfs.getattr(caller, node)
  if (attr.type !== 'file' || (attr.mode & (SUID | SGID)) === 0) return undefined
  const mode = await modeForStranger(caller, attr)
  if (mode === undefined && (attr.mode & SUID) === 0 && (attr.mode & SGID_AND_EXEC) === SGID) return undefined
  return vfs.setattr(caller, node, { dropPrivileges: true, ...(mode === undefined ? {} : { mode }) })
}

/** Of a file that was cut when it was opened: the store took away what needs no look at the caller's groups. Answers what is left. */
export async function dropOfStranger(vfs: VfsContract, caller: Caller, attr: Attr): Promise<Attr> {
  const mode = await modeForStranger(caller, attr)
  return mode === undefined ? attr : vfs.setattr(caller, attr.ino, { mode })
}
