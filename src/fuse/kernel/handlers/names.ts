/** Names: lookup, make, move and remove. */
import { PosixError } from '../../../base/errno.js'
import type { VfsContract } from '../../../vfs/contract.js'
import { encodeEntry, readU64 } from '../wire.js'
import { UMASK_BITS, nameAt, type Answer, type HandlerTable, type Request } from './request.js'

const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const S_IFDIR = 0o040000
const S_IFMT = 0o170000

export class NameHandlers {
  readonly #vfs: VfsContract

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
  }

  readonly table: HandlerTable = {
    lookup: async ({ caller, node, names }) => encodeEntry(await this.#vfs.lookup(caller, node, nameAt(names, 0))),
    readlink: ({ caller, node }) => this.#vfs.readlink(caller, node),
    symlink: async ({ caller, node, names }) =>
      encodeEntry(await this.#vfs.symlink(caller, node, nameAt(names, 0), nameAt(names, 1))),
    mknod: (request) => this.#mknod(request),
    mkdir: async ({ caller, node, body, names }) => {
      const made = { ...caller, umask: body.readUInt32LE(4) & UMASK_BITS }
      return encodeEntry(await this.#vfs.mkdir(made, node, nameAt(names, 0), body.readUInt32LE(0) & 0o7777))
    },
    unlink: async ({ caller, node, names }) => {
      await this.#vfs.unlink(caller, node, nameAt(names, 0))
      return undefined
    },
    rmdir: async ({ caller, node, names }) => {
      await this.#vfs.rmdir(caller, node, nameAt(names, 0))
      return undefined
    },
    rename: (request) => this.#rename(request, 0),
    rename2: (request) => this.#rename(request, request.body.readUInt32LE(8)),
    link: async ({ caller, node, body, names }) =>
      encodeEntry(await this.#vfs.link(caller, readU64(body, 0), node, nameAt(names, 0))),
  }

  async #mknod({ caller, node, body, names }: Request): Promise<Answer> {
    const mode = body.readUInt32LE(0)
    if ((mode & S_IFMT) === S_IFDIR) throw new PosixError('EINVAL', 'mknod makes no directories')
    const made = { ...caller, umask: body.readUInt32LE(8) & UMASK_BITS }
    return encodeEntry(await this.#vfs.mknod(made, node, nameAt(names, 0), mode, body.readUInt32LE(4)))
  }

  async #rename({ caller, node, body, names }: Request, flags: number): Promise<Answer> {
    // RENAME_WHITEOUT is for the upper layer of overlayfs, which wants more of a filesystem than FUSE has.
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) throw new PosixError('EINVAL', 'no such rename flags')
    const noReplace = (flags & RENAME_NOREPLACE) !== 0
    const exchange = (flags & RENAME_EXCHANGE) !== 0
    await this.#vfs.rename(caller, node, nameAt(names, 0), readU64(body, 0), nameAt(names, 1), { noReplace, exchange })
    return undefined
  }
}
