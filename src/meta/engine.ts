/** MetaStore on Redis Cluster: puts the parts together. The key schema stands in keys.ts, the transactions in transaction.ts. */
import { systemClock, type Clock } from '../base/clock.js'
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { systemProcesses } from '../base/processes.js'
import type { RedisStore, VolumeSettings } from '../cluster/contract.js'
import { touch } from './access-times.js'
import { Blocks } from './blocks.js'
import { Bodies } from './bodies.js'
import type {
  AccessTime,
  Attr,
  AttrChange,
  CloneRequest,
  CommitReply,
  CommitRequest,
  CreateReply,
  DelegationFigures,
  DirCursor,
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
  Usage,
  WindowList,
} from './contract.js'
import { Core } from './core.js'
import { readdir } from './directory.js'
import { Files, newExtents } from './files.js'
import { ensureRoot } from './format.js'
import { collectGarbage, type RemoveChunks } from './garbage.js'
import { Hearing } from './hearing.js'
import { Holdings } from './holdings.js'
import type { OldBodies } from './inline-contract.js'
import { VolumeKeys } from './keys.js'
import { LISTEN_MS } from './listening.js'
import { Locks, type WaitOptions } from './locks.js'
import { Namespace } from './namespace.js'
import { Neighbours } from './neighbours.js'
import { OldBodyStore } from './old-bodies.js'
import type { MetaOptions } from './options.js'
import { Openers } from './openers.js'
import { Ranges } from './ranges.js'
import { REPLICAS_MS, Replicas } from './replicas.js'
import { Reaper, allPartitions, each, releaseSession } from './recovery.js'
import { SCRIPTS } from './scripts.js'
import { Session } from './session.js'
import { Strays } from './strays.js'
import { TailMender } from './tail-mender.js'
import { restartIfGone, untilDone } from './transaction.js'
import { Xattrs } from './xattrs.js'

const SESSION_TTL_MS = 30_000
const INTENT_TIMEOUT_MS = 5_000
const OPERATION_DEADLINE_MS = 30_000
const NUMBERS_AHEAD = 16

export async function openMeta(store: RedisStore, settings: VolumeSettings, options: MetaOptions): Promise<MetaStore> {
  const meta = new RedisMeta(store, settings, options)
  await meta.start()
  return meta
}

class RedisMeta implements MetaStore {
  readonly settings: VolumeSettings
  readonly #store: RedisStore
  readonly #log: Log
  readonly #clock: Clock
  readonly #session: Session
  readonly #core: Core
  readonly #openers: Openers
  readonly #holdings: Holdings
  readonly #files: Files
  readonly #ranges: Ranges
  readonly #bodies: Bodies
  readonly #blocks: Blocks
  readonly #oldBodies: OldBodyStore
  readonly #names: Namespace
  readonly #reaps: boolean
  readonly #xattrs: Xattrs
  readonly #locks: Locks
  readonly #neighbours: Neighbours
  readonly #strays: Strays
  readonly #mender: TailMender
  readonly #hearing: Hearing
  #reaper: Reaper | undefined

  constructor(store: RedisStore, settings: VolumeSettings, options: MetaOptions) {
    this.settings = settings
    this.#store = store
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    const keys = new VolumeKeys(settings.name, settings.partitions)
    const operationDeadlineMs = options.operationDeadlineMs ?? OPERATION_DEADLINE_MS
    const ttlMs = options.sessionTtlMs ?? SESSION_TTL_MS
    this.#reaps = options.reaps ?? true
    const processes = options.processes ?? systemProcesses
    const shared = { store, keys, clock: this.#clock, log: options.log, operationDeadlineMs }
    const replicas = new Replicas({ ...shared, settings, replicasMs: options.replicasMs ?? REPLICAS_MS })
    this.#session = new Session({ ...shared, replicas, processes, ttlMs })
    this.#core = new Core({
      ...shared,
      settings,
      session: this.#session,
      replicas,
      random: options.random ?? Math.random,
      intentTimeoutMs: options.intentTimeoutMs ?? INTENT_TIMEOUT_MS,
      numbersAhead: options.numbersAhead ?? NUMBERS_AHEAD,
      atOnce: options.atOnce ?? options.onStep === undefined,
      ...(options.onStep === undefined ? {} : { onStep: options.onStep }),
    })
    this.#neighbours = new Neighbours(this.#core, processes)
    this.#strays = new Strays(this.#core)
    this.#openers = new Openers(this.#core)
    this.#hearing = new Hearing({
      ...{ session: this.#session, log: options.log, clock: this.#clock, keys },
      listenMs: options.listenMs ?? LISTEN_MS,
      inUse: () => [...this.#openers.inos, ...this.#locks.inosWaitedFor],
      lookOver: () => this.#mender.lookOver(),
      onChange: (isCoherent) => {
        this.#holdings.lost()
        if (isCoherent) this.#locks.back()
      },
      onGap: (partitions) => {
        for (const p of partitions) this.#holdings.lostIn(p)
      },
      around: (p, message, tell) => {
        this.#locks.receive(message)
        tell()
        this.#holdings.receive(p, message)
      },
    })
    this.#holdings = new Holdings(this.#core, store, this.#openers, this.#hearing, options.delegations ?? {})
    this.#core.holdings = this.#holdings
    this.#core.listen = (p) => this.#hearing.use(p)
    this.#core.onFinished = (ino) => this.#hearing.tell({ kind: 'attr', ino })
    this.#files = new Files(this.#core, this.#openers)
    this.#ranges = new Ranges(this.#core)
    this.#bodies = new Bodies(this.#core)
    this.#blocks = new Blocks(this.#core)
    this.#oldBodies = new OldBodyStore(this.#core, this.#bodies, this.#blocks)
    this.#names = new Namespace(this.#core, this.#files)
    this.#xattrs = new Xattrs(this.#core)
    this.#locks = new Locks(this.#core, {
      getattr: (ino) => this.#files.getattr(ino),
      caughtUp: () => this.caughtUp(),
    })
    this.#mender = new TailMender(this.#core, {
      locks: this.#locks,
      register: (of) => this.#register([...this.#openers.inos].filter(of)),
      tell: (event) => this.#hearing.tell(event),
      forgetAll: () => this.#hearing.forgetAll(),
    })
  }

  async start(): Promise<void> {
    await ensureRoot(this.#store, this.settings, this.#clock)
    this.#session.onLive = () => this.#hearing.check()
    this.#session.onEnded = () => {
      this.#blocks.ended(this.#session.id)
      this.#core.voids.clear()
      this.#locks.ended()
      this.#openers.ended()
      this.#hearing.tell({ kind: 'locksLost' })
    }
    this.#session.onLastLook = () => this.#mender.lookBack()
    this.#session.onDead = async () => {
      await this.#blocks.reown(this.#session.id)
      await this.#reopen()
    }
    this.#session.onJudged = (p, low) => {
      this.#hearing.judged(p, low)
      this.#core.voids.judged(p, low)
      this.#openers.judged(p)
    }
    this.#session.onUncertain = (p, sequence, beside) => {
      this.#hearing.failed(p, sequence, beside)
      this.#holdings.lost()
      this.#hearing.forgetAll()
    }
    await this.#session.open()
    await this.#hearing.start(this.#store)
    const { ttlMs } = this.#session
    if (!this.#reaps) return
    this.#reaper = new Reaper(this.#core, ttlMs / 2, ttlMs / 2)
    await this.#neighbours.start()
  }

  async prepare(): Promise<void> {
    await Promise.all([this.#store.prepare(Object.values(SCRIPTS)), this.#core.replicas.prepare()])
    if (this.#reaps) await this.#core.births.prepare()
  }

  get sessionId(): number {
    return this.#session.id
  }

  get coherent(): boolean {
    return this.#hearing.isCoherent
  }

  get coherentMs(): number {
    return this.#hearing.coherentMs
  }

  hears(ino: number): boolean {
    return this.#hearing.hears(this.#core.keys.home(ino))
  }

  partitionOf(ino: number): number {
    return this.#core.keys.home(ino)
  }

  get partitionsHeard(): number {
    return this.#hearing.partitions
  }

  caughtUp(): Promise<void> {
    return this.#hearing.caughtUp()
  }

  onEvent(listener: (event: MetaEvent) => void): void {
    this.#hearing.listener = listener
  }

  /** After another client ended our session: what is open here is registered anew. What has no name any more is gone. */
  async #reopen(): Promise<void> {
    await this.#register([...this.#openers.inos])
  }

  async #register(inos: readonly number[]): Promise<void> {
    await each(inos, async (ino) => {
      try {
        await this.#files.register(ino)
        this.#openers.registered(ino)
      } catch (error) {
        this.#log.warn({ ino, error: messageOf(error) }, 'an open file was lost with the session')
      }
    })
  }

  lookup(parent: number, name: Buffer): Promise<Attr> {
    return this.#names.lookup(parent, name)
  }

  getattr(ino: number): Promise<Attr> {
    return this.#files.getattr(ino)
  }

  setattr(ino: number, change: AttrChange): Promise<Attr> {
    return this.#files.setattr(ino, change)
  }

  touch(updates: readonly AccessTime[]): Promise<void> {
    return touch(this.#core, updates)
  }

  create(
    parent: number,
    name: Buffer,
    inode: NewInode,
    options: { readonly exclusive: boolean; readonly open: boolean },
    saw?: SawDirectory,
  ): Promise<CreateReply> {
    const wantsOpen = options.open && inode.type === 'file'
    return untilDone(this.#core, async () => {
      const reply = await this.#names.create(parent, name, inode, { ...options, open: wantsOpen }, saw)
      if (!wantsOpen) return reply
      if (reply.created) this.#openers.opened(reply.attr.ino)
      else if (reply.attr.type === 'file') {
        // Removed before we could open it: then it is for us to make.
        const { attr } = await restartIfGone(this.open(reply.attr.ino, { truncate: false }))
        return { created: false, attr }
      }
      return reply
    })
  }

  async tmpfile(parent: number, inode: NewInode): Promise<Attr> {
    const attr = await this.#names.tmpfile(parent, inode)
    this.#openers.opened(attr.ino)
    return attr
  }

  mkdir(...[parent, name, mode, uid, gid, umask = 0, saw]: Parameters<MetaStore['mkdir']>): Promise<Attr> {
    return this.#names.mkdir(parent, name, { mode, uid, gid, umask }, saw)
  }

  link(ino: number, parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr> {
    return this.#names.link(ino, parent, name, saw)
  }

  unlink(parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr> {
    return this.#names.unlink(parent, name, saw)
  }

  rmdir(parent: number, name: Buffer, saw?: SawDirectory, guess?: number): Promise<number> {
    return this.#names.rmdir(parent, name, saw, guess)
  }

  rename(
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
    saw?: SawDirectory,
  ): Promise<RenameReply> {
    return this.#names.rename(parent, name, newParent, newName, flags, saw)
  }

  readlink(ino: number): Promise<Buffer> {
    return this.#files.readlink(ino)
  }

  open(ino: number, options: OpenOptions): Promise<OpenReply> {
    return this.#files.open(ino, options)
  }

  holds(ino: number): boolean {
    return this.#holdings.holds(ino)
  }

  openHeld(ino: number): boolean {
    return this.#holdings.open(ino)
  }

  get delegationFigures(): DelegationFigures {
    return { opens: this.#holdings.opens, waitedMs: this.#core.recalls.waitedMs }
  }

  close(ino: number): void {
    this.#openers.close(ino)
  }

  readdir(ino: number, cursor: DirCursor | null, limit: number, plus: boolean): Promise<ReaddirReply> {
    return readdir(this.#core, ino, cursor, limit, plus)
  }

  extents(ino: number, window: number, have?: ExtentWindow): Promise<ExtentWindow> {
    return this.#files.extents(ino, window, have)
  }

  async commit(ino: number, request: CommitRequest): Promise<CommitReply> {
    await this.#blocks.check(request.extents)
    return await this.#files.commit(ino, request)
  }

  get inlineBytes(): number {
    return this.#bodies.inlineBytes
  }

  get wholeInlineBytes(): number {
    return this.#bodies.wholeInlineBytes
  }

  commitInline(ino: number, request: InlineCommitRequest): Promise<CommitReply | null> {
    return this.#bodies.commit(ino, request)
  }

  async spill(ino: number, version: number, extents: readonly Extent[]): Promise<Attr | null> {
    await this.#blocks.check(extents)
    return await this.#bodies.spill(ino, version, extents)
  }

  get oldBodies(): OldBodies {
    return this.#oldBodies
  }

  async compact(...args: Parameters<MetaStore['compact']>): Promise<number | null> {
    await this.#blocks.check(newExtents(args[1].extents, args[2]))
    return await this.#files.compact(...args)
  }

  packingGround(ino: number, chunkIds: readonly number[]): Promise<PackingGround> {
    return this.#files.packingGround(ino, chunkIds)
  }

  windows(ino: number, from: number, limit: number): Promise<WindowList> {
    return this.#ranges.windows(ino, from, limit)
  }

  punch(ino: number, request: PunchRequest): Promise<Attr | null> {
    return this.#ranges.punch(ino, request)
  }

  clone(ino: number, request: CloneRequest): Promise<Attr | null> {
    return this.#ranges.clone(ino, request)
  }

  chunkId(): Promise<number> {
    return this.#blocks.id()
  }

  collectGarbage(remove: RemoveChunks, graceMs: number): Promise<number> {
    return collectGarbage(this.#core, remove, graceMs, () => this.#strays.look())
  }

  getxattr(ino: number, name: Buffer): Promise<Buffer> {
    return this.#xattrs.get(ino, name)
  }

  listxattr(ino: number): Promise<readonly Buffer[]> {
    return this.#xattrs.list(ino)
  }

  setxattr(...change: Parameters<MetaStore['setxattr']>): Promise<void> {
    return this.#xattrs.set(...change)
  }

  removexattr(...change: Parameters<MetaStore['removexattr']>): Promise<void> {
    return this.#xattrs.remove(...change)
  }

  getlk(ino: number, lock: FileLock): Promise<LockConflict | null> {
    return this.#locks.get(ino, lock)
  }

  setlk(ino: number, lock: FileLock, options: WaitOptions): Promise<Attr> {
    return this.#locks.set(ino, lock, options)
  }

  unlock(ino: number, range: LockRange): Promise<void> {
    return this.#locks.unlock(ino, range)
  }

  get leased(): boolean {
    return this.#session.isLive
  }

  confirmLease(): Promise<void> {
    return this.#session.confirm()
  }

  async usage(): Promise<Usage> {
    let usedBytes = 0
    let inodes = 0
    await each(allPartitions(this.#core), async (p) => {
      const reply = await this.#store.call('HMGET', this.#core.keys.partition(p).counters, 'bytes', 'inodes')
      if (!Array.isArray(reply)) return
      usedBytes += Number(reply[0] ?? 0)
      inodes += Number(reply[1] ?? 0)
    })
    return { usedBytes, inodes }
  }

  /** Waits for the disk, where it is ours, and for as many replicas as the volume asks for. Fewer in time, or a server that has lost some of it: EIO. */
  async sync(): Promise<void> {
    await Promise.all([this.#store.syncLocal(), this.#syncReplicas()])
  }

  async #syncReplicas(): Promise<void> {
    if (this.settings.metaReplicas === 0) return
    const { tails } = this.#session
    const unsynced = tails.unsynced()
    await this.#core.replicas.ofAll()
    // The replicas may be those of a server that has not all that this session was told.
    if (await this.#mender.mend([...unsynced.keys()])) {
      throw new PosixError('EIO', 'a Redis server has lost changes that were to be made durable')
    }
    tails.synced(unsynced)
  }

  async shutdown(): Promise<void> {
    this.#hearing.ending()
    await Promise.all([this.#reaper?.stop(), this.#neighbours.stop()])
    this.#locks.ended()
    await this.#holdings.giveAllBack()
    await this.#openers.flush()
    await this.#core.births.settle()
    this.#openers.stop()
    await this.#core.background.settle()
    await releaseSession(this.#core, this.#session.id, false, [...this.#session.partitionsTouched])
    this.#blocks.close()
    await this.#session.stop()
    await this.#hearing.close()
  }
}
