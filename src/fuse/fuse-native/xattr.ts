/** Extended attributes as the library wants them, and the ones that this driver does not take. */
import { ERRNO, PosixError } from '../../base/errno.js'

const FILE_CAPABILITIES = 'security.capability'
const ACLS = new Set(['system.posix_acl_access', 'system.posix_acl_default'])

/**
 * - File capabilities: the kernel asks for them before every single write. The mount is nosuid, where they have no effect, so there
 *   are none, and nobody goes to the metadata for it.
 * - ACLs: nobody would enforce them under libfuse 2, so keeping them would promise a protection that is not there. What a
 *   mount of the kernel driver made stays in the store and follows chmod and creation, but here only the mode is checked.
 * Errors: PosixError ENODATA, EOPNOTSUPP.
 */
export function refuseXattr(name: string, access: 'get' | 'set'): void {
  if (ACLS.has(name)) throw new PosixError('EOPNOTSUPP')
  if (name === FILE_CAPABILITIES) throw new PosixError(access === 'get' ? 'ENODATA' : 'EOPNOTSUPP')
}

/** Copies the value into the caller's memory and answers its length; an empty one only asks for the length. */
export function xattrResult(value: Buffer, into: Buffer): number {
  if (into.length === 0) return value.length
  if (value.length > into.length) return -ERRNO.ERANGE
  return value.copy(into)
}

/** listxattr(2): each name with a NUL after it. ACLs that another mount made are not shown: they cannot be read here. */
export function joinNames(names: readonly Buffer[]): Buffer {
  const shown = names.filter((name) => !ACLS.has(name.toString('latin1')))
  return Buffer.concat(shown.flatMap((name) => [name, Buffer.alloc(1)]))
}
