/** Names: lookup, make, move and remove. */
import { PosixError, isErrno } from '../../../base/errno.js'
import type { Attr, Caller, VfsContract } from '../../../vfs/contract.js'
import type { KernelCache } from '../kernel-cache.js'
import { encodeEntry, encodeNoEntry, readU64 } from '../wire.js'
import { callerMaking, nameAt, type Answer, type AtOnceTable, type HandlerTable, type Request } from './request.js'

const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const S_IFDIR = 0o040000
const S_IFMT = 0o170000
/** Each means that somebody gave the name to another file between two questions. */
const FINDS_MAX = 100

export class NameHandlers {
  readonly #vfs: VfsContract
  readonly #cache: KernelCache

  constructor(vfs: VfsContract, cache: KernelCache) {
    this.#vfs = vfs
    this.#cache = cache
  }

  readonly table: HandlerTable = {
    lookup: (request) => this.#lookup(request),
    readlink: ({ caller, node }) => this.#vfs.readlink(caller, node),
    symlink: async (request) => {
      const { caller, node, names } = request
      const name = nameAt(names, 0)
      return this.#entry(request, name, await this.#vfs.symlink(caller, node, name, nameAt(names, 1)))
    },
    mknod: (request) => this.#mknod(request),
    mkdir: async (request) => {
      const { caller, node, body, names } = request
      const name = nameAt(names, 0)
      const made = callerMaking(caller, body.readUInt32LE(4))
      return this.#entry(request, name, await this.#vfs.mkdir(made, node, name, body.readUInt32LE(0) & 0o7777))
    },
    unlink: (request) => this.#remove(request, (caller, parent, name) => this.#vfs.unlink(caller, parent, name)),
    rmdir: (request) => this.#remove(request, (caller, parent, name) => this.#vfs.rmdir(caller, parent, name)),
    rename: (request) => this.#rename(request, 0),
    rename2: (request) => this.#rename(request, request.body.readUInt32LE(8)),
    link: async ({ caller, node, body, names }) => {
      const name = nameAt(names, 0)
      const linked = await this.#vfs.link(caller, readU64(body, 0), node, name)
      const { attr, entryMs } = this.#cache.entry(node, name, linked)
      return encodeEntry(attr, { entryMs, attrMs: 0 })
    },
  }

  readonly atOnce: AtOnceTable = {
    lookup: (request) => {
      const { node, names, caller } = request
      if (this.#cache.secondWalks.has(caller.pid)) return undefined
      const name = nameAt(names, 0)
      const attr = this.#vfs.atHand.lookup(node, name)
      if (attr === undefined) return undefined
      if (attr !== null) return this.#entry(request, name, attr)
      const entryMs = this.#cache.noEntryMs(node, name)
      return entryMs === 0 ? undefined : encodeNoEntry(entryMs)
    },
  }

  #entry({ node, caller, askedMs }: Request, name: Buffer, given: Attr): Buffer {
    const { attr, ...lifetimes } = this.#cache.entry(node, name, given, caller.pid, askedMs)
    return encodeEntry(attr, lifetimes)
  }

  /** That there is no such name is an answer which the kernel may keep, too: an entry without an inode. */
  async #lookup(request: Request): Promise<Answer> {
    const { caller, node, names } = request
    const name = nameAt(names, 0)
    try {
      return this.#entry(request, name, await this.#find(caller, node, name))
    } catch (error) {
      const entryMs = isErrno(error, 'ENOENT') ? this.#cache.noEntryMs(node, name) : 0
      if (entryMs === 0) throw error
      this.#cache.secondWalks.end(caller.pid)
      return encodeNoEntry(entryMs)
    }
  }

  /** What the name means, which in a second walk is there to stay until the walk has ended. */
  async #find(caller: Caller, node: number, name: Buffer): Promise<Attr> {
    const { secondWalks } = this.#cache
    for (let tries = 1; tries <= FINDS_MAX; tries++) {
      const attr = await this.#vfs.lookup(caller, node, name)
      if (!secondWalks.has(caller.pid) || (await secondWalks.found(caller.pid, attr))) return attr
    }
    throw new PosixError('ESTALE', 'the name means another file each time')
  }

  async #mknod(request: Request): Promise<Answer> {
    const { caller, node, body, names } = request
    const mode = body.readUInt32LE(0)
    if ((mode & S_IFMT) === S_IFDIR) throw new PosixError('EINVAL', 'mknod makes no directories')
    const name = nameAt(names, 0)
    const made = callerMaking(caller, body.readUInt32LE(8))
    return this.#entry(request, name, await this.#vfs.mknod(made, node, name, mode, body.readUInt32LE(4)))
  }

  async #remove(
    { caller, node, names }: Request,
    remove: (caller: Caller, parent: number, name: Buffer) => Promise<number>,
  ): Promise<Answer> {
    const name = nameAt(names, 0)
    const taken = this.#cache.meaning(node, name)
    await this.#cache.changedBy(taken, await remove(caller, node, name))
    return undefined
  }

  async #rename({ caller, node, body, names }: Request, flags: number): Promise<Answer> {
    // RENAME_WHITEOUT is for the upper layer of overlayfs, which wants more of a filesystem than FUSE has.
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) throw new PosixError('EINVAL', 'no such rename flags')
    const noReplace = (flags & RENAME_NOREPLACE) !== 0
    const exchange = (flags & RENAME_EXCHANGE) !== 0
    const from = { parent: node, name: nameAt(names, 0) }
    const to = { parent: readU64(body, 0), name: nameAt(names, 1) }
    const [taken, over] = [from, to].map(({ parent, name }) => this.#cache.meaning(parent, name))
    this.#cache.moving(from, to, exchange)
    const flagged = { noReplace, exchange }
    const reply = await this.#vfs.rename(caller, from.parent, from.name, to.parent, to.name, flagged)
    await this.#cache.changedBy(taken, reply.moved)
    await this.#cache.changedBy(over, reply.replaced)
    return undefined
  }
}
