/**
 * Extended attributes. The kernel asks for `security.capability` before writes and for ACLs before it grants or refuses
 * access, so the answers come from memory where they can: that there are none from the cached attributes, values from here.
 *
 * Invariant: a value kept here belongs to one object of the attribute cache and is valid for as long as that is there. Every
 * change of an attribute, here or at another client, drops or replaces it (an attr event, a mutation of ours that settles).
 */
import { PosixError, isErrno } from '../base/errno.js'
import { aclKind } from '../base/acl.js'
import type { Attr, Seen } from '../meta/contract.js'
import type { VfsContext } from './context.js'
import type { VfsContract } from './contract.js'
import { Lru } from './lru.js'
import { checkXattrName, checkXattrValue, xattrMode } from './names.js'

/** Inodes with attributes, values of each, bytes of a value: all that is kept is below 64 MiB. */
const INODES_MAX = 8192
const VALUES_MAX = 8
const VALUE_MAX_BYTES = 1024
/** Rights of an executable, which every write takes away. */
const CAPABILITY = Buffer.from('security.capability')

interface Known {
  readonly attr: Attr
  /** By latin1 name; null: there is no such attribute. */
  readonly values: Map<string, Buffer | null>
}

export class Xattrs {
  readonly #context: VfsContext
  readonly #known = new Lru<number, Known>(INODES_MAX)

  constructor(context: VfsContext) {
    this.#context = context
  }

  async get(ino: number, name: Buffer): Promise<Buffer> {
    checkXattrName(name)
    aclKind(name)
    const attr = this.#context.attrs.peek(ino)
    if (attr?.hasXattrs === false) throw new PosixError('ENODATA')
    const known = attr === undefined ? undefined : this.#values(attr).get(name.toString('latin1'))
    if (known === null) throw new PosixError('ENODATA')
    return known ?? (await this.#ask(ino, name, attr))
  }

  async list(ino: number): Promise<readonly Buffer[]> {
    if (this.#context.attrs.peek(ino)?.hasXattrs === false) return []
    return await this.#context.meta.listxattr(ino)
  }

  async set(...[ino, name, value, flags, clearSgid, seen]: Parameters<VfsContract['setxattr']>): Promise<void> {
    checkXattrName(name)
    checkXattrValue(value)
    const mode = xattrMode(flags)
    if (mode === 'both') {
      // Both flags ask for what cannot be: ENODATA if it is missing (thrown here), EEXIST if it is there.
      await this.#context.meta.getxattr(ino, name)
      throw new PosixError('EEXIST')
    }
    await this.#change(ino, name, () => this.#context.meta.setxattr(ino, name, value, mode, clearSgid, seen))
  }

  async remove(ino: number, name: Buffer, seen?: Seen): Promise<void> {
    checkXattrName(name)
    aclKind(name)
    if (this.#context.attrs.peek(ino)?.hasXattrs === false) throw new PosixError('ENODATA')
    await this.#change(ino, name, () => this.#context.meta.removexattr(ino, name, seen))
  }

  /** What was written before must not take away a capability that is set now: its commit comes first. */
  async #change(ino: number, name: Buffer, change: () => Promise<void>): Promise<void> {
    const writer = this.#context.states.peek(ino)?.writer
    if (writer?.isDirty && name.equals(CAPABILITY)) await writer.barrier(() => this.#touching(ino, change))
    else await this.#touching(ino, change)
  }

  /** A change of the inode whose new attributes do not come along. */
  async #touching(ino: number, change: () => Promise<void>): Promise<void> {
    const mutation = this.#context.fresh.begin(ino)
    try {
      await change()
    } finally {
      this.#context.attrs.settle(mutation, null)
    }
  }

  /** `attr`: as cached before the question, undefined if nothing was. */
  async #ask(ino: number, name: Buffer, attr: Attr | undefined): Promise<Buffer> {
    const { meta, fresh } = this.#context
    const mark = fresh.mark()
    let value: Buffer | null = null
    try {
      value = await meta.getxattr(ino, name)
      return value
    } catch (error) {
      if (!isErrno(error, 'ENODATA')) attr = undefined
      throw error
    } finally {
      if (attr !== undefined && fresh.inodeIsFresh(ino, mark)) this.#keep(attr, name, value)
    }
  }

  #keep(attr: Attr, name: Buffer, value: Buffer | null): void {
    if (this.#context.attrs.peek(attr.ino) !== attr) return
    const values = this.#values(attr)
    if (values.size < VALUES_MAX && (value?.length ?? 0) <= VALUE_MAX_BYTES) values.set(name.toString('latin1'), value)
  }

  #values(attr: Attr): Map<string, Buffer | null> {
    const known = this.#known.get(attr.ino)
    if (known?.attr === attr) return known.values
    const values = new Map<string, Buffer | null>()
    this.#known.set(attr.ino, { attr, values })
    return values
  }
}
