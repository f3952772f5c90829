/** Open directories. */
import type { VfsContract } from '../../../vfs/contract.js'
import { encodeEntries, type Describe } from '../dirents.js'
import type { KernelCache } from '../kernel-cache.js'
import { encodeOpen } from '../wire.js'
import { handleIn, handleOf, type Answer, type DropTable, type HandlerTable, type Request } from './request.js'

/** Entries asked of the VFS at once: a page of 4 KiB and more than it holds; readdirplus has fewer to a page. */
const DIRENT_LEAST_BYTES = 32
const DIRENTPLUS_LEAST_BYTES = 160

export class DirectoryHandlers {
  readonly #vfs: VfsContract
  readonly #cache: KernelCache
  readonly #open = new Set<number>()

  constructor(vfs: VfsContract, cache: KernelCache) {
    this.#vfs = vfs
    this.#cache = cache
  }

  readonly table: HandlerTable = {
    opendir: async ({ caller, node }) => {
      const handle = await this.#vfs.opendir(caller, node)
      this.#open.add(handle)
      return encodeOpen(handle, 0)
    },
    readdir: (request) => this.#readdir(request, false),
    readdirplus: (request) => this.#readdir(request, true),
    releasedir: ({ body }) => {
      this.#open.delete(handleOf(body))
      this.#vfs.releasedir(handleOf(body))
      return Promise.resolve(undefined)
    },
    fsyncdir: async ({ body }) => {
      await this.#vfs.fsyncdir(handleOf(body))
      return undefined
    },
  }

  readonly dropTable: DropTable = {
    opendir: (_request, answer) => {
      this.#open.delete(handleIn(answer))
      this.#vfs.releasedir(handleIn(answer))
      return Promise.resolve()
    },
  }

  /** After the last request. */
  releaseAll(): void {
    for (const handle of this.#open) this.#vfs.releasedir(handle)
  }

  async #readdir({ node, caller, body, askedMs }: Request, plus: boolean): Promise<Answer> {
    const room = body.readUInt32LE(16)
    const limit = Math.max(1, Math.ceil(room / (plus ? DIRENTPLUS_LEAST_BYTES : DIRENT_LEAST_BYTES)))
    const entries = await this.#vfs.readdir(handleOf(body), body.readBigUInt64LE(8), limit, plus)
    const describe: Describe = (name, attr) => this.#cache.entry(node, name, attr, caller.pid, askedMs)
    return encodeEntries(entries, room, plus ? describe : null)
  }
}
