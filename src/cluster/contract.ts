/** Types of membership and ring, shared by chunk clients, chunk nodes and the command line. */

export type NodeState = 'joining' | 'up' | 'suspect' | 'down' | 'draining' | 'gone'

export interface Member {
  /** Stable identity, a uuid kept in the node's data folder; not its address. */
  readonly id: string
  /** What peers and clients connect to: `host:port` or `unix:/path`. */
  readonly address: string
  readonly zone: string
  /** Capacity weight, above 0; 1 is normal. */
  readonly weight: number
  readonly state: NodeState
  readonly pid: number
  /** Changes at each start of the process: two processes with one identity are told apart by it. */
  readonly incarnation: string
  readonly totalBytes: number
  readonly freeBytes: number
  readonly chunks: number
  /** Milliseconds since the last heartbeat, on Redis time. */
  readonly silentMs: number
  /** Entries in the node's replication queue. */
  readonly queueLength: number
  /** Down for so long that its chunks are made anew elsewhere: it has no place on the ring until it is back. */
  readonly isOut?: boolean
  /** What the node last said of itself; absent before its first word. */
  readonly report?: NodeReport
}

/** Somebody whom a node cannot reach. */
export interface Unreachable {
  readonly id: string
  readonly address: string
  readonly why: string
  /** How long it has been so, in milliseconds of the node that says it. */
  readonly forMs: number
}

/** How far a node is with moving chunks. */
export interface HealReport {
  /** What the walk is for (planOf in plan.ts); '' before the first. */
  readonly plan: string
  /** Folders of the ring that are walked, of HEAL_BUCKETS. */
  readonly walked: number
  /** true: the whole ring is walked for this plan, every owner that is not down was asked, and none lacked anything. */
  readonly isDone: boolean
  /** Copies that owners lacked, as this walk found so far. */
  readonly lacking: number
  /** Owners that were down, so that this walk did not ask them. */
  readonly skipped: number
  /** Folders of the ring that this walk could not list: what only this node has of them it has offered to nobody. */
  readonly unlisted: number
  /** Chunks here that have other owners, as found by this walk, without those that were given up. */
  readonly surplus: number
  /** Since the node's start: what it fetched, and what it gave up because all owners have it. */
  readonly copied: number
  readonly copiedBytes: number
  readonly retired: number
  /** Average over the last seconds. */
  readonly bytesPerS: number
}

/** A disk of a node: a folder of its own with chunks. */
export interface DiskReport {
  /** Its id, a uuid. */
  readonly disk: string
  readonly folder: string
  /** Failed: it worked when the node was started. Missing: it did not. */
  readonly state: 'up' | 'failed' | 'missing'
  /** '' for one that is up, unless it does not answer. */
  readonly why: string
  readonly totalBytes: number
  readonly freeBytes: number
  readonly chunks: number
  /** Places in its logs of small chunks that were bad when they were read after a start. What was there is made anew from other copies. */
  readonly damaged: number
  /** Small chunks in its logs that could not be given files when that was last tried: it has no room, say. They are read from there. */
  readonly waiting: number
  /** Folders of chunks that it could not list when that was last tried, and why the first of them. What is in them is read by its name. */
  readonly unlisted: number
  readonly unlistedWhy: string
  /**
   * Whether it is to be emptied, and how far that is: stuck where nothing more can be moved for now (no room on the node's other disks, bad
   * copies), empty where nothing is left.
   */
  readonly leaving: 'no' | 'moving' | 'stuck' | 'empty'
}

export interface NodeReport {
  /** The node's clock minus Redis time, in milliseconds, to about a round trip. */
  readonly clockOffsetMs: number
  readonly unreachable: readonly Unreachable[]
  readonly heal: HealReport
  /** Empty where a node does not say. */
  readonly disks: readonly DiskReport[]
}

/** What an operator may change while everything runs; in {v}:c:options. */
export interface ClusterSettings {
  readonly suspectMs: number
  readonly downMs: number
  /** Silence after which a node that is down loses its place on the ring. */
  readonly outMs: number
  /** For what one node fetches to be whole; 0: without a limit. */
  readonly healBytesPerS: number
  /** Raised by `ringfs rebalance`: everybody walks again. */
  readonly walks: number
  /** Between a whole ring and giving up surplus copies: readers with an old ring may still ask for them. */
  readonly surplusMs: number
  /** In which each node reads and hashes all its chunks again. */
  readonly scrubMs: number
  /** Grows with each change of the ring: one that is as it was may have been another one between two looks. */
  readonly rings: number
}

/** One version of the membership. Immutable: a change makes a new one with a higher epoch. */
export interface ClusterView {
  readonly epoch: number
  /** When it was raised (Redis time): after a failover the same epoch may come again, with other members. */
  readonly changedMs?: number
  readonly members: readonly Member[]
  /** Absent in views that did not come from Redis. */
  readonly settings?: ClusterSettings
}

/** Pure placement: see ring.ts. */
export interface RingContract {
  /** First `count` distinct nodes clockwise from the chunk's position, in different zones as far as there are zones. */
  owners(chunkId: number, count: number): readonly string[]
  /** Every node, in clockwise order from the chunk's position: owners first, then the stand-ins. */
  preference(chunkId: number): readonly string[]
}

/** Places on the ring, from 0 to 2^32 - 1, both ends included. */
export interface RingRange {
  readonly first: number
  readonly last: number
}

/** Chunks that stand there have these owners. */
export interface OwnedRange extends RingRange {
  readonly owners: readonly string[]
}

export interface RangedRing extends RingContract {
  /** The whole ring, in order, without gaps; owners(id, count) of every chunk that stands in a range are the range's. */
  ranges(count: number): readonly OwnedRange[]
  /** Those of them that the node owns. */
  rangesOf(nodeId: string, count: number): readonly OwnedRange[]
}

/** What waits for `metaReplicas`. */
export const META_SYNCS = ['always', 'fsync'] as const
export type MetaSync = (typeof META_SYNCS)[number]

/** Fixed at `ringfs format`. */
export interface VolumeSettings {
  readonly name: string
  readonly uuid: string
  /** Version of the on-Redis and on-disk formats; a newer one than this program knows is refused. */
  readonly formatVersion: number
  readonly partitions: number
  readonly chunkBytes: number
  readonly replicas: number
  readonly writeQuorum: number
  readonly createdMs: number
  /** fsync waits until so many replicas of each Redis master have the metadata (WAIT). 0: the master alone. */
  readonly metaReplicas: number
  /** 'always': so does each change, before its caller is answered. */
  readonly metaSync: MetaSync
  /** Files up to this length are kept in the metadata; 0: none. */
  readonly inlineBytes: number
  /** How much of them all there may be, about, in bytes. */
  readonly inlineBudgetBytes: number
}

/** 2: files may have bodies in the metadata. */
export const FORMAT_VERSION = 2

// --- Redis ------------------------------------------------------------------------------------------------------

/** Bulk strings come as Buffer, integers as number, arrays as arrays, nil as null. */
export type RedisValue = Buffer | number | null | readonly RedisValue[]
export type RedisArg = string | number | Buffer

/** A Lua script, known by the SHA-1 of its text. All keys of one call lie in one hash slot. */
export interface Script {
  readonly name: string
  readonly source: string
  readonly sha1: string
}

/** What is known of all attempts at one change. */
export interface Doubt {
  /** One of them may have been carried out: a refusal of a later one says nothing of it. */
  mayHaveRun: boolean
}

export interface RunOptions {
  /** How long to go on trying, reconnects and failovers included. Default 30,000. Then RingfsError REDIS_UNREACHABLE. */
  readonly deadlineMs?: number
  /** Shared by the runs of what is run again with the same arguments. Without it a run knows of its own attempts only. */
  readonly doubt?: Doubt
}

export interface Subscription {
  /**
   * Has the messages of a channel come that was ignored. Resolves when all that are published from then on are given to `onMessage`; or
   * `onState(false)` was told, and they are when it tells true. Never rejects.
   */
  listen(channel: string): Promise<void>
  /** No messages of the channel are wanted until `listen`; some may come still. What `onState` tells goes for its server all the same. */
  ignore(channel: string): void
  /**
   * Resolves when all that was published before the call has been given to `onMessage`, or `onState(false)` told that it may
   * be lost. One round trip.
   */
  caughtUp(): Promise<void>
  close(): Promise<void>
}

/**
 * The one door to Redis Cluster (redis.ts; the only module besides meta that knows ioredis).
 *
 * `run` and `call` are retried, with the same arguments, on everything that means "try again" (MOVED, ASK, TRYAGAIN,
 * CLUSTERDOWN, LOADING, READONLY, NOSCRIPT, MASTERDOWN, a lost connection, a reply that did not come): so what they run must be
 * safe to run twice. OOM is PosixError ENOSPC; every other error reply is thrown as RingfsError INTERNAL with its text.
 */
export interface RedisStore {
  run(script: Script, keys: readonly string[], args: readonly RedisArg[], options?: RunOptions): Promise<RedisValue>
  /** One command whose first argument is its key. */
  call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue>
  /**
   * Sharded pub/sub. `onState(true)` when every channel is subscribed, `onState(false)` as soon as any of them may have
   * missed a message. Subscribes again by itself.
   */
  subscribe(
    channels: readonly string[],
    onMessage: (channel: string, message: Buffer) => void,
    onState: (healthy: boolean) => void,
  ): Promise<Subscription>
  /**
   * Waits until `replicas` replicas of the masters that own these keys have all that was acknowledged to us (WAIT). Answers the
   * least count. Errors: REDIS_UNREACHABLE when nobody knows (as UncountedError: asked again at once somebody may).
   */
  waitReplicas(keys: readonly string[], replicas: number, timeoutMs: number): Promise<number>
  /**
   * Which server answers for the key, and since when: while it stays the same, nobody has taken its place and it was not started again.
   */
  serverOf(key: string): string
  /**
   * Puts on disk what the private Redis of this machine has acknowledged. Answers false for any other Redis, which puts
   * it there as its own `appendfsync` says. Errors: METADATA_NOT_SYNCED.
   */
  syncLocal(): Promise<boolean>
  /** One private server of this machine has all slots and no replica: no other will ever answer in its place. */
  readonly isLone: boolean
  /** Has every master know these scripts, so that no call waits for that. What cannot be reached now learns them when it is asked. */
  prepare(scripts: readonly Script[]): Promise<void>
  /** Addresses of the masters, with their slot ranges. */
  masters(): Promise<readonly { readonly address: string; readonly slots: readonly (readonly [number, number])[] }[]>
  close(): Promise<void>
}
