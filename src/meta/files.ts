/** Attributes and contents of inodes: getattr, setattr, truncate, open, extents, commit, compact. */
import { invariant } from '../base/invariant.js'
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import { FILE_MAX_BYTES, WINDOW_BYTES } from '../base/limits.js'
import type { RedisArg } from '../cluster/contract.js'
import {
  EXTENT_BYTES,
  type Attr,
  type AttrChange,
  type CommitReply,
  type CommitRequest,
  type Extent,
  type ExtentWindow,
  type OpenOptions,
  type OpenReply,
  type PackingGround,
} from './contract.js'
import { arrayOf } from '../cluster/reply.js'
import { attributeArgs } from './attribute-args.js'
import type { Core } from './core.js'
import { BACKUP_MARGIN_US, lastBackupUs } from './last-backup.js'
import type { Openers } from './openers.js'
import { decodeBody, decodeExtents, decodeInode, encodeExtents } from './records.js'
import { STATUS_CUT, STATUS_KEYS, type Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'

const HOLDERS_ASKED = 512
const APPEND_HINTS_MAX = 1024
/** So many of the extents that were read last are compared: what came in the place of lost ones has other chunks. Several, since holes are all alike. */
const TAIL_EXTENTS = 8
/** No file has it. */
const NO_VERSION = -1

export class Files {
  readonly #core: Core
  readonly #openers: Openers
  /** Where the last append to a file went: saves asking. */
  readonly #appendWindows = new Map<number, number>()

  constructor(core: Core, openers: Openers) {
    this.#core = core
    this.#openers = openers
  }

  async getattr(ino: number): Promise<Attr> {
    const reply = await this.#core.read(SCRIPTS.getattr, this.#core.keys.home(ino), [], [ino])
    return decodeInode(ino, reply.buffer(1)).attr
  }

  async readlink(ino: number): Promise<Buffer> {
    const reply = await this.#core.read(SCRIPTS.getattr, this.#core.keys.home(ino), [], [ino])
    const { attr, tail } = decodeInode(ino, reply.buffer(1))
    if (attr.type !== 'symlink') throw new PosixError('EINVAL', 'not a symlink')
    return Buffer.from(tail)
  }

  async setattr(ino: number, change: AttrChange): Promise<Attr> {
    const { clock } = this.#core.options
    const { sizeBytes, dropPrivileges = false, ...rest } = change
    if (sizeBytes === undefined) return this.#change(ino, attributeArgs(change, clock))
    const { atime, mtime } = rest
    const times = { ...(atime === undefined ? {} : { atime }), ...(mtime === undefined ? {} : { mtime }) }
    const changes = { first: attributeArgs(rest, clock), behind: attributeArgs(times, clock) }
    return this.truncate(ino, sizeBytes, dropPrivileges, changes)
  }

  /** Sets ctime alone. */
  async touch(ino: number): Promise<void> {
    await this.#change(ino, [])
  }

  async #change(ino: number, args: readonly RedisArg[]): Promise<Attr> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    const own = [partition.acls, partition.xattrs(ino)]
    const reply = await this.#core.change(SCRIPTS.setattr, keys.home(ino), own, [ino, ...args])
    return decodeInode(ino, reply.buffer(1)).attr
  }

  /**
   * `changes`: what else of the inode changes with it, all or nothing: with the first step of the cut. Those behind it, of a file that
   * shrinks in several, set only the times anew, and rest on nothing: the first may have changed that, or another client since.
   */
  async truncate(
    ino: number,
    sizeBytes: number,
    dropPrivileges: boolean,
    changes: { readonly first: readonly RedisArg[]; readonly behind: readonly RedisArg[] } = { first: [], behind: [] },
  ): Promise<Attr> {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw new PosixError('EINVAL', 'a size is 0 or more')
    if (sizeBytes > FILE_MAX_BYTES) throw new PosixError('EFBIG', 'the file would be too large')
    const { keys } = this.#core
    const partition = keys.of(ino)
    const edge = partition.extents(ino, Math.floor(sizeBytes / WINDOW_BYTES))
    let windows: number[] = []
    let [drop, beside] = [dropPrivileges ? 1 : 0, changes.first]
    const patience = this.#core.patience()
    for (;;) {
      const named = windows.map((window) => partition.extents(ino, window))
      const reply = await this.#core.change(
        SCRIPTS.truncate,
        keys.home(ino),
        [partition.windows(ino), edge, partition.acls, partition.xattrs(ino), ...named],
        [ino, sizeBytes, drop, windows.length, ...windows, ...beside],
      )
      if (reply.status === STATUS_KEYS) {
        // Another client may add windows for as long as it likes; a file only shrinks in as many steps as it is long.
        if (windows.length > 0) await patience.wait()
        windows = reply.numbers(1)
        continue
      }
      const { attr } = decodeInode(ino, reply.buffer(1))
      if (attr.sizeBytes === sizeBytes) return attr
      windows = []
      ;[drop, beside] = [0, changes.behind]
    }
  }

  async open(ino: number, { truncate, dropPrivileges = false, have }: OpenOptions): Promise<OpenReply> {
    return this.#openers.open(ino, async () => {
      if (truncate) await this.truncate(ino, 0, dropPrivileges)
      return this.register(ino, have)
    })
  }

  /** Makes this session an opener of the inode. `have`: see OpenOptions. */
  async register(ino: number, have = NO_VERSION): Promise<OpenReply> {
    const reply = await this.#core.change(SCRIPTS.open, this.#core.keys.home(ino), [], [ino, have])
    const { attr } = decodeInode(ino, reply.buffer(1))
    const extents = reply.optionalBuffer(3)
    if (extents === null) return { attr }
    const window0 = { window: 0, generation: 0, dataVersion: attr.dataVersion, extents: decodeExtents(extents, 0) }
    return { attr, window0: { ...window0, ...this.#body(ino, reply, 4) } }
  }

  /** Generation 0: the window is in the inode record, or empty; it comes whole each time. */
  async extents(ino: number, window: number, have?: ExtentWindow): Promise<ExtentWindow> {
    const { keys } = this.#core
    const known = have === undefined || have.generation === 0 ? undefined : have
    const reply = await this.#core.read(
      SCRIPTS.extents,
      keys.home(ino),
      [keys.of(ino).extents(ino, window)],
      [ino, window, known?.generation ?? -1, (known?.extents.length ?? 0) * EXTENT_BYTES],
    )
    const fresh = decodeExtents(reply.buffer(4), window)
    const kept = known !== undefined && reply.number(3) > 0 ? known.extents : []
    const extents = [...kept, ...fresh]
    return {
      window,
      generation: reply.number(2),
      dataVersion: reply.number(1),
      extents,
      ...this.#body(ino, reply, 5),
    }
  }

  #body(ino: number, reply: Reply, at: number): Pick<ExtentWindow, 'body'> {
    const body = reply.optionalBuffer(at)
    if (body === null) return {}
    try {
      return { body: decodeBody(ino, body) }
    } catch (error) {
      this.#core.options.log.error({ ino, error: messageOf(error) }, 'data in the metadata is damaged')
      throw error
    }
  }

  async commit(ino: number, request: CommitRequest): Promise<CommitReply> {
    const isAppend = request.mode === 'append'
    let window = isAppend ? (this.#appendWindows.get(ino) ?? 0) : windowOf(request)
    const extents = encodeExtents(request.extents, isAppend ? 0 : window)
    const patience = this.#core.patience()
    for (;;) {
      const reply = await this.#commitTo(ino, window, request, extents)
      if (reply.status !== STATUS_KEYS) {
        if (isAppend) this.#rememberWindow(ino, window)
        return await this.#commitReply(ino, reply)
      }
      window = Math.floor(reply.number(1) / WINDOW_BYTES)
      await patience.wait()
    }
  }

  #commitTo(ino: number, window: number, request: CommitRequest, extents: Buffer): Promise<Reply> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    return this.#core.change(
      SCRIPTS.commit,
      keys.home(ino),
      [
        partition.extents(ino, window),
        partition.windows(ino),
        partition.extents(ino, window + 1),
        partition.xattrs(ino),
      ],
      [
        ino,
        window,
        request.mode,
        extents,
        request.allocatedDeltaBytes,
        request.mtime.sec,
        request.mtime.nsec,
        request.clearSuid === true ? 1 : 0,
        request.minSizeBytes ?? 0,
        request.neverBack === true ? 1 : 0,
      ],
    )
  }

  async #commitReply(ino: number, reply: Reply): Promise<CommitReply> {
    if (reply.status === STATUS_CUT) {
      return { attr: await this.getattr(ino), baseOffset: 0, cutAfterBytes: reply.number(1) }
    }
    return { attr: decodeInode(ino, reply.buffer(1)).attr, baseOffset: reply.number(2) }
  }

  #rememberWindow(ino: number, window: number): void {
    if (window === 0) return
    if (this.#appendWindows.size >= APPEND_HINTS_MAX) this.#appendWindows.clear()
    this.#appendWindows.set(ino, window)
  }

  async compact(
    ino: number,
    old: ExtentWindow,
    extents: readonly Extent[],
    dropped: readonly Extent[],
    allocatedDeltaBytes: number,
    oldestOrder?: number,
  ): Promise<number | null> {
    if (old.generation === 0) return null
    const { keys } = this.#core
    const reply = await this.#core.change(
      SCRIPTS.compact,
      keys.home(ino),
      [keys.of(ino).extents(ino, old.window)],
      [
        ino,
        old.generation,
        old.extents.length * EXTENT_BYTES,
        encodeExtents(extents, old.window),
        encodeExtents(
          dropped.filter((extent) => extent.chunk !== null),
          old.window,
        ),
        allocatedDeltaBytes,
        old.window,
        oldestOrder === undefined ? '' : oldestOrder - BACKUP_MARGIN_US,
        encodeExtents(old.extents.slice(-TAIL_EXTENTS), old.window),
      ],
    )
    return reply.number(1) === 1 ? reply.number(2) : null
  }

  async packingGround(ino: number, chunkIds: readonly number[]): Promise<PackingGround> {
    const { keys, options } = this.#core
    const backupUs = await lastBackupUs(options.store, keys, keys.home(ino))
    return { keptOrder: backupUs + BACKUP_MARGIN_US, shared: await cloned(this.#core, chunkIds) }
  }
}

/** Those of chunks that the old ones do not name. */
export function newExtents(old: readonly Extent[], extents: readonly Extent[]): Extent[] {
  const known = new Set(old.map(({ chunk }) => chunk?.id))
  return extents.filter(({ chunk }) => !known.has(chunk?.id))
}

/** Chunks that were ever cloned. */
async function cloned({ keys, options }: Core, chunkIds: readonly number[]): Promise<ReadonlySet<number>> {
  const found = new Set<number>()
  const byPartition = new Map<number, number[]>()
  for (const id of chunkIds) {
    const ids = byPartition.get(keys.holdersOf(id))
    if (ids === undefined) byPartition.set(keys.holdersOf(id), [id])
    else ids.push(id)
  }
  for (const [p, ids] of byPartition) {
    for (let at = 0; at < ids.length; at += HOLDERS_ASKED) {
      const some = ids.slice(at, at + HOLDERS_ASKED)
      const records = await options.store.call('HMGET', keys.partition(p).holders, ...some)
      for (const [i, record] of arrayOf(records, 'HMGET').entries()) if (record !== null) found.add(some[i] ?? 0)
    }
  }
  return found
}

function windowOf(request: CommitRequest): number {
  const [first] = request.extents
  if (first === undefined) return 0
  const window = Math.floor(first.fileOffset / WINDOW_BYTES)
  const last = request.extents.at(-1) ?? first
  invariant(Math.floor(last.fileOffset / WINDOW_BYTES) === window, 'the extents of a commit lie in one window')
  return window
}
