/** Paths to inodes, one lookup a component; the VFS answers them from memory as long as it may. */
import { basename, dirname } from 'node:path/posix'
import { PosixError } from '../../base/errno.js'
import { ROOT_INO } from '../../base/limits.js'
import type { Attr, Caller, VfsContract } from '../../vfs/contract.js'
import type { Hidden } from './hidden.js'
import { encodeName } from './names.js'

export interface Entry {
  /** Inode of the directory. */
  readonly parent: number
  readonly name: Buffer
}

/** The library's paths: absolute, without `.`, `..` or empty components, symbolic links already followed by the kernel. */
export class Paths {
  readonly #vfs: VfsContract
  readonly #caller: Caller
  readonly #hidden: Hidden

  constructor(vfs: VfsContract, caller: Caller, hidden: Hidden) {
    this.#vfs = vfs
    this.#caller = caller
    this.#hidden = hidden
  }

  /** Errors: PosixError ENOENT, ENOTDIR, EILSEQ, ENAMETOOLONG, and what lookup throws. */
  async ino(path: string): Promise<number> {
    return (await this.#hidden.resolve(path)) ?? (path === '/' ? ROOT_INO : (await this.#lookup(path)).ino)
  }

  /** Errors: as ino. */
  async attr(path: string): Promise<Attr> {
    const { waiting } = this.#hidden
    const hidden = await this.#hidden.resolve(path)
    if (hidden !== undefined) return this.hiddenAttr(hidden)
    const attr = path === '/' ? undefined : await this.#lookup(path)
    const ino = attr?.ino ?? ROOT_INO
    const isStale = await this.#hidden.waitFor(ino, waiting)
    return attr === undefined || isStale ? this.#vfs.getattr(this.#caller, ino) : attr
  }

  /** The library counts the hidden name as a link and takes it off again (fuse_lib_getattr). */
  async hiddenAttr(ino: number): Promise<Attr> {
    const attr = await this.#vfs.getattr(this.#caller, ino)
    return { ...attr, nlink: attr.nlink + 1 }
  }

  /** For a call that changes the name. Errors: as ino. */
  async entry(path: string): Promise<Entry> {
    await this.#hidden.settleIn(dirname(path))
    return this.locate(path)
  }

  /** The same, and what waits in the directory goes on waiting. Errors: as ino. */
  async locate(path: string): Promise<Entry> {
    // The root itself can be neither made nor removed nor moved; the kernel does not ask for it.
    if (path === '/') throw new PosixError('EBUSY')
    return { parent: await this.ino(dirname(path)), name: encodeName(basename(path)) }
  }

  async #lookup(path: string): Promise<Attr> {
    await this.#hidden.wait(path)
    const names = path.slice(1).split('/').map(encodeName)
    let attr: Attr | undefined
    for (const name of names) attr = await this.#vfs.lookup(this.#caller, attr?.ino ?? ROOT_INO, name)
    if (attr === undefined) throw new PosixError('ENOENT')
    return attr
  }
}
