/** Open files. */
import { PosixError, isErrno } from '../../../base/errno.js'
import { messageOf } from '../../../base/errors.js'
import { FILE_MAX_BYTES } from '../../../base/limits.js'
import type { Log } from '../../../base/log.js'
import type { Attr, Caller, CreatedFile, OpenedFile, VfsContract } from '../../../vfs/contract.js'
import type { KernelCache, OpenedAs } from '../kernel-cache.js'
import { encodeCount, encodeEntry, encodeOpen, readU64 } from '../wire.js'
import { createFile } from './create.js'
import { ownerAt } from './locks.js'
import {
  callerKeeping,
  callerMaking,
  handleIn,
  handleOf,
  nameAt,
  offsetAt,
  type Answer,
  type AtOnceTable,
  type DropTable,
  type HandlerTable,
  type Request,
} from './request.js'
import { dropOfStranger, dropSetid } from './setid.js'

const FSYNC_DATA = 1
/** From the page cache, for a shared mapping: through a handle that the kernel chose. */
const WRITE_CACHE = 1
const WRITE_KILL = 4
const OPEN_KILL = 1
const DIRECT_IO = 1
const KEEP_CACHE = 2
/** From 7.35 on; older kernels ignore it. */
const NO_FLUSH = 32
const O_ACCMODE = 3
const O_WRONLY = 1
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const O_DSYNC = 0o10000
/** asm-generic/fcntl.h; arm64 and others have another, where O_DIRECT is taken for what it is not: one drop too many. */
const O_DIRECT = 0o40000

export class FileHandlers {
  readonly #vfs: VfsContract
  readonly #cache: KernelCache
  readonly #open = new Set<number>()
  /** Handles whose writes the kernel sends past its pages. */
  readonly #past = new Set<number>()

  constructor(vfs: VfsContract, cache: KernelCache) {
    this.#vfs = vfs
    this.#cache = cache
  }

  readonly table: HandlerTable = {
    open: (request) => this.#openFile(request),
    create: (request) =>
      this.#make(request, (caller, mode, flags) =>
        createFile(this.#vfs, caller, request.node, nameAt(request.names, 0), mode, flags),
      ),
    // The name that comes along is none: a slash.
    tmpfile: (request) =>
      this.#make(request, async (caller, mode, flags) => ({
        ...(await this.#vfs.tmpfile(caller, request.node, mode, flags)),
        created: true,
      })),
    // Past the kernel's pages it comes with any offset. Behind the largest file there is nothing, as behind any other.
    read: ({ body }) =>
      this.#vfs.readPieces(handleOf(body), Math.min(readU64(body, 8), FILE_MAX_BYTES), body.readUInt32LE(16)),
    write: (request) => this.#write(request),
    flush: async ({ body }) => {
      await this.#vfs.flush(handleOf(body), ownerAt(body, 16))
      return undefined
    },
    release: async ({ body }) => {
      this.#forget(handleOf(body))
      await this.#vfs.release(handleOf(body))
      return undefined
    },
    fsync: async ({ body }) => {
      await this.#vfs.fsync(handleOf(body), (body.readUInt32LE(8) & FSYNC_DATA) !== 0)
      return undefined
    },
  }

  readonly atOnce: AtOnceTable = {
    write: (request) => this.#writeNow(request),
    flush: ({ body }) => (this.#vfs.atHand.flush(handleOf(body), ownerAt(body, 16)) ? 0 : undefined),
    release: ({ body }) => {
      const handle = handleOf(body)
      if (!this.#vfs.atHand.release(handle)) return undefined
      this.#forget(handle)
      return 0
    },
  }

  readonly dropTable: DropTable = {
    open: async (_request, answer) => {
      this.#forget(handleIn(answer))
      await this.#vfs.release(handleIn(answer))
    },
  }

  #forget(handle: number): void {
    this.#open.delete(handle)
    this.#past.delete(handle)
  }

  /** After the last request. */
  async releaseAll(log: Log): Promise<void> {
    for (const result of await Promise.allSettled([...this.#open].map((handle) => this.#vfs.release(handle)))) {
      if (result.status === 'rejected') log.error({ error: messageOf(result.reason) }, 'a file could not be closed')
    }
  }

  async #openFile(request: Request): Promise<Answer> {
    const { node, body } = request
    const flags = body.readUInt32LE(0)
    const kills = (body.readUInt32LE(4) & OPEN_KILL) !== 0
    const [file, as] = await this.#openTrue(callerKeeping(request, !kills), node, flags)
    const { attr, handle, atimeDue, needsNoFlush } = file
    this.#open.add(handle)
    if (as === null) {
      if (kills) await this.#killed(request, attr, handle)
      this.#cache.cut(attr)
      return encodeOpen(handle, this.#flagsOf(handle, flags, { keepsPages: false, isPast: false }))
    }
    // A read that is to change the access time must come here.
    const keepsPages = as.keepsPages && atimeDue !== true
    const flagsNow = this.#flagsOf(handle, flags, { keepsPages, isPast: as.isPast })
    return encodeOpen(handle, flagsNow | (needsNoFlush === true ? NO_FLUSH : 0))
  }

  /** Set-id bits went with what was cut. An open that fails after all leaves no handle. */
  async #killed({ caller }: Request, attr: Attr, handle: number): Promise<void> {
    try {
      await this.#cache.leftMode((await dropOfStranger(this.#vfs, caller, attr.ino, attr)) ?? attr)
    } catch (error) {
      this.#forget(handle)
      await this.#vfs.release(handle)
      throw error
    }
  }

  #flagsOf(handle: number, flags: number, { keepsPages, isPast }: Omit<OpenedAs, 'isSizeOld'>): number {
    const isDirect = isPast || this.#appends(flags)
    if (isDirect || (flags & O_DIRECT) !== 0) this.#past.add(handle)
    return (keepsPages ? KEEP_CACHE : 0) | (isDirect ? DIRECT_IO : 0)
  }

  /**
   * What is appended goes past the page cache: the kernel would put it there where it takes the end of the file to be, which the
   * store may see elsewhere, and send a write across a page as two, between which others may append.
   */
  #appends(flags: number): boolean {
    return this.#cache.canReadPast && (flags & O_APPEND) !== 0
  }

  /**
   * The file, and how the kernel is to read it, null if it was cut. Throws ESTALE when the kernel may have come here by a name of
   * yesterday (doubts.ts), or may end reads where the file ended yesterday: it walks the path again, once, and takes an answer about each
   * name.
   */
  async #openTrue(caller: Caller, node: number, flags: number): Promise<readonly [OpenedFile, OpenedAs | null]> {
    const { secondWalks } = this.#cache
    const isSecond = secondWalks.opens(caller.pid, node)
    const cuts = (flags & O_TRUNC) !== 0
    const isTrue = isSecond || this.#cache.isPathTrue(node)
    try {
      // Before a file is cut it must be certain that it is the one that was meant.
      if (cuts && !(await isTrue) && caller.pid !== 0) throw staleName()
      const opened = await this.#vfs.open(caller, node, flags, isSecond)
      if ((await isTrue) || caller.pid === 0) {
        const as = cuts ? null : await this.#cache.opened(opened.attr, caller.pid, isSecond)
        const mayEndEarly = as?.isSizeOld === true && (flags & O_ACCMODE) !== O_WRONLY
        if (!mayEndEarly || isSecond || caller.pid === 0) return [opened, as]
      }
      await this.#vfs.release(opened.handle)
      throw staleName()
    } catch (error) {
      // ENOENT is answered as ESTALE: stale.ts.
      if (!isSecond && (isErrno(error, 'ESTALE') || isErrno(error, 'ENOENT'))) secondWalks.begin(caller.pid, node)
      throw error
    } finally {
      if (isSecond) secondWalks.end(caller.pid)
    }
  }

  /** CREATE and TMPFILE: struct fuse_create_in. */
  async #make(
    request: Request,
    open: (caller: Caller, mode: number, flags: number) => Promise<CreatedFile>,
  ): Promise<Answer> {
    const { node, body, names } = request
    const mode = body.readUInt32LE(4) & 0o7777
    const keeping = callerKeeping(request, (body.readUInt32LE(12) & OPEN_KILL) === 0)
    const caller = callerMaking(keeping, body.readUInt32LE(8))
    const flags = body.readUInt32LE(0)
    const { attr: made, handle, created } = await open(caller, mode, flags)
    this.#open.add(handle)
    const opened = await this.#cache.opened(made)
    const { attr, entryMs, attrMs } = this.#cache.entry(node, nameAt(names, 0), made)
    // Of a file that was there the kernel does not compare them with notifications that came meanwhile: kernel-cache.ts.
    return [
      encodeEntry(attr, { entryMs, attrMs: created ? attrMs : 0 }),
      encodeOpen(handle, this.#flagsOf(handle, flags, opened)),
    ]
  }

  /** As #write, of a handle that writes through the kernel's pages. */
  #writeNow({ body, rest }: Request): Buffer | undefined {
    const handle = handleOf(body)
    const how = body.readUInt32LE(20)
    const data = body.subarray(rest)
    if ((how & WRITE_CACHE) !== 0 || this.#past.has(handle) || data.length !== body.readUInt32LE(16)) return undefined
    if ((flagsAt(body) & (O_APPEND | O_DSYNC)) !== 0) return undefined
    const taken = this.#vfs.atHand.write(handle, offsetAt(body, 8), data, (how & WRITE_KILL) !== 0)
    return taken === undefined ? undefined : encodeCount(taken)
  }

  async #write({ caller, node, body, rest }: Request): Promise<Answer> {
    const bytes = body.readUInt32LE(16)
    const data = body.subarray(rest)
    if (data.length !== bytes) throw new PosixError('EINVAL', 'a write without all of its bytes')
    const kills = (body.readUInt32LE(20) & WRITE_KILL) !== 0
    const dropped = kills ? await dropSetid(this.#vfs, caller, node) : undefined
    if (dropped !== undefined) await this.#cache.leftMode(dropped)
    const [handle, offset] = [handleOf(body), offsetAt(body, 8)]
    if (this.#past.has(handle)) this.#cache.wroteBeside(node)
    if ((body.readUInt32LE(20) & WRITE_CACHE) !== 0) {
      return encodeCount(await this.#vfs.writeBack(handle, offset, data))
    }
    const flags = flagsAt(body)
    const taken = await this.#vfs.write(handle, offset, data, { flags })
    // The kernel has put it into its pages where it takes the end of the file to be.
    if ((flags & O_APPEND) !== 0 && !this.#past.has(handle)) this.#cache.wroteElsewhere(node)
    return encodeCount(taken)
  }
}

/**
 * Of a WRITE, the flags of the open file as they are by now. With O_DSYNC also for whom no O_DSYNC was opened (pwritev2(2), a mount with
 * `sync`): behind what goes past its pages the kernel sends no FSYNC by itself.
 */
function flagsAt(body: Buffer): number {
  return body.readUInt32LE(32)
}

function staleName(): PosixError {
  return new PosixError('ESTALE', 'the name may mean another file by now, or the file be longer')
}
