/**
 * The state of a metadata store in memory: inodes, names, locks, and which chunks are left over or shared. Sessions of it, with the rules of
 * MetaStore: memory-meta.ts.
 */
import { systemClock, type Clock } from '../../src/base/clock.js'
import type { VolumeSettings } from '../../src/cluster/contract.js'
import type { Attr, BodyPiece, Extent, MetaEvent, NewInode } from '../../src/meta/contract.js'
import { LockTable } from './lock-table.js'
import { hashName } from './memory-listing.js'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

export interface Inode {
  readonly attr: Mutable<Attr>
  readonly names: Map<string, number>
  readonly windows: Map<number, Extent[]>
  body: BodyPiece[]
  readonly xattrs: Map<string, Buffer>
  target: Buffer
  opens: number
  generation: number
  /** Made without a name, and has had none yet. */
  isTmp: boolean
  /** The session whose bytes came last. */
  writer?: number
}

const MEMORY_SETTINGS: VolumeSettings = {
  name: 'memory',
  uuid: '00000000-0000-4000-8000-000000000000',
  formatVersion: 1,
  partitions: 16,
  chunkBytes: 4 * 1024 * 1024,
  replicas: 1,
  writeQuorum: 1,
  createdMs: 0,
  metaReplicas: 0,
  metaSync: 'always',
  inlineBytes: 0,
  inlineBudgetBytes: 2 ** 20,
}

export const ROOT = 1

export interface MemoryVolumeOptions {
  readonly settings?: Partial<VolumeSettings>
  readonly clock?: Clock
  /** Score of a name in a listing; the default spreads them. A constant makes every name a tie. */
  readonly score?: (name: string) => number
}

/** A session, as the others see it. */
export interface EventReceiver {
  receive(event: MetaEvent): void
}

/** What all sessions share. */
export class MemoryState {
  readonly settings: VolumeSettings
  readonly inodes = new Map<number, Inode>()
  readonly receivers: EventReceiver[] = []
  readonly #locks = new Map<number, LockTable>()
  readonly clock: Clock
  readonly score: (name: string) => number
  /** Chunks that compaction left over. */
  readonly garbage = new Set<number>()
  /** A chunk of this order or a lower one a backup may name. */
  keptOrder = 0
  /** The session that moves bodies. */
  mover: number | undefined
  /** Chunks that were cloned. */
  readonly shared = new Set<number>()
  nextIno = 2
  nextChunk = 1

  constructor(options: MemoryVolumeOptions = {}) {
    this.settings = { ...MEMORY_SETTINGS, ...options.settings }
    this.clock = options.clock ?? systemClock
    this.score = options.score ?? hashName
    this.inodes.set(ROOT, this.newInode(ROOT, { type: 'directory', mode: 0o755, uid: 0, gid: 0 }, ROOT))
  }

  get bodyBytes(): number {
    const pieces = [...this.inodes.values()].flatMap(({ body }) => body)
    return pieces.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0)
  }

  newInode(ino: number, inode: NewInode, parent: number): Inode {
    const now = this.clock.now()
    const isDirectory = inode.type === 'directory'
    const target = inode.target ?? Buffer.alloc(0)
    const attr: Attr = {
      ino,
      type: inode.type,
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      nlink: isDirectory ? 2 : 1,
      sizeBytes: isDirectory ? 4096 : target.length,
      allocatedBytes: 0,
      rdev: inode.rdev ?? 0,
      atime: now,
      mtime: now,
      ctime: now,
      btime: now,
      dataVersion: 1,
      parent: isDirectory ? parent : 0,
      hasXattrs: false,
      hasExtents: false,
      hasBody: false,
    }
    return {
      attr,
      names: new Map(),
      windows: new Map(),
      body: [],
      xattrs: new Map(),
      target,
      opens: 0,
      generation: 1,
      isTmp: false,
    }
  }

  /** Of the inode. Deadlocks are found within one inode only. */
  locks(ino: number): LockTable {
    let table = this.#locks.get(ino)
    if (table === undefined) this.#locks.set(ino, (table = new LockTable()))
    return table
  }

  /** All is released that the session held. */
  dropLocks(session: number): void {
    for (const table of this.#locks.values()) table.drop(session)
  }

  /** Chunk ids that some extent names. */
  liveChunks(): Set<number> {
    const ids = new Set<number>()
    for (const { windows } of this.inodes.values()) {
      for (const extents of windows.values()) for (const { chunk } of extents) if (chunk !== null) ids.add(chunk.id)
    }
    return ids
  }

  /** The others hear of it. */
  emit(by: EventReceiver, event: MetaEvent): void {
    for (const receiver of this.receivers) if (receiver !== by) receiver.receive(event)
  }
}

/** Names as latin1 strings, which keep every byte. */
export function key(name: Buffer): string {
  return name.toString('latin1')
}
