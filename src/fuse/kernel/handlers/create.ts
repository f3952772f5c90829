/**
 * CREATE. The kernel sends it for a name that it believes not to exist, and takes what comes for made by the caller: it
 * does not check his rights. Another client may have made the file first, for himself alone.
 *
 * Invariant: a file that was there already is opened here only for whom the mode alone lets in for certain, its owner or
 * root. For anybody else the answer is ESTALE: the kernel then looks the name up anew, and opens the file with its checks.
 */
import { PosixError, isErrno } from '../../../base/errno.js'
import type { Attr, Caller, CreatedFile, VfsContract } from '../../../vfs/contract.js'
import { dropOfStranger } from './setid.js'

const O_ACCMODE = 3
const O_TRUNC = 0o1000
const READ = 4
const WRITE = 2
/** By access mode: O_RDONLY, O_WRONLY, O_RDWR. */
const WANTED = [READ, WRITE, READ | WRITE]

export async function createFile(
  vfs: VfsContract,
  caller: Caller,
  parent: number,
  name: Buffer,
  mode: number,
  flags: number,
): Promise<CreatedFile> {
  // What is not his must not be cut before it is known whose it is.
  const made = await vfs.create(caller, parent, name, mode, flags & ~O_TRUNC).catch(lookAgain)
  if (made.created) return made
  try {
    if (!isAdmitted(caller, made.attr, flags)) throw new PosixError('ESTALE', 'the name came to another file')
    if ((flags & O_TRUNC) === 0) return made
    const { ino } = made.attr
    if (caller.keepsSetid === false) await dropOfStranger(vfs, caller, ino, made.attr)
    return { ...made, attr: await vfs.setattr(caller, ino, { sizeBytes: 0 }) }
  } catch (error) {
    await vfs.release(made.handle)
    throw error
  }
}

/** What is no file came to the name: it is not for us to open. */
function lookAgain(error: unknown): never {
  const isOther = isErrno(error, 'ELOOP') || isErrno(error, 'ENXIO')
  throw isOther ? new PosixError('ESTALE', 'the name came to something else', { cause: error }) : error
}

function isAdmitted({ uid }: Caller, attr: Attr, flags: number): boolean {
  if (uid === 0) return true
  const wanted = (WANTED[flags & O_ACCMODE] ?? 0) | ((flags & O_TRUNC) === 0 ? 0 : WRITE)
  return uid === attr.uid && ((attr.mode >> 6) & wanted) === wanted
}
