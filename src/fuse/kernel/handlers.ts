/** One function an opcode: reads the request, calls the VFS, builds the answer. Failures are thrown. */
import { PosixError } from '../../base/errno.js'
import { messageOf } from '../../base/errors.js'
import { FILE_MAX_BYTES } from '../../base/limits.js'
import type { Log } from '../../base/log.js'
import type { Attr, AttrChange, Caller, TimeSpec, VfsContract } from '../../vfs/contract.js'
import { encodeEntries } from './dirents.js'
import { readU64, encodeAttr, encodeEntry, encodeOpen, writeU64 } from './wire.js'

export interface Request {
  readonly node: number
  readonly caller: Caller
  /** Behind the header. Kept as long as the handler runs. */
  readonly body: Buffer
  readonly names: readonly Buffer[]
  /** Where the bytes behind the names begin. */
  readonly rest: number
}

export type Answer = Buffer | readonly Buffer[] | undefined
export type Handler = (request: Request) => Promise<Answer>

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
const FSYNC_DATA = 1
const WRITE_KILL = 4
const OPEN_KILL = 1
const KEEP_CACHE = 2
const RENAME_NOREPLACE = 1
const S_IFDIR = 0o040000
const S_IFMT = 0o170000
const SUID = 0o4000
const SGID = 0o2000
const GROUP_EXEC = 0o010
const O_TRUNC = 0o1000
/** Entries asked of the VFS at once: a page of 4 KiB and more than it holds; readdirplus has fewer to a page. */
const DIRENT_LEAST_BYTES = 32
const DIRENTPLUS_LEAST_BYTES = 160
const VERSIONS_MAX = 65_536
const STATFS_BYTES = 80
const SYSTEM = Buffer.from('system.')

export class Handlers {
  readonly #vfs: VfsContract
  /** Data version of what the kernel's page cache holds of a file, as far as it was opened here. */
  readonly #versions = new Map<number, number>()
  /**
   * Open handles. The kernel closes without waiting, and closings that are on their way when the last mount goes are
   * never sent: what is left is closed at the end.
   */
  readonly #files = new Set<number>()
  readonly #folders = new Set<number>()

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
  }

  readonly table: Readonly<Record<string, Handler>> = {
    lookup: async ({ caller, node, names }) => encodeEntry(await this.#vfs.lookup(caller, node, nameAt(names, 0))),
    getattr: (request) => this.#getattr(request),
    setattr: (request) => this.#setattr(request),
    readlink: ({ caller, node }) => this.#vfs.readlink(caller, node),
    symlink: async ({ caller, node, names }) =>
      encodeEntry(await this.#vfs.symlink(caller, node, nameAt(names, 0), nameAt(names, 1))),
    mknod: (request) => this.#mknod(request),
    mkdir: async ({ caller, node, body, names }) =>
      encodeEntry(await this.#vfs.mkdir(caller, node, nameAt(names, 0), body.readUInt32LE(0) & 0o7777)),
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
    open: (request) => this.#open(request),
    create: (request) => this.#create(request),
    read: ({ body }) => this.#vfs.read(handleOf(body), offsetAt(body, 8), body.readUInt32LE(16)),
    write: (request) => this.#write(request),
    flush: async ({ body }) => {
      await this.#vfs.flush(handleOf(body))
      return undefined
    },
    release: async ({ body }) => {
      this.#files.delete(handleOf(body))
      await this.#vfs.release(handleOf(body))
      return undefined
    },
    fsync: async ({ body }) => {
      await this.#vfs.fsync(handleOf(body), (body.readUInt32LE(8) & FSYNC_DATA) !== 0)
      return undefined
    },
    opendir: async ({ caller, node }) => {
      const handle = await this.#vfs.opendir(caller, node)
      this.#folders.add(handle)
      return encodeOpen(handle, 0)
    },
    readdir: (request) => this.#readdir(request, false),
    readdirplus: (request) => this.#readdir(request, true),
    releasedir: ({ body }) => {
      this.#folders.delete(handleOf(body))
      this.#vfs.releasedir(handleOf(body))
      return Promise.resolve(undefined)
    },
    fsyncdir: async ({ body }) => {
      await this.#vfs.fsyncdir(handleOf(body))
      return undefined
    },
    statfs: () => this.#statfs(),
    syncfs: async () => {
      await this.#vfs.syncAll(true)
      return undefined
    },
    getxattr: (request) => this.#getxattr(request),
    listxattr: (request) => this.#listxattr(request),
    setxattr: (request) => this.#setxattr(request),
    removexattr: async ({ node, names }) => {
      await this.#vfs.removexattr(node, attributeAt(names))
      return undefined
    },
    // Node ids are inode numbers, valid for ever: nothing is kept for the kernel, so nothing is forgotten.
    forget: nothing,
    batchForget: nothing,
    // No call waits on another process yet, so there is nothing to interrupt: the answer comes anyway.
    interrupt: nothing,
    destroy: nothing,
  }

  /** After the last request. */
  async releaseAll(log: Log): Promise<void> {
    for (const handle of this.#folders) this.#vfs.releasedir(handle)
    for (const result of await Promise.allSettled([...this.#files].map((handle) => this.#vfs.release(handle)))) {
      if (result.status === 'rejected') log.error({ error: messageOf(result.reason) }, 'a file could not be closed')
    }
  }

  async #getattr({ caller, node }: Request): Promise<Answer> {
    return encodeAttr(await this.#vfs.getattr(caller, node))
  }

  async #setattr({ caller, node, body }: Request): Promise<Answer> {
    const valid = body.readUInt32LE(0)
    const handle = (valid & FATTR.fh) === 0 ? undefined : readU64(body, 8)
    const change = readChange(body, valid)
    const cleared = (valid & FATTR.kill) === 0 || change.mode !== undefined ? {} : await this.#cleared(caller, node)
    return encodeAttr(await this.#vfs.setattr(caller, node, { ...change, ...cleared }, handle))
  }

  /** The mode without suid, and without sgid if the group may execute: what an unprivileged write leaves. */
  async #cleared(caller: Caller, node: number): Promise<{ mode?: number }> {
    const { mode, type } = await this.#vfs.getattr(caller, node)
    const without = withoutPrivileges(mode)
    return type !== 'file' || without === mode ? {} : { mode: without }
  }

  async #mknod({ caller, node, body, names }: Request): Promise<Answer> {
    const mode = body.readUInt32LE(0)
    if ((mode & S_IFMT) === S_IFDIR) throw new PosixError('EINVAL', 'mknod makes no directories')
    return encodeEntry(await this.#vfs.mknod(caller, node, nameAt(names, 0), mode, body.readUInt32LE(4)))
  }

  async #rename({ caller, node, body, names }: Request, flags: number): Promise<Answer> {
    if ((flags & ~RENAME_NOREPLACE) !== 0) throw new PosixError('EINVAL', 'rename flags that ringfs does not have')
    const noReplace = (flags & RENAME_NOREPLACE) !== 0
    await this.#vfs.rename(caller, node, nameAt(names, 0), readU64(body, 0), nameAt(names, 1), { noReplace })
    return undefined
  }

  async #open({ caller, node, body }: Request): Promise<Answer> {
    const flags = body.readUInt32LE(0)
    if ((body.readUInt32LE(4) & OPEN_KILL) !== 0 && (flags & O_TRUNC) !== 0) {
      const cleared = await this.#cleared(caller, node)
      if (cleared.mode !== undefined) await this.#vfs.setattr(caller, node, cleared)
    }
    const { attr, handle } = await this.#vfs.open(caller, node, flags)
    this.#files.add(handle)
    return encodeOpen(handle, this.#keepsCache(attr) ? KEEP_CACHE : 0)
  }

  /** The page cache stays only if it holds this very version: another client's change makes another version. */
  #keepsCache({ ino, dataVersion }: Attr): boolean {
    const known = this.#versions.get(ino)
    if (known === dataVersion) return true
    if (this.#versions.size >= VERSIONS_MAX) this.#versions.clear()
    this.#versions.set(ino, dataVersion)
    return false
  }

  async #create({ caller, node, body, names }: Request): Promise<Answer> {
    const mode = body.readUInt32LE(4) & 0o7777
    const { attr, handle } = await this.#vfs.create(caller, node, nameAt(names, 0), mode, body.readUInt32LE(0))
    this.#files.add(handle)
    return [encodeEntry(attr), encodeOpen(handle, this.#keepsCache(attr) ? KEEP_CACHE : 0)]
  }

  async #write({ caller, node, body, rest }: Request): Promise<Answer> {
    const bytes = body.readUInt32LE(16)
    const data = body.subarray(rest)
    if (data.length !== bytes) throw new PosixError('EINVAL', 'a write without all of its bytes')
    if ((body.readUInt32LE(20) & WRITE_KILL) !== 0) {
      const cleared = await this.#cleared(caller, node)
      if (cleared.mode !== undefined) await this.#vfs.setattr(caller, node, cleared)
    }
    const written = await this.#vfs.write(handleOf(body), offsetAt(body, 8), data)
    const out = Buffer.alloc(8)
    out.writeUInt32LE(written, 0)
    return out
  }

  async #readdir({ body }: Request, plus: boolean): Promise<Answer> {
    const room = body.readUInt32LE(16)
    const limit = Math.max(1, Math.ceil(room / (plus ? DIRENTPLUS_LEAST_BYTES : DIRENT_LEAST_BYTES)))
    const entries = await this.#vfs.readdir(handleOf(body), body.readBigUInt64LE(8), limit, plus)
    return encodeEntries(entries, room, plus)
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

  async #getxattr({ node, body, names }: Request): Promise<Answer> {
    return sized(await this.#vfs.getxattr(node, attributeAt(names)), body.readUInt32LE(0))
  }

  async #listxattr({ node, body }: Request): Promise<Answer> {
    const names = await this.#vfs.listxattr(node)
    const end = Buffer.alloc(1)
    return sized(Buffer.concat(names.flatMap((name) => [name, end])), body.readUInt32LE(0))
  }

  async #setxattr({ node, body, names, rest }: Request): Promise<Answer> {
    const value = body.subarray(rest)
    if (value.length !== body.readUInt32LE(0)) throw new PosixError('EINVAL', 'an attribute without all of its bytes')
    await this.#vfs.setxattr(node, attributeAt(names), Buffer.from(value), body.readUInt32LE(4))
    return undefined
  }
}

function nothing(): Promise<undefined> {
  return Promise.resolve(undefined)
}

function nameAt(names: readonly Buffer[], at: number): Buffer {
  const name = names[at]
  if (name === undefined) throw new PosixError('EINVAL', 'a request without its name')
  return name
}

/**
 * POSIX ACLs come as attributes of the namespace `system`. Kept as plain bytes they would have no effect, and cp and tar
 * would believe that the mode was set with them: EOPNOTSUPP lets them set the mode.
 */
function attributeAt(names: readonly Buffer[]): Buffer {
  const name = nameAt(names, 0)
  if (name.subarray(0, SYSTEM.length).equals(SYSTEM)) throw new PosixError('EOPNOTSUPP', 'attributes of the system')
  return name
}

function handleOf(body: Buffer): number {
  return readU64(body, 0)
}

function offsetAt(body: Buffer, at: number): number {
  const offset = readU64(body, at)
  if (offset > FILE_MAX_BYTES) throw new PosixError('EFBIG', 'beyond the largest file')
  return offset
}

/** getxattr(2), listxattr(2): size 0 asks how much there is. */
function sized(value: Buffer, room: number): Buffer {
  if (room === 0) {
    const out = Buffer.alloc(8)
    out.writeUInt32LE(value.length, 0)
    return out
  }
  if (value.length > room) throw new PosixError('ERANGE', 'the value is longer than the caller has room for')
  return value
}

function withoutPrivileges(mode: number): number {
  return (mode & GROUP_EXEC) === 0 ? mode & ~SUID : mode & ~SUID & ~SGID
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
