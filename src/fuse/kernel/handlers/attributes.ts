/** Attributes of inodes and of the volume. */
import type { Attr, AttrChange, Caller, TimeSpec, VfsContract } from '../../../vfs/contract.js'
import { HANDLE_KILLPRIV_V2 } from '../init.js'
import type { KernelCache } from '../kernel-cache.js'
import { encodeAttr, encodeStatx, readU64, writeU64 } from '../wire.js'
import {
  callerKeeping,
  nothing,
  offsetAt,
  type Answer,
  type AtOnceTable,
  type HandlerTable,
  type Request,
} from './request.js'
import { isJudged, judged, rightful, rightsOf } from './owner.js'
import { dropOfStranger, modeForStranger } from './setid.js'

const FATTR = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  fh: 64,
  atimeNow: 128,
  mtimeNow: 256,
  kill: 2048,
}
const STATFS_BYTES = 80

export class AttributeHandlers {
  readonly #vfs: VfsContract
  readonly #cache: KernelCache

  constructor(vfs: VfsContract, cache: KernelCache) {
    this.#vfs = vfs
    this.#cache = cache
  }

  readonly table: HandlerTable = {
    getattr: async (request) => this.#attr(request, await this.#vfs.getattr(request.caller, request.node)),
    statx: async (request) => this.#statx(request, await this.#vfs.getattr(request.caller, request.node)),
    setattr: (request) => this.#setattr(request),
    statfs: () => this.#statfs(),
    syncfs: async () => {
      await this.#vfs.syncAll(true)
      return undefined
    },
    // Node ids are inode numbers, valid for ever: nothing is kept for the kernel, so nothing is forgotten.
    forget: nothing,
    batchForget: nothing,
  }

  readonly atOnce: AtOnceTable = {
    forget: () => 0,
    batchForget: () => 0,
    getattr: (request) => {
      const attr = this.#vfs.atHand.getattr(request.node)
      return attr && this.#attr(request, attr)
    },
  }

  /**
   * Nothing to change is chown(-1, -1), which on Linux takes away suid like any other chown: the kernel leaves that to us
   * (HANDLE_KILLPRIV_V2). Of root it may also be a write that takes away capabilities alone, and looks the same.
   */
  async #setattr(request: Request): Promise<Answer> {
    const { caller, body } = request
    const valid = body.readUInt32LE(0)
    const handle = (valid & FATTR.fh) === 0 ? undefined : readU64(body, 8)
    const wanted = readChange(body, valid)
    const isChown = Object.keys(wanted).length === 0 && caller.uid !== 0
    const kills = (valid & FATTR.kill) !== 0 || isChown
    const change = kills ? { ...wanted, dropPrivileges: true } : wanted
    const attr = await this.#change(request, callerKeeping(request, !kills), change, handle)
    // The kernel does not compare it with notifications that came meanwhile: kernel-cache.ts.
    return encodeAttr(this.#cache.attr(attr).attr, 0)
  }

  async #change(request: Request, caller: Caller, change: AttrChange, handle?: number): Promise<Attr> {
    const { node } = request
    if (isJudged(caller, change)) return await this.#judged(request, caller, change, handle)
    if (change.sizeBytes !== undefined && change.dropPrivileges === true) {
      await dropOfStranger(this.#vfs, caller, node)
    }
    return await this.#vfs.setattr(caller, node, change, handle)
  }

  /** A cut, too, is made with all of the rest, or not at all. */
  #judged({ node, agreed }: Request, caller: Caller, change: AttrChange, handle?: number): Promise<Attr> {
    const isOlder = (agreed & HANDLE_KILLPRIV_V2) === 0
    const { mode, uid, gid, dropPrivileges = false } = change
    const givesAway = mode === undefined && ((uid ?? gid) !== undefined || dropPrivileges)
    return judged(this.#vfs, caller, node, async (attr) => {
      const allowed = await rightful(this.#vfs, caller, attr, change, isOlder)
      const left = givesAway ? await modeForStranger(caller, attr) : undefined
      const whole = left === undefined ? allowed : { ...allowed, mode: left, seen: rightsOf(attr) }
      return await this.#vfs.setattr(caller, node, whole, handle)
    })
  }

  #attr({ caller, askedMs }: Request, given: Attr): Buffer {
    const { attr, attrMs } = this.#cache.attr(given, caller.pid, askedMs)
    return encodeAttr(attr, attrMs)
  }

  #statx({ caller, askedMs }: Request, given: Attr): Buffer {
    const { attr, attrMs } = this.#cache.attr(given, caller.pid, askedMs)
    return encodeStatx(attr, attrMs)
  }

  async #statfs(): Promise<Answer> {
    const fs = await this.#vfs.statfs()
    const out = Buffer.alloc(STATFS_BYTES)
    writeU64(out, fs.blocks, 0)
    writeU64(out, fs.blocksFree, 8)
    writeU64(out, fs.blocksFree, 16)
    writeU64(out, fs.files, 24)
    writeU64(out, fs.filesFree, 32)
    out.writeUInt32LE(fs.blockBytes, 40)
    out.writeUInt32LE(fs.nameMaxBytes, 44)
    out.writeUInt32LE(fs.blockBytes, 48)
    return out
  }
}

function readChange(body: Buffer, valid: number): AttrChange {
  const change: { -readonly [K in keyof AttrChange]: AttrChange[K] } = {}
  if ((valid & FATTR.mode) !== 0) change.mode = body.readUInt32LE(68) & 0o7777
  if ((valid & FATTR.uid) !== 0) change.uid = body.readUInt32LE(76)
  if ((valid & FATTR.gid) !== 0) change.gid = body.readUInt32LE(80)
  if ((valid & FATTR.size) !== 0) change.sizeBytes = offsetAt(body, 16)
  if ((valid & FATTR.atimeNow) !== 0) change.atime = 'now'
  else if ((valid & FATTR.atime) !== 0) change.atime = readTime(body, 32, 56)
  if ((valid & FATTR.mtimeNow) !== 0) change.mtime = 'now'
  else if ((valid & FATTR.mtime) !== 0) change.mtime = readTime(body, 40, 60)
  return change
}

function readTime(body: Buffer, secAt: number, nsecAt: number): TimeSpec {
  return { sec: Number(body.readBigInt64LE(secAt)), nsec: body.readUInt32LE(nsecAt) }
}
