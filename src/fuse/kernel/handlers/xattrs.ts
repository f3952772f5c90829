/** Extended attributes. ACLs are attributes, too: of `system`, where the VFS knows what else there is not. */
import { aclKind } from '../../../base/acl.js'
import { ERRNO, PosixError, isErrno } from '../../../base/errno.js'
import { XATTR_NAME_MAX_BYTES } from '../../../base/limits.js'
import type { Attr, Caller, Seen, VfsContract } from '../../../vfs/contract.js'
import { SETXATTR_EXT } from '../init.js'
import { checkOwner, isForeignSgid, judged, ownerOf, ownersOf } from './owner.js'
import { nameAt, type Answer, type AtOnceTable, type HandlerTable, type Request } from './request.js'

const ACL_KILL_SGID = 1
/** xattr(7). */
const NAMESPACES = ['user.', 'trusted.', 'security.', 'system.'].map((prefix) => Buffer.from(prefix))
const TRUSTED = Buffer.from('trusted.')
/** The ACLs: nothing else of it is there. */
const SYSTEM = Buffer.from('system.')

export class XattrHandlers {
  readonly #vfs: VfsContract

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
  }

  readonly table: HandlerTable = {
    getxattr: (request) => this.#getxattr(request),
    listxattr: (request) => this.#listxattr(request),
    setxattr: (request) => this.#setxattr(request),
    removexattr: (request) => this.#removexattr(request),
  }

  readonly atOnce: AtOnceTable = {
    getxattr: ({ node, names }) => {
      const name = attributeAt(names)
      // What else of `system` there is not the VFS says in another way; a name that is too long, too.
      if (name.length > XATTR_NAME_MAX_BYTES || startsWith(name, SYSTEM)) return undefined
      return this.#vfs.atHand.hasNoXattrs(node) ? ERRNO.ENODATA : undefined
    },
  }

  /** Removing an ACL is having none, as on local disks: it succeeds without one. */
  async #removexattr({ caller, node, names }: Request): Promise<Answer> {
    const name = attributeAt(names)
    try {
      if (aclKind(name) === null) await this.#vfs.removexattr(node, name)
      else await this.#asOwner(caller, node, (attr) => this.#vfs.removexattr(node, name, attr && ownerOf(attr)))
    } catch (error) {
      const isNone = isErrno(error, 'ENODATA')
      if (!isNone || !startsWith(name, SYSTEM)) throw error
    }
    return undefined
  }

  async #getxattr({ node, body, names }: Request): Promise<Answer> {
    return sized(await this.#vfs.getxattr(node, attributeAt(names)), body.readUInt32LE(0))
  }

  /** The kernel lets root alone read what is trusted; its names are for us to keep back. */
  async #listxattr({ node, caller, body }: Request): Promise<Answer> {
    const names = await this.#vfs.listxattr(node)
    const shown = caller.uid === 0 ? names : names.filter((name) => !startsWith(name, TRUSTED))
    const end = Buffer.alloc(1)
    return sized(Buffer.concat(shown.flatMap((name) => [name, end])), body.readUInt32LE(0))
  }

  async #setxattr(request: Request): Promise<Answer> {
    const { caller, node, body, names, rest } = request
    const value = body.subarray(rest)
    const name = attributeAt(names)
    if (value.length !== body.readUInt32LE(0)) throw new PosixError('EINVAL', 'an attribute without all of its bytes')
    const flags = body.readUInt32LE(4)
    const set = (clearsSgid: boolean, seen?: Seen): Promise<void> =>
      this.#vfs.setxattr(node, name, Buffer.from(value), flags, clearsSgid, seen)
    if (aclKind(name) === null) await set(false)
    else {
      await this.#asOwner(caller, node, async (attr) => set(await clearsSgid(request, attr), attr && ownersOf(attr)))
    }
    return undefined
  }

  /** Of root, whose it is does not matter: without attributes. */
  async #asOwner(caller: Caller, node: number, change: (attr?: Attr) => Promise<void>): Promise<void> {
    if (caller.uid === 0) return await change()
    await judged(this.#vfs, caller, node, async (attr) => {
      await checkOwner(caller, attr)
      await change(attr)
    })
  }
}

/**
 * The kernel says so by the group that it holds. One that does not say so knows the caller's other groups, and we do not: only his
 * first counts then.
 */
async function clearsSgid({ agreed, body, caller }: Request, attr: Attr | undefined): Promise<boolean> {
  if ((agreed & SETXATTR_EXT) === 0) return attr !== undefined && attr.gid !== caller.gid
  if ((body.readUInt32LE(8) & ACL_KILL_SGID) !== 0) return true
  return attr !== undefined && (await isForeignSgid(caller, attr))
}

/** As local disks: a name outside the namespaces is EOPNOTSUPP, one that is a namespace's name alone EINVAL. */
function attributeAt(names: readonly Buffer[]): Buffer {
  const name = nameAt(names, 0)
  const namespace = NAMESPACES.find((prefix) => startsWith(name, prefix))
  if (namespace === undefined) throw new PosixError('EOPNOTSUPP', 'no such namespace of attributes')
  if (name.length === namespace.length) throw new PosixError('EINVAL', 'a namespace without a name')
  return name
}

function startsWith(name: Buffer, prefix: Buffer): boolean {
  return name.subarray(0, prefix.length).equals(prefix)
}

/** getxattr(2), listxattr(2): size 0 asks how much there is. */
function sized(value: Buffer, room: number): Buffer {
  if (room === 0) {
    const out = Buffer.alloc(8)
    out.writeUInt32LE(value.length, 0)
    return out
  }
  if (value.length > room) throw new PosixError('ERANGE', 'the value is longer than the caller has room for')
  return value
}
