/** Extended attributes, and POSIX ACLs, which come as such. Limits as in linux/limits.h and base/limits.ts. */
import { PosixError } from '../base/errno.js'
import { XATTRS_MAX_BYTES, XATTR_NAMES_MAX_BYTES, XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../base/limits.js'
import { aclKind, aclName, parseAcl, type Acl, type AclKind } from '../base/acl.js'
import { seenArgs } from './attribute-args.js'
import type { MetaStore, Seen, XattrMode } from './contract.js'
import type { Core } from './core.js'
import { SCRIPTS } from './scripts.js'

/** What set-acl.lua stores and what it makes of the mode. */
interface AclChange {
  readonly bytes: Buffer
  /** -1: the mode stays. */
  readonly permissions: number
  readonly clearSgid: boolean
}

const NOTHING: AclChange = { bytes: Buffer.alloc(0), permissions: -1, clearSgid: false }

export class Xattrs {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  async get(ino: number, name: Buffer): Promise<Buffer> {
    checkName(name)
    const { keys } = this.#core
    const kind = aclKind(name)
    const [key, field] = kind === null ? [keys.of(ino).xattrs(ino), name] : [keys.of(ino).acls, fieldOf(kind, ino)]
    const reply = await this.#core.read(SCRIPTS.getxattr, keys.home(ino), [key], [ino, field])
    return reply.buffer(1)
  }

  async list(ino: number): Promise<readonly Buffer[]> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    const own = [partition.xattrs(ino), partition.acls]
    const reply = await this.#core.read(SCRIPTS.listxattr, keys.home(ino), own, [ino])
    const names = reply.list(1).filter((name): name is Buffer => Buffer.isBuffer(name))
    if (reply.number(2) === 1) names.push(aclName('access'))
    if (reply.number(3) === 1) names.push(aclName('default'))
    return names
  }

  async set(...[ino, name, value, mode, clearSgid = false, seen]: Parameters<MetaStore['setxattr']>): Promise<void> {
    checkName(name)
    if (value.length > XATTR_VALUE_MAX_BYTES) throw new PosixError('E2BIG', 'the value of an attribute is too long')
    const kind = aclKind(name)
    if (kind !== null) {
      await this.#setAcl(ino, kind, changeOf(kind, parseAcl(value), clearSgid), mode, seen)
      return
    }
    const { keys } = this.#core
    const args = [ino, name, value, mode, XATTR_NAMES_MAX_BYTES, XATTRS_MAX_BYTES]
    await this.#core.change(SCRIPTS.setxattr, keys.home(ino), [keys.of(ino).xattrs(ino)], args)
  }

  async remove(ino: number, name: Buffer, seen?: Seen): Promise<void> {
    checkName(name)
    const kind = aclKind(name)
    if (kind !== null) {
      await this.#setAcl(ino, kind, NOTHING, 'remove', seen)
      return
    }
    const { keys } = this.#core
    const partition = keys.of(ino)
    await this.#core.change(SCRIPTS.removexattr, keys.home(ino), [partition.xattrs(ino), partition.acls], [ino, name])
  }

  async #setAcl(
    ino: number,
    kind: AclKind,
    change: AclChange,
    mode: XattrMode | 'remove',
    seen: Seen | undefined,
  ): Promise<void> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    await this.#core.change(
      SCRIPTS.setAcl,
      keys.home(ino),
      [partition.acls, partition.xattrs(ino)],
      [ino, letterOf(kind), mode, change.bytes, change.permissions, change.clearSgid ? 1 : 0, ...seenArgs(seen)],
    )
  }
}

function changeOf(kind: AclKind, acl: Acl | null, clearSgid: boolean): AclChange {
  if (acl === null) return NOTHING
  if (kind === 'default') return { ...NOTHING, bytes: acl.bytes }
  return { bytes: acl.isMinimal ? NOTHING.bytes : acl.bytes, permissions: acl.permissions, clearSgid }
}

function letterOf(kind: AclKind): string {
  return kind === 'access' ? 'a' : 'd'
}

function fieldOf(kind: AclKind, ino: number): string {
  return `${letterOf(kind)}${ino}`
}

function checkName(name: Buffer): void {
  if (name.length === 0 || name.length > XATTR_NAME_MAX_BYTES || name.includes(0)) {
    throw new PosixError('ERANGE', `the name of an attribute has 1 to ${XATTR_NAME_MAX_BYTES} bytes`)
  }
}
