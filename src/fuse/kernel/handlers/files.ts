/** Open files. */
import { PosixError } from '../../../base/errno.js'
import { messageOf } from '../../../base/errors.js'
import type { Log } from '../../../base/log.js'
import type { Attr, Caller, OpenedFile, VfsContract } from '../../../vfs/contract.js'
import { encodeCount, encodeEntry, encodeOpen } from '../wire.js'
import { dropSetid } from './attributes.js'
import { createFile } from './create.js'
import { ownerAt } from './locks.js'
import {
  UMASK_BITS,
  callerKeeping,
  handleIn,
  handleOf,
  nameAt,
  offsetAt,
  type Answer,
  type DropTable,
  type HandlerTable,
  type Request,
} from './request.js'

const FSYNC_DATA = 1
/** From the page cache, for a shared mapping: through a handle that the kernel chose. */
const WRITE_CACHE = 1
const WRITE_KILL = 4
const OPEN_KILL = 1
const KEEP_CACHE = 2
const VERSIONS_MAX = 65_536

export class FileHandlers {
  readonly #vfs: VfsContract
  /** Data version of what the kernel's page cache holds of a file, as far as it was opened here. */
  readonly #versions = new Map<number, number>()
  readonly #open = new Set<number>()

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
  }

  readonly table: HandlerTable = {
    open: (request) => this.#openFile(request),
    create: (request) =>
      this.#make(request, (caller, mode, flags) =>
        createFile(this.#vfs, caller, request.node, nameAt(request.names, 0), mode, flags),
      ),
    // The name that comes along is none: a slash.
    tmpfile: (request) =>
      this.#make(request, (caller, mode, flags) => this.#vfs.tmpfile(caller, request.node, mode, flags)),
    read: ({ body }) => this.#vfs.read(handleOf(body), offsetAt(body, 8), body.readUInt32LE(16)),
    write: (request) => this.#write(request),
    flush: async ({ body }) => {
      await this.#vfs.flush(handleOf(body), ownerAt(body, 16))
      return undefined
    },
    release: async ({ body }) => {
      this.#open.delete(handleOf(body))
      await this.#vfs.release(handleOf(body))
      return undefined
    },
    fsync: async ({ body }) => {
      await this.#vfs.fsync(handleOf(body), (body.readUInt32LE(8) & FSYNC_DATA) !== 0)
      return undefined
    },
  }

  readonly dropTable: DropTable = {
    open: async ({ node }, answer) => {
      // The page cache was not told of this version.
      this.#versions.delete(node)
      this.#open.delete(handleIn(answer))
      await this.#vfs.release(handleIn(answer))
    },
  }

  /** After the last request. */
  async releaseAll(log: Log): Promise<void> {
    for (const result of await Promise.allSettled([...this.#open].map((handle) => this.#vfs.release(handle)))) {
      if (result.status === 'rejected') log.error({ error: messageOf(result.reason) }, 'a file could not be closed')
    }
  }

  async #openFile(request: Request): Promise<Answer> {
    const { node, body } = request
    const caller = callerKeeping(request, (body.readUInt32LE(4) & OPEN_KILL) === 0)
    const { attr, handle, atimeDue } = await this.#vfs.open(caller, node, body.readUInt32LE(0))
    this.#open.add(handle)
    // A read that is to change the access time must come here.
    return encodeOpen(handle, this.#keepsCache(attr) && atimeDue !== true ? KEEP_CACHE : 0)
  }

  /** The page cache stays only if it holds this very version: another client's change makes another version. */
  #keepsCache({ ino, dataVersion }: Attr): boolean {
    const known = this.#versions.get(ino)
    if (known === dataVersion) return true
    if (this.#versions.size >= VERSIONS_MAX) this.#versions.clear()
    this.#versions.set(ino, dataVersion)
    return false
  }

  /** CREATE and TMPFILE: struct fuse_create_in. */
  async #make(
    request: Request,
    open: (caller: Caller, mode: number, flags: number) => Promise<OpenedFile>,
  ): Promise<Answer> {
    const { body } = request
    const mode = body.readUInt32LE(4) & 0o7777
    const keeping = callerKeeping(request, (body.readUInt32LE(12) & OPEN_KILL) === 0)
    const caller = { ...keeping, umask: body.readUInt32LE(8) & UMASK_BITS }
    const { attr, handle } = await open(caller, mode, body.readUInt32LE(0))
    this.#open.add(handle)
    return [encodeEntry(attr), encodeOpen(handle, this.#keepsCache(attr) ? KEEP_CACHE : 0)]
  }

  async #write({ caller, node, body, rest }: Request): Promise<Answer> {
    const bytes = body.readUInt32LE(16)
    const data = body.subarray(rest)
    if (data.length !== bytes) throw new PosixError('EINVAL', 'a write without all of its bytes')
    if ((body.readUInt32LE(20) & WRITE_KILL) !== 0) await dropSetid(this.#vfs, caller, node)
    const isCached = (body.readUInt32LE(20) & WRITE_CACHE) !== 0
    const [handle, offset] = [handleOf(body), offsetAt(body, 8)]
    return encodeCount(
      await (isCached ? this.#vfs.writeBack(handle, offset, data) : this.#vfs.write(handle, offset, data)),
    )
  }
}
