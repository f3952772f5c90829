/**
 * An inode that is gone, because another client removed it a moment ago while the kernel still knew its name: answered with
 * ESTALE, not with ENOENT. At ESTALE the kernel walks the path again and asks for each name on it (LOOKUP_REVAL), and finds
 * what has the name now; ENOENT would go to the program, which would miss a file that was there all the time (a rename over
 * it), or a name in a directory that was replaced.
 */
import { PosixError, isErrno } from '../../base/errno.js'
import type { Caller, VfsContract } from '../../vfs/contract.js'

/** The inode itself is asked for, and nothing else that could be missing. */
const OF_INODE: ReadonlySet<string> = new Set([
  ...[
    'getattr',
    'statx',
    'setattr',
    'readlink',
    'open',
    'opendir',
    'getxattr',
    'listxattr',
    'setxattr',
    'removexattr',
    'access',
  ],
])
/** A name in a directory: either may be missing. */
const OF_NAME: ReadonlySet<string> = new Set([
  ...['lookup', 'create', 'tmpfile', 'mknod', 'mkdir', 'symlink', 'link', 'unlink', 'rmdir', 'rename', 'rename2'],
])

/** What to answer in place of `error`. */
export async function staleInstead(
  error: unknown,
  vfs: VfsContract,
  opcode: string,
  caller: Caller,
  node: number,
): Promise<unknown> {
  if (!isErrno(error, 'ENOENT')) return error
  const isOfInode = OF_INODE.has(opcode) || (OF_NAME.has(opcode) && (await isGone(vfs, caller, node)))
  return isOfInode ? new PosixError('ESTALE', 'the inode is gone', { cause: error }) : error
}

/** As `staleInstead`, of a thread that walked the path again and came here: ESTALE would go to the program. */
export async function goneInstead(
  error: unknown,
  vfs: VfsContract,
  opcode: string,
  caller: Caller,
  node: number,
): Promise<unknown> {
  if (!isErrno(error, 'ESTALE') || !OF_NAME.has(opcode) || !(await isGone(vfs, caller, node))) return error
  return new PosixError('ENOENT', 'the directory is gone', { cause: error })
}

/** Mostly known without asking: who looks up a name in a directory has looked at the directory. */
async function isGone(vfs: VfsContract, caller: Caller, node: number): Promise<boolean> {
  try {
    await vfs.getattr(caller, node)
    return false
  } catch (error) {
    return isErrno(error, 'ENOENT')
  }
}
