/** The parts of one VFS, put together once; what the services of files and names share. */
import { PosixError } from '../base/errno.js'
import { systemClock, type Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import { silentLog, type Log } from '../base/log.js'
import { Metrics } from '../base/metrics.js'
import { Repeats } from '../base/repeats.js'
import type { ChunkClient, Durability } from '../chunk/contract.js'
import type { Attr, MetaEvent, MetaStore } from '../meta/contract.js'
import { AccessTimes } from './access-times.js'
import { BodyMover } from './body-mover.js'
import { AttrCache, DentryCache } from './cache.js'
import { ChunkCache } from './chunk-cache.js'
import type { AtimePolicy } from './contract.js'
import { Compactor } from './compactor.js'
import { CompleteDirectories } from './complete.js'
import { Committer } from './committer.js'
import { Coherence } from './coherence.js'
import { DirectoryLosses } from './directory-losses.js'
import { ExtentCache } from './extent-cache.js'
import type { WindowMark } from './extent-map.js'
import { Freshness } from './freshness.js'
import { Handles } from './handles.js'
import { OpenDirectories } from './open-directories.js'
import { InodeStates } from './inode-state.js'
import { FileLocks } from './locks.js'
import { Lru } from './lru.js'
import { resolveLimits, type VfsLimits } from './limits.js'
import { EarlyCommits } from './early-commits.js'
import { DirtyMemory } from './memory.js'
import { Packer, type PackDone } from './packer.js'
import { Reader } from './reader.js'
import { Spiller } from './spiller.js'
import { Tail } from './tail.js'
import { Uploader } from './uploader.js'

export interface VfsOptions {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly clock?: Clock
  /** 0 to 1. Default Math.random. */
  readonly random?: () => number
  readonly log?: Log
  readonly limits?: Partial<VfsLimits>
  /** How many owners must have written data before it is committed. Default 'quorum'. */
  readonly durability?: Durability
  /** Changes are refused with EROFS, and nothing is tidied up in passing. Default false. */
  readonly readOnly?: boolean
  /** Asked before anything is tidied up in passing. Default: it may be, unless readOnly. */
  readonly mayTidyUp?: () => boolean
  /**
   * Which changes are as durable as after fsync when their call returns: those of names (dirsync of mount(8)), or all but
   * writes (sync; after each write the kernel asks for an fsync itself). Default 'none'.
   */
  readonly durableChanges?: DurableChanges
  /** Which reads change the access time: access-times.ts. Default 'relatime'; nothing does when readOnly. */
  readonly atime?: AtimePolicy
  /** Reading a directory does not change its access time. Default false. */
  readonly nodiratime?: boolean
  readonly metrics?: Metrics
}

export type DurableChanges = 'none' | 'names' | 'all'

const LISTED_MAX = 1_024
/** Files whose extent maps are kept. */
const EXTENT_FILES_MAX = 10_000

export class VfsContext {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly clock: Clock
  readonly log: Log
  /** Calls that failed. */
  readonly failures: Repeats
  readonly limits: VfsLimits
  readonly durability: Durability
  readonly readOnly: boolean
  readonly durableChanges: DurableChanges
  readonly fresh: Freshness
  readonly tail = new Tail()
  readonly attrs: AttrCache
  readonly dentries: DentryCache
  readonly complete: CompleteDirectories
  /** Directories that were listed a while ago. */
  readonly listed = new Lru<number, true>(LISTED_MAX)
  readonly extents: ExtentCache
  readonly uploader: Uploader
  readonly compactor: Compactor
  readonly spiller: Spiller
  readonly bodyMover: BodyMover
  readonly states: InodeStates
  readonly early: EarlyCommits
  readonly handles: Handles
  readonly directories = new OpenDirectories()
  readonly losses: DirectoryLosses
  readonly reader: Reader
  readonly locks: FileLocks
  readonly atimes: AccessTimes
  readonly coherence: Coherence
  #events = 0
  #isSyncing = false

  constructor(options: VfsOptions) {
    const { meta, chunks, clock = systemClock, log = silentLog, durability = 'quorum' } = options
    const { chunkBytes } = meta.settings
    const limits = resolveLimits(options.limits ?? {}, chunkBytes)
    const fresh = new Freshness(meta, this.tail)
    const attrs = new AttrCache(meta, fresh, limits.attrs, (attr) => this.directories.saw(attr))
    // The part that tells the kernel comes into being last.
    const onCommitted = (ino: number, version: number): void => this.coherence.committed(ino, version)
    const data = new ChunkCache(chunks, limits.dataCacheBytes, limits.chunkReads)
    const uploader = new Uploader({ meta, chunks, clock, log, limits })
    const memory = new DirtyMemory(limits.dirtyBytes, limits.flushAfterMs, clock)
    const { budget } = memory
    const packParts = { meta, chunks, uploader, data, budget, clock, durability, fresh }
    const { readOnly = false } = options
    const mayTidyUp = (): boolean => !readOnly && options.mayTidyUp?.() !== false
    const packer = new Packer({ ...packParts, restMs: limits.packRestMs, mayTidyUp })
    const onDone = (ino: number, version: number): void => {
      // Nothing else tells that these attributes name a version before.
      attrs.drop(ino)
      onCommitted(ino, version)
    }
    const onPacked = (ino: number, { extents: packed, from, version, isNewest }: PackDone): void => {
      extents.packed(ino, packed, from, version, isNewest)
    }
    const random = options.random ?? Math.random
    const compactor = new Compactor({ meta, packer, clock, random, log, mayTidyUp, onDone, onPacked })
    const extents = new ExtentCache(meta, fresh, EXTENT_FILES_MAX, limits.extentPieces, (ino, window) => {
      if (!readOnly) compactor.offer(ino, window)
    })
    const onScattered = (ino: number, window: number, mark: WindowMark): void => {
      if (!readOnly && limits.packRestMs !== Infinity) compactor.offerScattered(ino, window, mark)
    }
    const committer = new Committer({ meta, fresh, attrs, extents, uploader, data, onCommitted })
    const readAheadBytes = Math.min(limits.readAheadBytes, Math.floor(limits.dataCacheBytes / 2))
    this.meta = meta
    this.chunks = chunks
    this.clock = clock
    this.log = log
    this.failures = new Repeats(clock)
    this.limits = limits
    this.durability = durability
    this.readOnly = readOnly
    this.durableChanges = options.durableChanges ?? 'none'
    this.fresh = fresh
    this.attrs = attrs
    this.complete = new CompleteDirectories(clock, (ino) => meta.partitionOf(ino))
    this.dentries = new DentryCache(fresh, this.complete, limits.dentries)
    this.extents = extents
    this.uploader = uploader
    this.compactor = compactor
    this.spiller = new Spiller(this)
    // The kernel has it in its pages, and the store's version and times do not tell.
    const onLost = (ino: number): void => this.coherence.invalidate({ kind: 'data', ino })
    const onUnseen = (ino: number, failure: PosixError): void => this.tail.owe(ino, failure)
    this.states = new InodeStates({ clock, log, limits, chunkBytes, memory, uploader, committer, onLost, onUnseen })
    this.tail.onFull = () => void this.#syncBehind()
    this.early = new EarlyCommits(meta)
    this.handles = new Handles(limits.handles)
    this.losses = new DirectoryLosses(this.handles, this.tail)
    this.reader = new Reader({ attrs, extents, data, fresh, log, readAheadBytes, onScattered })
    this.locks = new FileLocks(this)
    const policy = this.readOnly ? 'noatime' : (options.atime ?? 'relatime')
    const skipsDirectories = options.nodiratime ?? false
    this.atimes = new AccessTimes({ meta, attrs, fresh, clock, log, policy, skipsDirectories })
    this.coherence = new Coherence(this)
    const moving = { meta, chunks, uploader, fresh, attrs, extents, states: this.states, clock, log, durability }
    this.bodyMover = new BodyMover({ ...moving, restMs: limits.spillRestMs, mayTidyUp, onMoved: onCommitted })
    meta.onEvent((event) => this.#onEvent(event))
    this.#tell(options.metrics ?? new Metrics(), data, memory, packer)
  }

  #tell(metrics: Metrics, data: ChunkCache, memory: DirtyMemory, packer: Packer): void {
    const caches = { attributes: this.attrs, names: this.dentries, data }
    for (const [name, cache] of Object.entries(caches)) {
      metrics.counter(`cache.${name}.hits`, () => cache.hits)
      metrics.counter(`cache.${name}.misses`, () => cache.misses)
    }
    metrics.counter('packing.chunks', () => packer.made)
    metrics.counter('packing.bytes', () => packer.madeBytes)
    metrics.counter('moving.files', () => this.bodyMover.moved)
    metrics.counter('moving.bytes', () => this.bodyMover.movedBytes)
    metrics.gauge('inline.usedBytes', () => this.meta.oldBodies.usedBytes)
    metrics.gauge('inline.budgetBytes', () => this.meta.oldBodies.budgetBytes)
    metrics.counter('events.received', () => this.#events)
    metrics.gauge('events.partitions', () => this.meta.partitionsHeard)
    metrics.gauge('buffers.dirtyBytes', () => memory.budget.used)
    metrics.gauge('buffers.dirtyMaxBytes', () => memory.budget.limit)
    metrics.gauge('buffers.readCacheBytes', () => data.usedBytes)
    metrics.gauge('buffers.readCacheMaxBytes', () => this.limits.dataCacheBytes)
    metrics.gauge('handles.open', () => this.handles.size)
  }

  /** Runs a change of an inode; its reply, if it is the newest word about it, is cached. */
  async mutate<T extends Attr | null>(ino: number, change: () => Promise<T>): Promise<T> {
    const mutation = this.fresh.begin(ino)
    try {
      const attr = await change()
      this.attrs.settle(mutation, attr)
      return attr
    } catch (error) {
      this.attrs.settle(mutation, null)
      throw error
    }
  }

  /** No attributes are known any more: a change touched an inode whose number is not known here. */
  forgetAttrs(): void {
    this.fresh.lost()
    this.attrs.clear()
  }

  /** Waits until every change acknowledged so far is durable. */
  async sync(): Promise<void> {
    const mark = this.tail.mark()
    await this.meta.sync()
    this.tail.synced(mark)
  }

  /** Where a sync says that nothing was lost, what is before it need not be remembered. */
  async #syncBehind(): Promise<void> {
    if (this.#isSyncing || this.meta.settings.metaReplicas === 0) return
    this.#isSyncing = true
    try {
      await this.sync()
    } catch (error) {
      this.log.warn({ error: messageOf(error) }, 'whether changes are durable is not known yet')
    } finally {
      this.#isSyncing = false
    }
  }

  /** Of what the last changes are lost the next fsync says so: each handle of what is open, the next one of what is not. */
  #lostTail(of: (ino: number) => boolean): void {
    const failure = new PosixError('EIO', 'a Redis server has lost changes of the inode')
    const isConcerned = this.tail.lost(of, failure)
    for (const { ino, writer } of this.states.all()) {
      if (!isConcerned(ino)) continue
      writer.lost(failure)
      this.tail.told(ino)
    }
    this.losses.lost(isConcerned, failure)
  }

  /** Drops exactly what the event names, here first, then in the kernel: a question that comes between must not find it. */
  #onEvent(event: MetaEvent): void {
    this.#events++
    this.#drop(event)
    this.coherence.onEvent(event)
  }

  #drop(event: MetaEvent): void {
    switch (event.kind) {
      case 'attr':
        this.attrs.drop(event.ino)
        // It may be a directory that was removed.
        this.complete.doubt(event.ino)
        return
      case 'data':
        this.attrs.drop(event.ino)
        this.extents.drop(event.ino)
        return
      case 'entry':
        // A directory's times and link count change with its names.
        this.dentries.drop(event.parent, event.name)
        this.attrs.drop(event.parent)
        return
      case 'locksLost':
        this.locks.lost(event.of)
        return
      case 'tailLost':
        this.#lostTail(event.of)
        return
      case 'lost':
      case 'back':
        this.forgetAttrs()
        this.dentries.clear()
        this.extents.clear()
        return
      case 'ignored':
        this.#forgetIn(event.partitions)
        return
      case 'heard':
        // Nothing is kept of them, but what was asked before may be about to be.
        this.fresh.lostIn(event.partitions)
        this.complete.lostIn(event.partitions)
    }
  }

  #forgetIn(partitions: ReadonlySet<number>): void {
    const isMeant = (ino: number): boolean => partitions.has(this.meta.partitionOf(ino))
    this.attrs.clearOf(isMeant)
    this.dentries.clearOf(isMeant)
    this.complete.clearOf(isMeant)
    this.extents.clearOf(isMeant)
  }
}
