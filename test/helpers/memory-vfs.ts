/**
 * VfsContract in memory: a simple model with the semantics of a local disk, for tests of what stands above the VFS.
 * Nothing is checked against the caller's rights: that is the kernel's part (default_permissions).
 */
import { type Clock, compareTime, systemClock } from '../../src/base/clock.js'
import { PosixError } from '../../src/base/errno.js'
import {
  FILE_MAX_BYTES,
  NAME_MAX_BYTES,
  ROOT_INO,
  SYMLINK_MAX_BYTES,
  XATTR_NAME_MAX_BYTES,
  XATTR_VALUE_MAX_BYTES,
} from '../../src/base/limits.js'
import { aclKind } from '../../src/base/acl.js'
import { NOTHING_AT_HAND } from '../../src/vfs/at-hand.js'
import { NOTHING_KEPT } from '../../src/vfs/coherence.js'
import { changeMode, checkSeen, dropPrivileges, inherit, setAcl } from './acl-model.js'
import { LOCK_END, type InodeType, type LockRange } from '../../src/meta/contract.js'
import type {
  Attr,
  AttrChange,
  Caller,
  FileLock,
  LockChange,
  LockConflict,
  CreatedFile,
  OpenedFile,
  RenameFlags,
  RenameReply,
  Seen,
  StatFs,
  VfsContract,
  VfsDirEntry,
  WriteSettings,
} from '../../src/vfs/contract.js'
import { LockTable } from './lock-table.js'
import { MemoryFile } from './memory-file.js'
import { attrOf, checkName, DTYPE, key, type Node } from './memory-node.js'

const O_ACCMODE = 3
const O_WRONLY = 1
const O_RDWR = 2
const O_EXCL = 0o200
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const O_NOATIME = 0o1000000
const S_ISGID = 0o2000
const KEEP_SIZE = 1
const PUNCH_HOLE = 2
const ZERO_RANGE = 16
const SEEK_DATA = 3
const SEEK_HOLE = 4
const COPY_BYTES = 16 * 1024 * 1024
const XATTR_CREATE = 1
const XATTR_REPLACE = 2

const TYPE_OF_FORMAT: ReadonlyMap<number, InodeType> = new Map([
  [0o000000, 'file'],
  [0o100000, 'file'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
  [0o020000, 'char'],
  [0o060000, 'block'],
])

interface OpenFile {
  readonly node: Node
  readonly flags: number
}

interface OpenDir {
  readonly node: Node
  listing: readonly VfsDirEntry[]
}

interface Created {
  readonly type: InodeType
  readonly mode: number
  readonly rdev?: number
  readonly target?: Buffer
}

interface Place {
  readonly dir: Node
  readonly name: Buffer
  readonly node: Node
}

export class MemoryVfs implements VfsContract {
  readonly coherence = NOTHING_KEPT
  readonly atHand = NOTHING_AT_HAND
  readonly #clock: Clock
  readonly #nodes = new Map<number, Node>()
  readonly #files = new Map<number, OpenFile>()
  readonly #dirs = new Map<number, OpenDir>()
  readonly #lockTables = new Map<number, LockTable>()
  readonly #lockedBy = new Map<number, LockRange[]>()
  #lastIno = ROOT_INO - 1
  #lastHandle = 0

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
    const root = this.#newNode({ uid: 0, gid: 0, pid: 0 }, ROOT_INO, { type: 'directory', mode: 0o755 })
    root.nlink = 2
  }

  /** Handles not released yet: a test that ends with some has found a leak. */
  get openHandles(): number {
    return this.#files.size + this.#dirs.size
  }

  /** Inodes that take up memory, the root included: unlinked ones are gone with their last handle. */
  get inodes(): number {
    return this.#nodes.size
  }

  async lookup(_caller: Caller, parent: number, name: Buffer): Promise<Attr> {
    return attrOf(this.#child(this.#dir(parent), name))
  }

  async getattr(_caller: Caller, ino: number): Promise<Attr> {
    return attrOf(this.#node(ino))
  }

  async setattr(_caller: Caller, ino: number, change: AttrChange): Promise<Attr> {
    const node = this.#node(ino)
    checkSeen(node, change.seen)
    if (change.sizeBytes !== undefined) this.#truncate(node, change.sizeBytes)
    this.#changeOwner(node, change)
    if (change.dropPrivileges === true && node.type === 'file') dropPrivileges(node, change.mode === undefined)
    if (change.mode !== undefined) changeMode(node, change.mode & 0o7777)
    if (change.atime !== undefined) node.atime = change.atime === 'now' ? this.#clock.now() : change.atime
    if (change.mtime !== undefined) node.mtime = change.mtime === 'now' ? this.#clock.now() : change.mtime
    node.ctime = this.#clock.now()
    return attrOf(node)
  }

  async readlink(_caller: Caller, ino: number): Promise<Buffer> {
    const node = this.#node(ino)
    if (node.type !== 'symlink') throw new PosixError('EINVAL')
    this.#accessed(node)
    return node.target
  }

  async mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number): Promise<Attr> {
    const type = TYPE_OF_FORMAT.get(mode & 0o170000)
    if (type === undefined) throw new PosixError('EINVAL')
    return attrOf(this.#create(caller, parent, name, { type, mode, rdev }))
  }

  async mkdir(caller: Caller, parent: number, name: Buffer, mode: number): Promise<Attr> {
    const node = this.#create(caller, parent, name, { type: 'directory', mode })
    node.nlink = 2
    this.#dir(parent).nlink++
    return attrOf(node)
  }

  async symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Promise<Attr> {
    if (target.length === 0) throw new PosixError('ENOENT')
    if (target.length > SYMLINK_MAX_BYTES) throw new PosixError('ENAMETOOLONG')
    return attrOf(this.#create(caller, parent, name, { type: 'symlink', mode: 0o777, target: Buffer.from(target) }))
  }

  async link(_caller: Caller, ino: number, parent: number, name: Buffer): Promise<Attr> {
    const node = this.#node(ino)
    if (node.type === 'directory') throw new PosixError('EPERM')
    if (node.nlink === 0 && !node.isTmp) throw new PosixError('ENOENT')
    this.#addEntry(this.#dir(parent), name, node)
    node.nlink++
    node.isTmp = false
    node.ctime = this.#clock.now()
    return attrOf(node)
  }

  async unlink(_caller: Caller, parent: number, name: Buffer): Promise<number> {
    const dir = this.#dir(parent)
    const node = this.#child(dir, name)
    if (node.type === 'directory') throw new PosixError('EISDIR')
    this.#removeEntry(dir, name)
    this.#unlinked(node)
    return node.ino
  }

  async rmdir(_caller: Caller, parent: number, name: Buffer): Promise<number> {
    const dir = this.#dir(parent)
    const node = this.#child(dir, name)
    if (node.type !== 'directory') throw new PosixError('ENOTDIR')
    if (node.entries.size > 0) throw new PosixError('ENOTEMPTY')
    this.#removeEntry(dir, name)
    dir.nlink--
    node.nlink = 0
    this.#forget(node)
    return node.ino
  }

  async rename(
    _caller: Caller,
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
  ): Promise<RenameReply> {
    const from = this.#dir(parent)
    const to = this.#dir(newParent)
    const node = this.#child(from, name)
    checkName(newName)
    if (node.type === 'directory' && this.#isInside(to, node)) throw new PosixError('EINVAL')
    const replaced = this.#entry(to, newName)
    const reply = { moved: node.ino, replaced: replaced?.ino ?? 0 }
    if (flags.exchange === true) {
      this.#exchange({ dir: from, name, node }, { dir: to, name: newName, node: this.#child(to, newName) })
      return reply
    }
    if (replaced === node) return reply
    if (replaced !== undefined) this.#replace(node, replaced, to, flags)
    from.entries.delete(key(name))
    to.entries.set(key(newName), node.ino)
    if (node.type === 'directory') this.#moveDirectory(node, from, to)
    for (const touched of [from, to]) this.#touch(touched)
    node.ctime = this.#clock.now()
    return reply
  }

  #exchange(one: Place, other: Place): void {
    if (one.node === other.node) return
    if (other.node.type === 'directory' && this.#isInside(one.dir, other.node)) throw new PosixError('EINVAL')
    one.dir.entries.set(key(one.name), other.node.ino)
    other.dir.entries.set(key(other.name), one.node.ino)
    if (one.node.type === 'directory') this.#moveDirectory(one.node, one.dir, other.dir)
    if (other.node.type === 'directory') this.#moveDirectory(other.node, other.dir, one.dir)
    for (const { dir, node } of [one, other]) {
      this.#touch(dir)
      node.ctime = this.#clock.now()
    }
  }

  async create(caller: Caller, parent: number, name: Buffer, mode: number, flags: number): Promise<CreatedFile> {
    const existing = this.#entry(this.#dir(parent), name)
    if (existing !== undefined) {
      if ((flags & O_EXCL) !== 0) throw new PosixError('EEXIST')
      return { ...(await this.open(caller, existing.ino, flags)), created: false }
    }
    const node = this.#create(caller, parent, name, { type: 'file', mode })
    return { ...(await this.open(caller, node.ino, flags & ~O_TRUNC)), created: true }
  }

  async tmpfile(caller: Caller, parent: number, mode: number, flags: number): Promise<OpenedFile> {
    const node = this.#born(caller, this.#dir(parent), { type: 'file', mode })
    node.nlink = 0
    node.isTmp = true
    return this.open(caller, node.ino, flags)
  }

  async open(caller: Caller, ino: number, flags: number): Promise<OpenedFile> {
    const node = this.#node(ino)
    if (node.type === 'directory') throw new PosixError('EISDIR')
    if ((flags & O_TRUNC) !== 0) {
      this.#truncate(node, 0)
      if (!(caller.keepsSetid ?? caller.uid === 0)) dropPrivileges(node, true)
    }
    node.opens++
    const handle = ++this.#lastHandle
    this.#files.set(handle, { node, flags })
    return { attr: attrOf(node), handle, atimeDue: (flags & O_NOATIME) === 0 && this.#isAtimeDue(node) }
  }

  async pin(ino: number): Promise<void> {
    const node = this.#node(ino)
    if (node.nlink === 0) throw new PosixError('ENOENT')
    node.opens++
  }

  unpin(ino: number): void {
    const node = this.#node(ino)
    node.opens--
    this.#forget(node)
  }

  async read(handle: number, offset: number, lengthBytes: number): Promise<Buffer> {
    const { node, flags } = this.#file(handle)
    if ((flags & O_ACCMODE) === O_WRONLY) throw new PosixError('EBADF')
    if ((flags & O_NOATIME) === 0) this.#accessed(node)
    return node.file.read(offset, lengthBytes)
  }

  async readPieces(handle: number, offset: number, lengthBytes: number): Promise<readonly Buffer[]> {
    return [await this.read(handle, offset, lengthBytes)]
  }

  async write(handle: number, offset: number, data: Uint8Array, settings: WriteSettings = {}): Promise<number> {
    const { node, flags: openFlags } = this.#file(handle)
    const { flags = openFlags } = settings
    const access = openFlags & O_ACCMODE
    if (access !== O_WRONLY && access !== O_RDWR) throw new PosixError('EBADF')
    return this.#write(node, (flags & O_APPEND) !== 0 ? node.file.sizeBytes : offset, data)
  }

  async writeBack(handle: number, offset: number, data: Uint8Array): Promise<number> {
    return this.#write(this.#file(handle).node, offset, data)
  }

  #write(node: Node, at: number, data: Uint8Array): number {
    const room = FILE_MAX_BYTES - at
    if (room <= 0 && data.length > 0) throw new PosixError('EFBIG')
    const taken = data.subarray(0, room)
    node.file.write(at, taken)
    dropPrivileges(node, false)
    this.#touch(node)
    node.dataVersion++
    return taken.length
  }

  async fallocate(handle: number, mode: number, offset: number, lengthBytes: number): Promise<void> {
    const { node, flags } = this.#file(handle)
    const [keepsSize, kind] = [(mode & KEEP_SIZE) !== 0, mode & ~KEEP_SIZE]
    const isKnown = kind === 0 || kind === ZERO_RANGE || (kind === PUNCH_HOLE && keepsSize)
    if (!isKnown) throw new PosixError('EOPNOTSUPP')
    if ((flags & O_ACCMODE) === 0) throw new PosixError('EBADF')
    if (offset < 0 || lengthBytes <= 0) throw new PosixError('EINVAL')
    if (offset + lengthBytes > FILE_MAX_BYTES) throw new PosixError('EFBIG')
    if (kind !== 0) node.file.zero(offset, lengthBytes)
    if (!keepsSize) node.file.truncate(Math.max(node.file.sizeBytes, offset + lengthBytes))
    this.#touch(node)
    node.dataVersion++
  }

  async seek(handle: number, offset: number, whence: number): Promise<number> {
    const { file } = this.#file(handle).node
    if (offset < 0 || offset >= file.sizeBytes) throw new PosixError('ENXIO')
    if (whence === SEEK_HOLE) return file.holeFrom(offset)
    if (whence !== SEEK_DATA) throw new PosixError('EINVAL')
    const at = file.dataFrom(offset)
    if (at === undefined) throw new PosixError('ENXIO')
    return at
  }

  async copyRange(source: number, from: number, target: number, to: number, lengthBytes: number): Promise<number> {
    const [input, output] = [this.#file(source), this.#file(target)]
    const overlaps = input.node === output.node && from < to + lengthBytes && to < from + lengthBytes
    if (overlaps) throw new PosixError('EINVAL')
    if ((output.flags & O_APPEND) !== 0) throw new PosixError('EBADF')
    const data = input.node.file.read(from, Math.min(lengthBytes, COPY_BYTES))
    return this.#write(output.node, to, data)
  }

  async flush(handle: number, owner?: string): Promise<void> {
    const { node } = this.#file(handle)
    if (owner !== undefined) this.#locks(node.ino).unlock(0, { kind: 'posix', owner, start: 0n, end: LOCK_END })
  }

  async fsync(handle: number): Promise<void> {
    this.#file(handle)
  }

  async release(handle: number): Promise<void> {
    const { node } = this.#file(handle)
    this.#files.delete(handle)
    for (const range of this.#lockedBy.get(handle) ?? []) this.#locks(node.ino).unlock(0, range)
    this.#lockedBy.delete(handle)
    node.opens--
    this.#forget(node)
  }

  async opendir(_caller: Caller, ino: number): Promise<number> {
    const node = this.#dir(ino)
    const handle = ++this.#lastHandle
    node.opens++
    this.#dirs.set(handle, { node, listing: [] })
    return handle
  }

  async readdir(handle: number, offset: bigint, limit: number): Promise<readonly VfsDirEntry[]> {
    const dir = this.#openDir(handle)
    if (offset === 0n) dir.listing = this.#list(dir.node)
    this.#accessed(dir.node)
    return dir.listing.slice(Number(offset), Number(offset) + limit)
  }

  releasedir(handle: number): void {
    const { node } = this.#openDir(handle)
    this.#dirs.delete(handle)
    node.opens--
    this.#forget(node)
  }

  async getlk(handle: number, lock: FileLock): Promise<LockConflict | null> {
    return this.#locks(this.#file(handle).node.ino).get(0, lock)
  }

  async setlk(handle: number, { type, ...range }: LockChange, wait: boolean, signal?: AbortSignal): Promise<void> {
    const locks = this.#locks(this.#file(handle).node.ino)
    if (type === 'unlock') {
      locks.unlock(0, range)
      return
    }
    await locks.set(0, { ...range, type }, wait, signal)
    // Of owners that a flush never names. (A process that locks one file through two descriptors would lose too much here.)
    const whole = { ...range, start: 0n, end: LOCK_END }
    this.#lockedBy.set(handle, [...(this.#lockedBy.get(handle) ?? []), whole])
  }

  #locks(ino: number): LockTable {
    let table = this.#lockTables.get(ino)
    if (table === undefined) this.#lockTables.set(ino, (table = new LockTable()))
    return table
  }

  async fsyncdir(handle: number): Promise<void> {
    this.#openDir(handle)
  }

  async getxattr(ino: number, name: Buffer): Promise<Buffer> {
    aclKind(name)
    const value = this.#node(ino).xattrs.get(key(name))
    if (value === undefined) throw new PosixError('ENODATA')
    return value
  }

  async listxattr(ino: number): Promise<readonly Buffer[]> {
    return [...this.#node(ino).xattrs.keys()].map((name) => Buffer.from(name, 'latin1'))
  }

  async setxattr(
    ...[ino, name, value, flags, clearSgid = false, seen]: Parameters<VfsContract['setxattr']>
  ): Promise<void> {
    const node = this.#node(ino)
    checkSeen(node, seen)
    if (name.length > XATTR_NAME_MAX_BYTES) throw new PosixError('ERANGE')
    if (value.length > XATTR_VALUE_MAX_BYTES) throw new PosixError('E2BIG')
    if (flags === XATTR_CREATE && node.xattrs.has(key(name))) throw new PosixError('EEXIST')
    if (flags === XATTR_REPLACE && !node.xattrs.has(key(name))) throw new PosixError('ENODATA')
    if (!setAcl(node, name, value, clearSgid)) node.xattrs.set(key(name), Buffer.from(value))
    node.ctime = this.#clock.now()
  }

  async removexattr(ino: number, name: Buffer, seen?: Seen): Promise<void> {
    const node = this.#node(ino)
    checkSeen(node, seen)
    aclKind(name)
    if (!node.xattrs.delete(key(name))) throw new PosixError('ENODATA')
    node.ctime = this.#clock.now()
  }

  async statfs(): Promise<StatFs> {
    const files = 2 ** 20
    return {
      blockBytes: 4096,
      blocks: 2 ** 28,
      blocksFree: 2 ** 27,
      files,
      filesFree: files - this.#nodes.size,
      nameMaxBytes: NAME_MAX_BYTES,
    }
  }

  async syncAll(): Promise<void> {}

  async shutdown(): Promise<void> {}

  #node(ino: number): Node {
    const node = this.#nodes.get(ino)
    if (node === undefined) throw new PosixError('ENOENT')
    return node
  }

  /** relatime of mount(8), but for files that are a day old. */
  #isAtimeDue({ atime, mtime, ctime }: Node): boolean {
    return compareTime(atime, mtime) <= 0 || compareTime(atime, ctime) <= 0
  }

  #accessed(node: Node): void {
    if (this.#isAtimeDue(node)) node.atime = this.#clock.now()
  }

  #dir(ino: number): Node {
    const node = this.#node(ino)
    if (node.type !== 'directory') throw new PosixError('ENOTDIR')
    return node
  }

  #file(handle: number): OpenFile {
    const file = this.#files.get(handle)
    if (file === undefined) throw new PosixError('EBADF')
    return file
  }

  #openDir(handle: number): OpenDir {
    const dir = this.#dirs.get(handle)
    if (dir === undefined) throw new PosixError('EBADF')
    return dir
  }

  #entry(dir: Node, name: Buffer): Node | undefined {
    checkName(name)
    if (name.equals(Buffer.from('.'))) return dir
    if (name.equals(Buffer.from('..'))) return this.#node(dir.parent)
    const ino = dir.entries.get(key(name))
    return ino === undefined ? undefined : this.#node(ino)
  }

  #child(dir: Node, name: Buffer): Node {
    const node = this.#entry(dir, name)
    if (node === undefined) throw new PosixError('ENOENT')
    return node
  }

  #newNode(caller: Caller, parent: number, created: Created): Node {
    const now = this.#clock.now()
    const node: Node = {
      ino: ++this.#lastIno,
      type: created.type,
      rdev: created.rdev ?? 0,
      file: new MemoryFile(),
      target: created.target ?? Buffer.alloc(0),
      entries: new Map(),
      xattrs: new Map(),
      mode: created.mode & 0o7777,
      uid: caller.uid,
      gid: caller.gid,
      nlink: 1,
      isTmp: false,
      parent: created.type === 'directory' ? parent : 0,
      atime: now,
      mtime: now,
      ctime: now,
      btime: now,
      dataVersion: 0,
      opens: 0,
    }
    this.#nodes.set(node.ino, node)
    return node
  }

  #create(caller: Caller, parent: number, name: Buffer, created: Created): Node {
    const dir = this.#dir(parent)
    if (dir.nlink === 0) throw new PosixError('ENOENT')
    if (this.#entry(dir, name) !== undefined) throw new PosixError('EEXIST')
    const node = this.#born(caller, dir, created)
    this.#addEntry(dir, name, node)
    return node
  }

  #born(caller: Caller, dir: Node, created: Created): Node {
    const node = this.#newNode(caller, dir.ino, created)
    inherit(dir, node, caller.umask ?? 0)
    // A set-group-ID directory hands its group down, and to directories the bit itself (inode(7)).
    if ((dir.mode & S_ISGID) !== 0) {
      node.gid = dir.gid
      if (node.type === 'directory') node.mode |= S_ISGID
    }
    return node
  }

  #addEntry(dir: Node, name: Buffer, node: Node): void {
    if (this.#entry(dir, name) !== undefined) throw new PosixError('EEXIST')
    dir.entries.set(key(name), node.ino)
    this.#touch(dir)
  }

  #removeEntry(dir: Node, name: Buffer): void {
    dir.entries.delete(key(name))
    this.#touch(dir)
  }

  #unlinked(node: Node): void {
    node.nlink--
    node.ctime = this.#clock.now()
    this.#forget(node)
  }

  #forget(node: Node): void {
    if (node.nlink === 0 && node.opens === 0) this.#nodes.delete(node.ino)
  }

  #touch(node: Node): void {
    node.mtime = this.#clock.now()
    node.ctime = node.mtime
  }

  #truncate(node: Node, sizeBytes: number): void {
    if (node.type === 'directory') throw new PosixError('EISDIR')
    if (node.type !== 'file') throw new PosixError('EINVAL')
    if (sizeBytes > FILE_MAX_BYTES) throw new PosixError('EFBIG')
    node.file.truncate(sizeBytes)
    dropPrivileges(node, false)
    this.#touch(node)
    node.dataVersion++
  }

  /** chown(2): a file with execute rights loses set-user-ID and set-group-ID. */
  #changeOwner(node: Node, change: AttrChange): void {
    if (change.uid === undefined && change.gid === undefined) return
    node.uid = change.uid ?? node.uid
    node.gid = change.gid ?? node.gid
    if (node.type === 'file') dropPrivileges(node, true)
  }

  #isInside(dir: Node, ancestor: Node): boolean {
    for (let node = dir; ; node = this.#node(node.parent)) {
      if (node === ancestor) return true
      if (node.ino === ROOT_INO) return false
    }
  }

  #replace(node: Node, replaced: Node, to: Node, flags: RenameFlags): void {
    if (flags.noReplace === true) throw new PosixError('EEXIST')
    if (node.type === 'directory' && replaced.type !== 'directory') throw new PosixError('ENOTDIR')
    if (node.type !== 'directory' && replaced.type === 'directory') throw new PosixError('EISDIR')
    if (replaced.entries.size > 0) throw new PosixError('ENOTEMPTY')
    if (replaced.type !== 'directory') return this.#unlinked(replaced)
    to.nlink--
    replaced.nlink = 0
    this.#forget(replaced)
  }

  #moveDirectory(node: Node, from: Node, to: Node): void {
    from.nlink--
    to.nlink++
    node.parent = to.ino
  }

  #list(dir: Node): VfsDirEntry[] {
    const own: [string, number][] = [
      ['.', dir.ino],
      ['..', dir.parent],
    ]
    return [...own, ...dir.entries].map(([name, ino], index) => {
      const attr = attrOf(this.#node(ino))
      return { name: Buffer.from(name, 'latin1'), ino, dtype: DTYPE[attr.type], attr, offset: BigInt(index + 1) }
    })
  }
}
