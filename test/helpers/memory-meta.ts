/**
 * A metadata store in memory, for tests of what lies above: `MemoryVolume` is the shared state (memory-state.ts), each `open()` a session
 * of it. Faithful to the comments of src/meta/contract.ts: appends are placed by the commit (memory-contents.ts), unlinked files live until
 * their last session closes them, every change of one session is an event of the others. `before` bends it: it runs
 * before each call, may wait, and may throw.
 */
import { WINDOW_BYTES, longestInlineBytes } from '../../src/base/limits.js'
import { compareTime, type TimeSpec } from '../../src/base/clock.js'
import { PosixError } from '../../src/base/errno.js'
import { aclKind } from '../../src/base/acl.js'
import type { VolumeSettings } from '../../src/cluster/contract.js'
import type {
  AccessTime,
  Attr,
  AttrChange,
  CloneRequest,
  CommitReply,
  CommitRequest,
  CreateReply,
  DirCursor,
  DirEntry,
  Extent,
  ExtentWindow,
  FileLock,
  InlineCommitRequest,
  LockConflict,
  LockRange,
  MetaEvent,
  MetaStore,
  NewInode,
  OpenOptions,
  OpenReply,
  PackingGround,
  PunchRequest,
  ReaddirReply,
  RenameFlags,
  RenameReply,
  SawDirectory,
  Seen,
  Usage,
  WindowList,
} from '../../src/meta/contract.js'
import type { OldBodies, OldBody } from '../../src/meta/inline-contract.js'
import { changeMode, checkSeen, dropPrivileges, inherit, setAcl, type AclInode } from './acl-model.js'
import { account, addExtent, freeWindow, shorten, windowOf } from './memory-contents.js'
import { pageOf } from './memory-listing.js'
import { MemoryState, ROOT, key, type Inode } from './memory-state.js'

const SETGID = 0o2000

export class MemoryVolume extends MemoryState {
  #nextSession = 1

  open(): MemoryMeta {
    const meta = new MemoryMeta(this, this.#nextSession++)
    this.receivers.push(meta)
    return meta
  }
}

/** What a name in a directory names. */
interface Name {
  readonly parent: number
  readonly name: Buffer
  readonly ino: number
}

export class MemoryMeta implements MetaStore {
  readonly settings: VolumeSettings
  readonly sessionId: number
  /** Calls by name, for tests that count round trips. */
  readonly calls = new Map<string, number>()
  /** Runs before each call; may delay it or throw. */
  before: (call: string, ...args: readonly unknown[]) => Promise<void> | void = () => undefined
  /** Runs after the store changed and before the caller hears of it. */
  after: (call: string) => Promise<void> | void = () => undefined
  readonly #volume: MemoryVolume
  readonly #opens = new Map<number, number>()
  #listener: (event: MetaEvent) => void = () => undefined
  #coherent = true
  #inbox: Promise<void> = Promise.resolve()

  constructor(volume: MemoryVolume, sessionId: number) {
    this.#volume = volume
    this.settings = volume.settings
    this.sessionId = sessionId
  }

  get coherent(): boolean {
    return this.#coherent
  }

  /** What is left of the lease, for tests that let it run out. */
  leaseMs = 30_000

  get coherentMs(): number {
    return this.#coherent ? this.leaseMs : 0
  }

  readonly #ignored = new Set<number>()

  partitionOf(ino: number): number {
    return ino % this.settings.partitions
  }

  hears(ino: number): boolean {
    return this.#coherent && !this.#ignored.has(this.partitionOf(ino))
  }

  get partitionsHeard(): number {
    return this.settings.partitions - this.#ignored.size
  }

  /** Nothing is told of these until something is asked of them. */
  ignore(...partitions: number[]): void {
    for (const p of partitions) this.#ignored.add(p)
    this.#listener({ kind: 'ignored', partitions: new Set(partitions) })
  }

  #listen(ino: number): void {
    const p = this.partitionOf(ino)
    if (this.#ignored.delete(p)) this.#listener({ kind: 'heard', partitions: new Set([p]) })
  }

  /** The subscription is lost, or back. */
  setCoherent(coherent: boolean): void {
    this.#coherent = coherent
    this.#listener({ kind: coherent ? 'back' : 'lost' })
  }

  onEvent(listener: (event: MetaEvent) => void): void {
    this.#listener = listener
  }

  /** A server has lost the last changes of these. */
  loseTail(of: (ino: number) => boolean): void {
    this.#listener({ kind: 'tailLost', of })
  }

  /** Other clients take the session for dead: its locks are others', and it learns that at its next renewal. */
  loseLocks(): void {
    this.leased = false
    this.#volume.dropLocks(this.sessionId)
  }

  leased = true

  confirmLease(): Promise<void> {
    return this.#call('confirmLease', () => {
      if (this.leased) return
      this.#listener({ kind: 'locksLost' })
      this.leased = true
    })
  }

  getlk(ino: number, lock: FileLock): Promise<LockConflict | null> {
    return this.#call('getlk', () => this.#volume.locks(ino).get(this.sessionId, lock))
  }

  setlk(
    ino: number,
    lock: FileLock,
    { wait, signal }: { readonly wait: boolean; readonly signal?: AbortSignal },
  ): Promise<Attr> {
    return this.#call('setlk', async () => {
      this.#inode(ino)
      await this.#volume.locks(ino).set(this.sessionId, lock, wait, signal)
      await this.delivered()
      return { ...this.#inode(ino).attr }
    })
  }

  unlock(ino: number, range: LockRange): Promise<void> {
    return this.#call('unlock', () => this.#volume.locks(ino).unlock(this.sessionId, range))
  }

  /** Events come a little later, in order. */
  receive(event: MetaEvent): void {
    this.#inbox = this.#inbox.then(() => {
      const of = event.kind === 'entry' ? event.parent : 'ino' in event ? event.ino : undefined
      if (of === undefined ? this.#coherent : this.hears(of)) this.#listener(event)
    })
  }

  caughtUp(): Promise<void> {
    this.calls.set('caughtUp', (this.calls.get('caughtUp') ?? 0) + 1)
    return this.#inbox
  }

  /** Resolves when every event sent so far was delivered. */
  async delivered(): Promise<void> {
    await this.#inbox
  }

  lookup(parent: number, name: Buffer): Promise<Attr> {
    return this.#call('lookup', () => {
      if (!this.#volume.inodes.has(parent)) throw new PosixError('ESTALE')
      const ino = this.#directory(parent).names.get(key(name))
      if (ino === undefined) throw new PosixError('ENOENT')
      return { ...this.#inode(ino).attr }
    })
  }

  getattr(ino: number): Promise<Attr> {
    return this.#call('getattr', () => ({ ...this.#inode(ino).attr }))
  }

  setattr(ino: number, change: AttrChange): Promise<Attr> {
    return this.#call('setattr', () => {
      const inode = this.#inode(ino)
      checkSeen(inode.attr, change.seen)
      if (change.sizeBytes !== undefined) this.#truncate(inode, change.sizeBytes)
      this.#setAttributes(inode, change)
      this.#emit({ kind: change.sizeBytes === undefined ? 'attr' : 'data', ino })
      return { ...inode.attr }
    })
  }

  #setAttributes(inode: Inode, change: AttrChange): void {
    const { attr } = inode
    if (change.dropPrivileges === true && attr.type === 'file') dropPrivileges(aclInode(inode), true)
    if (change.mode !== undefined) changeMode(aclInode(inode), change.mode)
    const owner = change.uid !== undefined || change.gid !== undefined
    if (change.uid !== undefined) attr.uid = change.uid
    if (change.gid !== undefined) attr.gid = change.gid
    if (owner && attr.type !== 'directory') dropPrivileges(aclInode(inode), change.mode === undefined)
    if (change.atime !== undefined) attr.atime = change.atime === 'now' ? this.#volume.clock.now() : change.atime
    if (change.mtime !== undefined) attr.mtime = change.mtime === 'now' ? this.#volume.clock.now() : change.mtime
    attr.ctime = this.#volume.clock.now()
  }

  touch(updates: readonly AccessTime[]): Promise<void> {
    return this.#call('touch', () => {
      for (const { ino, replaces, atime } of updates) {
        const attr = this.#volume.inodes.get(ino)?.attr
        if (attr === undefined || compareTime(attr.atime, replaces) !== 0) continue
        attr.atime = atime
        this.#emit({ kind: 'attr', ino })
      }
    })
  }

  create(
    parent: number,
    name: Buffer,
    inode: NewInode,
    options: { readonly exclusive: boolean; readonly open: boolean },
    saw?: SawDirectory,
  ): Promise<CreateReply> {
    return this.#call('create', () => {
      const directory = this.#directory(parent)
      const existing = directory.names.get(key(name))
      if (existing !== undefined) {
        if (options.exclusive) throw new PosixError('EEXIST')
        const { attr } = this.#inode(existing)
        if (options.open && attr.type === 'file') this.#register(existing)
        return { attr: { ...attr }, created: false }
      }
      const gid = (directory.attr.mode & SETGID) !== 0 ? directory.attr.gid : inode.gid
      const attr = this.#add(parent, name, { ...inode, gid })
      saw?.({ ...directory.attr })
      if (options.open) this.#register(attr.ino)
      return { attr, created: true }
    })
  }

  tmpfile(parent: number, inode: NewInode): Promise<Attr> {
    return this.#call('tmpfile', () => {
      const directory = this.#directory(parent)
      const gid = (directory.attr.mode & SETGID) !== 0 ? directory.attr.gid : inode.gid
      const made = this.#born(parent, { ...inode, gid })
      made.attr.nlink = 0
      made.isTmp = true
      this.#register(made.attr.ino)
      return { ...made.attr }
    })
  }

  mkdir(
    parent: number,
    name: Buffer,
    mode: number,
    uid: number,
    gid: number,
    umask = 0,
    saw?: SawDirectory,
  ): Promise<Attr> {
    return this.#call('mkdir', () => {
      const directory = this.#directory(parent)
      if (directory.names.has(key(name))) throw new PosixError('EEXIST')
      const inherits = (directory.attr.mode & SETGID) !== 0
      const bits = inherits ? mode | SETGID : mode
      const attr = this.#add(parent, name, {
        type: 'directory',
        mode: bits,
        umask,
        uid,
        gid: inherits ? directory.attr.gid : gid,
      })
      directory.attr.nlink++
      saw?.({ ...directory.attr })
      return attr
    })
  }

  link(ino: number, parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr> {
    return this.#call('link', () => {
      const directory = this.#directory(parent)
      const inode = this.#inode(ino)
      if (inode.attr.type === 'directory') throw new PosixError('EPERM')
      if (inode.attr.nlink === 0 && !inode.isTmp) throw new PosixError('ENOENT')
      if (directory.names.has(key(name))) throw new PosixError('EEXIST')
      directory.names.set(key(name), ino)
      inode.attr.nlink++
      inode.isTmp = false
      inode.attr.ctime = this.#volume.clock.now()
      this.#emit({ kind: 'attr', ino })
      this.#touch(parent, name)
      saw?.({ ...directory.attr })
      return { ...inode.attr }
    })
  }

  unlink(parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr> {
    return this.#call('unlink', () => {
      const ino = this.#directory(parent).names.get(key(name))
      if (ino === undefined) throw new PosixError('ENOENT')
      const inode = this.#inode(ino)
      if (inode.attr.type === 'directory') throw new PosixError('EISDIR')
      this.#removeName(parent, name)
      saw?.({ ...this.#directory(parent).attr })
      return { ...inode.attr }
    })
  }

  rmdir(parent: number, name: Buffer, saw?: SawDirectory): Promise<number> {
    return this.#call('rmdir', () => {
      const ino = this.#directory(parent).names.get(key(name))
      if (ino === undefined) throw new PosixError('ENOENT')
      const inode = this.#inode(ino)
      if (inode.attr.type !== 'directory') throw new PosixError('ENOTDIR')
      if (inode.names.size > 0) throw new PosixError('ENOTEMPTY')
      this.#removeName(parent, name)
      saw?.({ ...this.#directory(parent).attr })
      return ino
    })
  }

  rename(
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
    saw?: SawDirectory,
  ): Promise<RenameReply> {
    return this.#call('rename', () => {
      const ino = this.#directory(parent).names.get(key(name))
      const target = this.#directory(newParent).names.get(key(newName))
      if (ino === undefined) throw new PosixError('ENOENT')
      const inode = this.#inode(ino)
      if (flags.exchange === true) {
        if (target === undefined) throw new PosixError('ENOENT')
        this.#exchange({ parent, name, ino }, { parent: newParent, name: newName, ino: target })
        return { moved: ino, replaced: target }
      }
      if (target !== undefined && flags.noReplace) throw new PosixError('EEXIST')
      if (target === ino) return { moved: ino, replaced: ino }
      if (inode.attr.type === 'directory') this.#checkLoop(ino, newParent)
      if (target !== undefined) {
        this.#checkReplace(inode, this.#inode(target))
        this.#removeName(newParent, newName)
      }
      this.#directory(parent).names.delete(key(name))
      this.#directory(newParent).names.set(key(newName), ino)
      if (inode.attr.type === 'directory') {
        this.#directory(parent).attr.nlink--
        this.#directory(newParent).attr.nlink++
        inode.attr.parent = newParent
      }
      inode.attr.ctime = this.#volume.clock.now()
      this.#emit({ kind: 'attr', ino })
      this.#touch(parent, name)
      this.#touch(newParent, newName)
      for (const changed of [parent, newParent]) saw?.({ ...this.#directory(changed).attr })
      return { moved: ino, replaced: target ?? 0 }
    })
  }

  #exchange(one: Name, other: Name): void {
    if (one.ino === other.ino) return
    const moves = [
      { ...one, to: other },
      { ...other, to: one },
    ]
    for (const { ino, to } of moves) if (this.#inode(ino).attr.type === 'directory') this.#checkLoop(ino, to.parent)
    for (const { ino, parent, to } of moves) {
      const { attr } = this.#inode(ino)
      this.#directory(to.parent).names.set(key(to.name), ino)
      attr.ctime = this.#volume.clock.now()
      this.#emit({ kind: 'attr', ino })
      if (attr.type !== 'directory') continue
      this.#directory(parent).attr.nlink--
      this.#directory(to.parent).attr.nlink++
      attr.parent = to.parent
    }
    for (const { parent, name } of [one, other]) this.#touch(parent, name)
  }

  readlink(ino: number): Promise<Buffer> {
    return this.#call('readlink', () => {
      const inode = this.#inode(ino)
      if (inode.attr.type !== 'symlink') throw new PosixError('EINVAL')
      return Buffer.from(inode.target)
    })
  }

  open(ino: number, options: OpenOptions): Promise<OpenReply> {
    return this.#call('open', () => {
      const inode = this.#inode(ino)
      if (options.truncate) {
        this.#truncate(inode, 0)
        if (options.dropPrivileges === true) dropPrivileges(aclInode(inode), true)
        this.#emit({ kind: 'data', ino })
      }
      this.#register(ino)
      const attr = { ...inode.attr }
      const comes = attr.type === 'file' && attr.dataVersion !== options.have && inode.windows.size <= 1
      return comes ? { attr, window0: windowOf(inode, 0) } : { attr }
    })
  }

  /** Which inodes' delegations are held: nobody is kept from changing anything, that is for the test to see to. */
  held: (ino: number) => boolean = () => false

  holds(ino: number): boolean {
    return this.held(ino)
  }

  openHeld(ino: number): boolean {
    if (!this.held(ino)) return false
    this.#register(ino)
    return true
  }

  readonly delegationFigures = { opens: 0, waitedMs: [] }

  close(ino: number): void {
    const count = this.#opens.get(ino) ?? 0
    if (count === 0) throw new Error(`inode ${ino} was closed more often than opened`)
    if (count > 1) {
      this.#opens.set(ino, count - 1)
      return
    }
    this.#opens.delete(ino)
    const inode = this.#volume.inodes.get(ino)
    if (inode === undefined) return
    inode.opens--
    this.#reap(inode)
  }

  /** How often the inode is open in this session. */
  opens(ino: number): number {
    return this.#opens.get(ino) ?? 0
  }

  readdir(ino: number, cursor: DirCursor | null, limit: number, plus: boolean): Promise<ReaddirReply> {
    return this.#call('readdir', () => {
      const all = [...this.#directory(ino).names].map(([name, child]) => this.#entry(name, child, plus))
      return pageOf(all, cursor, limit)
    })
  }

  extents(ino: number, window: number, have?: ExtentWindow): Promise<ExtentWindow> {
    return this.#call('extents', () => {
      const now = windowOf(this.#inode(ino), window)
      if (have === undefined || have.generation !== now.generation) return now
      // What the caller holds is taken for true.
      return { ...now, extents: [...have.extents, ...now.extents.slice(have.extents.length)] }
    })
  }

  commit(ino: number, request: CommitRequest): Promise<CommitReply> {
    return this.#call('commit', () => {
      const inode = this.#inode(ino)
      const { attr } = inode
      if (attr.type !== 'file') throw new PosixError('EINVAL')
      const base = request.mode === 'append' ? attr.sizeBytes : 0
      const length = request.extents.reduce((end, extent) => Math.max(end, extent.fileOffset + extent.lengthBytes), 0)
      const room = WINDOW_BYTES - (base % WINDOW_BYTES)
      const isCut = request.extents.some((one) => one.fileOffset < room && one.fileOffset + one.lengthBytes > room)
      if (request.mode === 'append' && isCut) return { attr: { ...attr }, baseOffset: base, cutAfterBytes: room }
      for (const extent of request.extents) addExtent(inode, { ...extent, fileOffset: base + extent.fileOffset })
      attr.sizeBytes = Math.max(attr.sizeBytes, base + length, request.minSizeBytes ?? 0)
      account(attr, request.allocatedDeltaBytes)
      attr.dataVersion++
      attr.mtime = this.#mtimeOf(inode, request)
      attr.ctime = compareTime(attr.mtime, attr.ctime) > 0 ? attr.mtime : attr.ctime
      dropPrivileges(aclInode(inode), request.clearSuid === true)
      this.#emit({ kind: 'data', ino })
      return { attr: { ...attr }, baseOffset: base }
    })
  }

  /** As where a transaction holds the inode: bytes are committed without the attributes that come along. */
  leavesAttributes = false
  /** There is room for bodies. */
  roomInline = true

  get inlineBytes(): number {
    return this.settings.inlineBytes
  }

  prepare(): Promise<void> {
    return Promise.resolve()
  }

  get wholeInlineBytes(): number {
    return this.roomInline ? longestInlineBytes(this.settings.inlineBytes) : 0
  }

  commitInline(ino: number, request: InlineCommitRequest): Promise<CommitReply | null> {
    return this.#call('commitInline', () => {
      const inode = this.#inode(ino)
      const { attr } = inode
      if (attr.type !== 'file') throw new PosixError('EINVAL')
      const base = request.mode === 'append' ? attr.sizeBytes : 0
      const end = request.pieces.reduce((at, { fileOffset, bytes }) => Math.max(at, fileOffset + bytes.length), 0)
      const isOne = request.mode === 'at' && request.pieces.length === 1 && request.pieces[0]?.fileOffset === 0
      const isWhole = isOne && end >= attr.sizeBytes
      const longest = isWhole ? longestInlineBytes(this.settings.inlineBytes) : this.settings.inlineBytes
      if (attr.hasExtents || base + end > longest || !this.roomInline) return null
      for (const { fileOffset, bytes } of request.pieces) {
        const piece = { fileOffset: base + fileOffset, lengthBytes: bytes.length, bytes: Buffer.from(bytes) }
        inode.body.push(piece)
      }
      attr.hasBody = true
      const { clearSuid = false } = request
      const reply = this.#wrote(inode, { ...request, clearSuid, minSizeBytes: base + end })
      if (request.attributes === undefined) return { attr: reply, baseOffset: base }
      const left = { attr: reply, baseOffset: base, attributesLeft: true } as const
      if (this.leavesAttributes) return left
      try {
        checkSeen(attr, request.attributes.seen)
      } catch {
        return left
      }
      this.#setAttributes(inode, request.attributes)
      return { attr: { ...attr }, baseOffset: base }
    })
  }

  spill(ino: number, version: number, extents: readonly Extent[]): Promise<Attr | null> {
    return this.#call('spill', () => this.#spill(ino, version, extents))
  }

  #spill(ino: number, version: number, extents: readonly Extent[]): Attr | null {
    const inode = this.#inode(ino)
    const { attr } = inode
    if (!attr.hasBody || attr.dataVersion !== version) return null
    inode.body = []
    attr.hasBody = false
    if (extents.length > 0) inode.windows.set(0, [...extents, ...(inode.windows.get(0) ?? [])])
    attr.hasExtents = inode.windows.size > 0
    inode.generation = ++attr.dataVersion
    this.#emit({ kind: 'data', ino })
    return { ...attr }
  }

  get oldBodies(): OldBodies {
    const volume = this.#volume
    const used = (): number => volume.bodyBytes
    return {
      get usedBytes() {
        return used()
      },
      budgetBytes: this.settings.inlineBudgetBytes,
      count: () => this.#call('count', used),
      claim: () => this.#call('claim', () => (volume.mover ??= this.sessionId) === this.sessionId),
      find: (restMs) => this.#call('find', () => this.#findOld(restMs)),
      move: (moves) =>
        this.#call('move', () =>
          moves.map(({ ino, version, extents }) => {
            return volume.inodes.has(ino) && this.#spill(ino, version, extents) !== null
          }),
        ),
    }
  }

  #findOld(restMs: number): OldBody[] {
    const nowMs = this.#volume.clock.now().sec * 1000
    const old = [...this.#volume.inodes.values()].filter(({ attr }) => {
      return attr.hasBody && attr.nlink > 0 && attr.ctime.sec * 1000 + restMs < nowMs
    })
    return old
      .filter(({ opens }) => opens === 0)
      .map(({ attr, body }) => {
        const { ino, dataVersion: version, ctime, hasExtents } = attr
        return { ino, version, ctime, body: hasExtents ? undefined : [...body] }
      })
  }

  compact(
    ino: number,
    old: ExtentWindow,
    extents: readonly Extent[],
    dropped: readonly Extent[],
    allocatedDeltaBytes: number,
    oldestOrder?: number,
  ): Promise<number | null> {
    return this.#call('compact', () => {
      const inode = this.#inode(ino)
      if (oldestOrder !== undefined && oldestOrder <= this.#volume.keptOrder) return null
      const now = inode.windows.get(old.window) ?? []
      if (inode.generation !== old.generation || now.length < old.extents.length) return null
      inode.windows.set(old.window, [...extents, ...now.slice(old.extents.length)])
      inode.generation = ++inode.attr.dataVersion
      account(inode.attr, allocatedDeltaBytes)
      for (const { chunk } of dropped) if (chunk !== null) this.#volume.garbage.add(chunk.id)
      this.#emit({ kind: 'data', ino })
      return inode.attr.dataVersion
    })
  }

  packingGround(_: number, chunkIds: readonly number[]): Promise<PackingGround> {
    const { keptOrder, shared } = this.#volume
    return this.#call('packingGround', () => ({
      keptOrder,
      shared: new Set(chunkIds.filter((id) => shared.has(id))),
    }))
  }

  windows(ino: number, from: number, limit: number): Promise<WindowList> {
    return this.#call('windows', () => {
      const { attr, windows } = this.#inode(ino)
      if (attr.type !== 'file') throw new PosixError('EINVAL')
      const all = new Set([...(attr.hasBody ? [0] : []), ...windows.keys()])
      const found = [...all].filter((window) => window >= from).sort((a, b) => a - b)
      return { attr: { ...attr }, windows: found.slice(0, limit) }
    })
  }

  punch(ino: number, request: PunchRequest): Promise<Attr | null> {
    return this.#call('punch', () => {
      const inode = this.#inode(ino)
      if (inode.attr.type !== 'file') throw new PosixError('EINVAL')
      if (inode.attr.hasBody && request.windows.has(0)) return null
      let allocatedDeltaBytes = 0
      for (const [window, delta] of request.windows) {
        allocatedDeltaBytes += delta
        const start = Math.max(request.offset, window * WINDOW_BYTES)
        const end = Math.min(request.offset + request.lengthBytes, (window + 1) * WINDOW_BYTES)
        if (end <= start || !inode.windows.has(window)) continue
        const hole = { fileOffset: start, lengthBytes: end - start, chunk: null, chunkOffset: 0 }
        if (end - start < WINDOW_BYTES) addExtent(inode, hole)
        else for (const id of freeWindow(inode, window)) this.#volume.garbage.add(id)
      }
      return this.#wrote(inode, { ...request, allocatedDeltaBytes })
    })
  }

  clone(ino: number, request: CloneRequest): Promise<Attr | null> {
    return this.#call('clone', () => {
      const inode = this.#inode(ino)
      if (inode.attr.type !== 'file') throw new PosixError('EINVAL')
      const source = this.#inode(request.source)
      if (inode.attr.dataVersion !== request.version || source.attr.dataVersion !== request.sourceVersion) return null
      if (inode.attr.hasBody && request.extents.some(({ extent }) => extent.fileOffset < WINDOW_BYTES)) return null
      for (const { extent, sourceWindow } of request.extents) {
        addExtent(inode, extent)
        const isElsewhere = request.source !== ino || Math.floor(extent.fileOffset / WINDOW_BYTES) !== sourceWindow
        if (isElsewhere && extent.chunk !== null) this.#volume.shared.add(extent.chunk.id)
      }
      return this.#wrote(inode, request)
    })
  }

  chunkId(): Promise<number> {
    return this.#call('chunkId', () => this.#volume.nextChunk++)
  }

  getxattr(ino: number, name: Buffer): Promise<Buffer> {
    return this.#call('getxattr', () => {
      aclKind(name)
      const value = this.#inode(ino).xattrs.get(key(name))
      if (value === undefined) throw new PosixError('ENODATA')
      return Buffer.from(value)
    })
  }

  listxattr(ino: number): Promise<readonly Buffer[]> {
    return this.#call('listxattr', () => [...this.#inode(ino).xattrs.keys()].map((name) => Buffer.from(name, 'latin1')))
  }

  setxattr(...[ino, name, value, mode, clearSgid = false, seen]: Parameters<MetaStore['setxattr']>): Promise<void> {
    return this.#call('setxattr', () => {
      const inode = this.#inode(ino)
      const { xattrs, attr } = inode
      checkSeen(attr, seen)
      if (mode === 'create' && xattrs.has(key(name))) throw new PosixError('EEXIST')
      if (mode === 'replace' && !xattrs.has(key(name))) throw new PosixError('ENODATA')
      const isUser = key(name).startsWith('user.')
      if (isUser && attr.type !== 'file' && attr.type !== 'directory') throw new PosixError('EPERM')
      if (!setAcl(aclInode(inode), name, value, clearSgid)) xattrs.set(key(name), Buffer.from(value))
      attr.hasXattrs = xattrs.size > 0
      attr.ctime = this.#volume.clock.now()
      this.#emit({ kind: 'attr', ino })
    })
  }

  removexattr(ino: number, name: Buffer, seen?: Seen): Promise<void> {
    return this.#call('removexattr', () => {
      aclKind(name)
      const { attr, xattrs } = this.#inode(ino)
      checkSeen(attr, seen)
      if (!xattrs.delete(key(name))) throw new PosixError('ENODATA')
      attr.hasXattrs = xattrs.size > 0
      attr.ctime = this.#volume.clock.now()
      this.#emit({ kind: 'attr', ino })
    })
  }

  collectGarbage(remove: (chunkIds: readonly number[]) => Promise<void>): Promise<number> {
    return this.#call('collectGarbage', () => {
      const live = this.#volume.liveChunks()
      const ids = [...this.#volume.garbage].filter((id) => !live.has(id))
      this.#volume.garbage.clear()
      return remove(ids).then(() => ids.length)
    })
  }

  usage(): Promise<Usage> {
    return this.#call('usage', () => {
      const inodes = [...this.#volume.inodes.values()]
      return { inodes: inodes.length, usedBytes: inodes.reduce((sum, { attr }) => sum + attr.allocatedBytes, 0) }
    })
  }

  sync(): Promise<void> {
    return this.#call('sync', () => undefined)
  }

  async shutdown(): Promise<void> {
    this.#volume.dropLocks(this.sessionId)
    for (const [ino, count] of [...this.#opens]) for (let i = 0; i < count; i++) this.close(ino)
    await this.delivered()
  }

  async #call<T>(name: string, run: () => T | Promise<T>): Promise<T> {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1)
    await this.before(name)
    const reply = await run()
    await this.after(name)
    return reply
  }

  #emit(event: MetaEvent): void {
    this.#volume.emit(this, event)
  }

  #inode(ino: number): Inode {
    this.#listen(ino)
    const inode = this.#volume.inodes.get(ino)
    if (inode === undefined) throw new PosixError('ENOENT', `no inode ${ino}`)
    return inode
  }

  #directory(ino: number): Inode {
    const inode = this.#inode(ino)
    if (inode.attr.type !== 'directory') throw new PosixError('ENOTDIR')
    return inode
  }

  #add(parent: number, name: Buffer, inode: NewInode): Attr {
    const made = this.#born(parent, inode)
    this.#directory(parent).names.set(key(name), made.attr.ino)
    this.#touch(parent, name)
    return { ...made.attr }
  }

  #born(parent: number, inode: NewInode): Inode {
    const ino = this.#volume.nextIno++
    const made = this.#volume.newInode(ino, inode, parent)
    inherit(this.#directory(parent), aclInode(made), inode.umask ?? 0)
    made.attr.hasXattrs = made.xattrs.size > 0
    this.#volume.inodes.set(ino, made)
    return made
  }

  /** The name is gone, and the inode with its last name unless it is open anywhere. */
  #removeName(parent: number, name: Buffer): void {
    const directory = this.#directory(parent)
    const inode = this.#inode(directory.names.get(key(name)) ?? 0)
    directory.names.delete(key(name))
    if (inode.attr.type === 'directory') directory.attr.nlink--
    inode.attr.nlink = inode.attr.type === 'directory' ? 0 : inode.attr.nlink - 1
    inode.attr.ctime = this.#volume.clock.now()
    this.#touch(parent, name)
    this.#emit({ kind: 'attr', ino: inode.attr.ino })
    this.#reap(inode)
  }

  #reap(inode: Inode): void {
    if (inode.attr.nlink === 0 && inode.opens === 0) this.#volume.inodes.delete(inode.attr.ino)
  }

  #register(ino: number): void {
    const count = this.#opens.get(ino) ?? 0
    this.#opens.set(ino, count + 1)
    if (count === 0) this.#inode(ino).opens++
  }

  #touch(parent: number, name: Buffer): void {
    const { attr } = this.#directory(parent)
    attr.mtime = attr.ctime = this.#volume.clock.now()
    this.#emit({ kind: 'entry', parent, name: Buffer.from(name) })
  }

  #checkLoop(ino: number, newParent: number): void {
    for (let at = newParent; at !== ROOT; at = this.#inode(at).attr.parent)
      if (at === ino) throw new PosixError('EINVAL')
  }

  #checkReplace(moved: Inode, target: Inode): void {
    const isDirectory = moved.attr.type === 'directory'
    if (target.attr.type === 'directory' && !isDirectory) throw new PosixError('EISDIR')
    if (target.attr.type !== 'directory' && isDirectory) throw new PosixError('ENOTDIR')
    if (target.names.size > 0) throw new PosixError('ENOTEMPTY')
  }

  #entry(name: string, ino: number, plus: boolean): DirEntry {
    const { attr } = this.#inode(ino)
    const bytes = Buffer.from(name, 'latin1')
    const entry = { name: bytes, ino, type: attr.type, cursor: { score: this.#volume.score(name), name: bytes } }
    return plus ? { ...entry, attr: { ...attr } } : entry
  }

  #wrote(
    inode: Inode,
    request: Pick<CloneRequest, 'minSizeBytes' | 'allocatedDeltaBytes' | 'mtime' | 'clearSuid'> & { neverBack?: true },
  ): Attr {
    const { attr } = inode
    attr.sizeBytes = Math.max(attr.sizeBytes, request.minSizeBytes)
    account(attr, request.allocatedDeltaBytes)
    attr.dataVersion++
    attr.mtime = this.#mtimeOf(inode, request)
    attr.ctime = compareTime(attr.mtime, attr.ctime) > 0 ? attr.mtime : attr.ctime
    dropPrivileges(aclInode(inode), request.clearSuid)
    this.#emit({ kind: 'data', ino: attr.ino })
    return { ...attr }
  }

  /** The clients' clocks are not the store's: so it goes by who wrote. */
  #mtimeOf(inode: Inode, { mtime, neverBack }: Pick<CommitRequest, 'mtime' | 'neverBack'>): TimeSpec {
    const { attr, writer } = inode
    inode.writer = this.sessionId
    const isLate = compareTime(mtime, attr.mtime) < 0 && compareTime(attr.mtime, attr.ctime) <= 0
    const isBehindOthers = writer !== undefined && writer !== this.sessionId
    return neverBack === true && isBehindOthers && isLate ? this.#volume.clock.now() : mtime
  }

  #truncate(inode: Inode, size: number): void {
    const { attr } = inode
    if (attr.type === 'directory') throw new PosixError('EISDIR')
    if (attr.type !== 'file') throw new PosixError('EINVAL')
    if (size < attr.sizeBytes) shorten(inode, size)
    attr.sizeBytes = size
    attr.dataVersion++
    dropPrivileges(aclInode(inode), false)
    attr.mtime = attr.ctime = this.#volume.clock.now()
  }
}

/** The inode as the ACL model sees it: the mode is that of the attributes. */
function aclInode({ attr, xattrs }: Inode): AclInode {
  return {
    type: attr.type,
    xattrs,
    get mode() {
      return attr.mode
    },
    set mode(mode) {
      attr.mode = mode
    },
  }
}
