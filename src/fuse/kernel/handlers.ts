/** One function an opcode: reads the request, calls the VFS, builds the answer. Failures are thrown. */
import type { Log } from '../../base/log.js'
import type { VfsContract } from '../../vfs/contract.js'
import { AttributeHandlers } from './handlers/attributes.js'
import { DirectoryHandlers } from './handlers/directories.js'
import { FileHandlers } from './handlers/files.js'
import { LockHandlers } from './handlers/locks.js'
import { NameHandlers } from './handlers/names.js'
import { RangeHandlers } from './handlers/ranges.js'
import {
  nothing,
  type Answer,
  type AtOnceTable,
  type DropTable,
  type HandlerTable,
  type Request,
} from './handlers/request.js'
import type { KernelCache } from './kernel-cache.js'
import { XattrHandlers } from './handlers/xattrs.js'

export type { Answer, AtOnce, AtOnceTable, Handler, Request } from './handlers/request.js'

export class Handlers {
  readonly #files: FileHandlers
  readonly #directories: DirectoryHandlers
  readonly table: HandlerTable
  /** What may be answered without waiting. */
  readonly atOnce: AtOnceTable
  readonly #dropTable: DropTable

  constructor(vfs: VfsContract, cache: KernelCache) {
    this.#files = new FileHandlers(vfs, cache)
    this.#directories = new DirectoryHandlers(vfs, cache)
    const names = new NameHandlers(vfs, cache)
    const attributes = new AttributeHandlers(vfs, cache)
    const xattrs = new XattrHandlers(vfs)
    this.table = {
      ...names.table,
      ...attributes.table,
      ...xattrs.table,
      ...this.#files.table,
      ...this.#directories.table,
      ...new RangeHandlers(vfs).table,
      ...new LockHandlers(vfs, cache).table,
      destroy: nothing,
    }
    this.atOnce = { ...names.atOnce, ...attributes.atOnce, ...xattrs.atOnce, ...this.#files.atOnce }
    this.#dropTable = { ...this.#files.dropTable, ...this.#directories.dropTable }
  }

  /** The answer came too late: the kernel was told EINTR. */
  async drop(name: string, request: Request, answer: Answer): Promise<void> {
    await this.#dropTable[name]?.(request, answer)
  }

  /**
   * After the last request. The kernel closes without waiting, and closings that are on their way when the last mount goes
   * are never sent: what is left is closed here.
   */
  async releaseAll(log: Log): Promise<void> {
    this.#directories.releaseAll()
    await this.#files.releaseAll(log)
  }
}
