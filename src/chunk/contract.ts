/**
 * What the chunk client offers to the VFS, and what a chunk node offers to clients and to other nodes, whether it is
 * reached over RPC (remote.ts) or lives in the same process (node/service.ts).
 *
 * A chunk is an immutable blob. Its id is unique in the volume for ever and below 2^53 (the session's id block times
 * 2^24, plus a counter). Its root hash is SHA-256 over the SHA-256 of each 16 KiB leaf.
 */

import type { CancelSignal } from '../base/cancel.js'
import { RingfsError } from '../base/errors.js'
import type { RingRange } from '../cluster/contract.js'
import type { ChunkOrigin } from './origin.js'

export {
  ORIGIN_EXTENTS_MAX,
  ORIGIN_ORDERS_MAX,
  orderAt,
  piecesIn,
  type ChunkOrigin,
  type ChunkOriginExtent,
  type ChunkPiece,
} from './origin.js'

/** How many owners must have the data before a write is acknowledged. */
export type Durability = 'all' | 'quorum' | 'async'

export interface ChunkRef {
  readonly id: number
  /** Bytes of data in the chunk, 1 to CHUNK_MAX_BYTES. */
  readonly lengthBytes: number
  /** 32 bytes. */
  readonly root: Buffer
}

export interface ChunkWriteOptions {
  readonly durability: Durability
  /** true: acknowledged only when on disk (fdatasync) at the write quorum. */
  readonly sync: boolean
  readonly deadlineMs?: number
}

export interface ChunkReadOptions {
  readonly deadlineMs?: number
}

/** Memory on loan: nobody may use `bytes` after release(), and who has them calls it, or they are lost to the pool. */
export interface LentBytes {
  readonly bytes: Buffer
  /** Idempotent. */
  readonly release: () => void
}

export interface LeafRef {
  readonly ref: ChunkRef
  /** Its number in the chunk. */
  readonly leaf: number
}

/** Memory on loan, as LentBytes. */
export interface LentLeaves {
  /** In the order asked for. null: `lend` brings it, or tells what is wrong. */
  readonly leaves: readonly (Buffer | null)[]
  readonly release: () => void
}

/** So many leaves are asked for at once. */
export const LEAVES_TOGETHER_MAX = 64

/** CHUNK_MISSING of several. */
export class ChunksMissing extends RingfsError {
  readonly ids: readonly number[]

  constructor(ids: readonly number[]) {
    super('CHUNK_MISSING', `no node has ${ids.length === 1 ? 'chunk' : 'chunks'} ${ids.join(', ')}`)
    this.ids = ids
  }
}

/** Used by the VFS. */
export interface ChunkClient {
  /**
   * Hash, send to the owners, wait for the durability asked. `data` pieces are joined in order; their sum is 1 to
   * CHUNK_MAX_BYTES. The pieces must not change until the promise settles.
   * Errors: PosixError ENOSPC when the nodes are full, RingfsError NO_QUORUM when too few answer before the deadline.
   */
  write(id: number, data: readonly Uint8Array[], origin: ChunkOrigin, options: ChunkWriteOptions): Promise<ChunkRef>
  /**
   * `lengthBytes` bytes from `offset` of the chunk, every leaf of them verified against ref.root by this process.
   * A missing, slow or corrupt copy is read elsewhere. Errors: RingfsError CHUNK_MISSING, CHUNK_CORRUPT (no good copy),
   * DEADLINE.
   */
  read(ref: ChunkRef, offset: number, lengthBytes: number, options?: ChunkReadOptions): Promise<Buffer>
  /** As `read`, without a copy: the bytes are lent. */
  lend(ref: ChunkRef, offset: number, lengthBytes: number, options?: ChunkReadOptions): Promise<LentBytes>
  /** What the header of a copy says. Errors: RingfsError CHUNK_MISSING, CHUNK_CORRUPT, DEADLINE. */
  origin(ref: ChunkRef, options?: ChunkReadOptions): Promise<ChunkOrigin>
  /** The node that `lendLeaves` may be asked for a leaf of the chunk, in this tick; undefined: there is none, it is lent by itself. */
  nearNode?(id: number): string | undefined
  /**
   * Leaves of chunks of which this is the near node, at most LEAVES_TOGETHER_MAX, verified as by `read`: quicker than one by one where they
   * lie in files of this machine. Rejects never.
   */
  lendLeaves?(node: string, wants: readonly LeafRef[]): Promise<LentLeaves>
  /** Whether such a chunk may as well be written with sync: that takes no longer. */
  syncsAtOnce?(id: number, lengthBytes: number): boolean
  /**
   * fdatasync on the write quorum of owners of each chunk, which were written with sync: false. Errors: RingfsError NO_QUORUM; ChunksMissing:
   * nobody has these, and all others are on disk.
   */
  sync(ids: readonly number[]): Promise<void>
  /** Delete on every owner; an owner that is away gets it through its replication queue. Idempotent. */
  remove(ids: readonly number[]): Promise<void>
  /** Sum over the nodes, divided by the replicas. */
  space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }>
}

// --- a chunk node -----------------------------------------------------------------------------------------------

export interface PutRequest {
  /** Volume uuid; a node of another volume refuses with NODE_WRONG_VOLUME. */
  readonly volume: string
  readonly id: number
  readonly root: Buffer
  /** Leaf hashes, 32 bytes each, in order. */
  readonly leaves: Buffer
  readonly origin: ChunkOrigin
  readonly sync: boolean
  /** Node ids of the other owners: the receiver stores and passes the chunk on to them. Empty for a copy passed on. */
  readonly forward: readonly string[]
  /** Copies needed in all, the receiver's own included, before it may answer without waiting for the rest. */
  readonly copies: number
  /** Owners that the sender already knows to be down: the receiver puts them into the replication queue at once. */
  readonly absent: readonly string[]
  /** Of the ring that the sender chose by. Absent: it does not know. */
  readonly epoch?: number
  /**
   * Name of the chunk's file in `tmp` of the node's only disk, where the sender, a process of this machine, has written all of it. No data are
   * sent then, and nothing is passed on. EINVAL: it cannot be taken, or not so.
   */
  readonly prepared?: string
}

/** A put whose hashes the node computes: of its only copy, which is passed on to nobody. */
export type UnhashedPut = Pick<PutRequest, 'volume' | 'id' | 'origin' | 'sync' | 'epoch'>

export interface UnhashedReply extends PutReply {
  /** As in PutRequest. */
  readonly leaves: Buffer
}

export interface PutReply {
  /** Nodes that have the chunk now (on disk if sync). */
  readonly stored: readonly string[]
  /** Owners that will get it through their replication queue. */
  readonly queued: readonly string[]
  /** Owners that have it neither way: the client must queue them. */
  readonly missing: readonly string[]
  /** The newest epoch that a node knew after it had stored the chunk: by a newer ring there may be other owners. */
  readonly epoch?: number
}

export interface GetRequest {
  readonly volume: string
  readonly id: number
  readonly offset: number
  /** Cut off at the end of the chunk: CHUNK_MAX_BYTES from 0 is the whole of any chunk. */
  readonly lengthBytes: number
  /** true: the reply carries the origin. A node that copies the chunk needs it for its own header. */
  readonly withOrigin?: boolean
  /** Who reads the bytes in the caller's own process is to compare them with the leaf table at once. Not sent to others. */
  readonly check?: boolean
}

export interface GetReply {
  readonly chunkLengthBytes: number
  /** All leaf hashes of the chunk: the reader checks them against the root hash it has from the extent. */
  readonly leaves: Buffer
  readonly firstLeaf: number
  /** Whole leaves (the last may be short) that cover the range. Not verified by the node: the reader does it. */
  readonly data: Buffer
  /** `data` was compared with `leaves`, in this process, and matches. */
  readonly matches?: true
  /** Gives the memory of `data` back, which nobody uses afterwards. To be called once whatever happens; idempotent. */
  readonly release: () => void
  /** Only if asked for. */
  readonly origin?: ChunkOrigin
}

/** A leaf of a chunk. */
export interface LeafPlace {
  readonly id: number
  readonly leaf: number
}

export interface FoundLeaf {
  readonly chunkLengthBytes: number
  /** All leaf hashes of the chunk: as in GetReply. */
  readonly leaves: Buffer
  /** Was compared with `leaves`, in this process, and matches. */
  readonly data: Buffer
}

export interface LeavesReply {
  /** In the order asked for. null: `get` brings it, or tells what is wrong. */
  readonly found: readonly (FoundLeaf | null)[]
  /** As that of GetReply. */
  readonly release: () => void
}

/** The chunks of a node are in this many buckets, by the highest bits of their position on the ring: a folder on its disk each. */
export const CHUNK_BUCKETS = 4096

/** Chunks in buckets `fromBucket` up to `toBucket` (not included), of the first only those with ids from `fromId` on. */
export interface ListRequest {
  /** Volume uuid. */
  readonly volume: string
  readonly fromBucket: number
  readonly toBucket: number
  readonly fromId: number
  /** At most so many; the node may answer fewer, also none, and say where to go on. */
  readonly limit: number
  /** true: with what their headers say. */
  readonly headers: boolean
  /**
   * The caller takes a list that lacks what is in folders which the disk cannot list, and takes nothing for absent that may be there (`gaps`).
   * Default: such a folder is EIO.
   */
  readonly withGaps?: boolean
}

export interface ListedChunk {
  readonly id: number
  /** Only if asked for; absent where the file has no good header. */
  readonly header?: ListedHeader
}

export interface ListedHeader {
  readonly lengthBytes: number
  /** 32 bytes. */
  readonly root: Buffer
  readonly origin: ChunkOrigin
}

/** In the order of bucket, id. Who lists page by page meets each chunk that stays once. */
export interface ListReply {
  readonly chunks: readonly ListedChunk[]
  /** null: that was all. */
  readonly next: { readonly bucket: number; readonly id: number } | null
  /** Buckets whose folder cannot be listed, or not on each disk: there may be more in them. Absent: none. */
  readonly gaps?: readonly number[]
}

export interface LacksRequest {
  /** Volume uuid. */
  readonly volume: string
  readonly ids: readonly number[]
  /** true: only what is on disk, in a folder that can be listed, and whose bytes match their hashes, is not lacking. Ask for few then. */
  readonly verify: boolean
}

/** A question may name so many groups, and so many ranges in all of them. */
export const DIGEST_GROUPS_MAX = 256
export const DIGEST_RANGES_MAX = 4096

export interface DigestRequest {
  /** Volume uuid. */
  readonly volume: string
  /** A digest for each: of the chunks that stand in its ranges. No two ranges overlap; those of a group are in rising order. */
  readonly groups: readonly (readonly RingRange[])[]
}

/** Of a set of chunk ids, in any order: node/digest.ts. */
export interface RangeDigest {
  readonly count: number
  /** Sums modulo 2^32 of the halves of the mixed ids. */
  readonly high: number
  readonly low: number
}

export interface ScrubRequest {
  /** Volume uuid. */
  readonly volume: string
  /** `start`: read and hash all chunks now; `stop`: over days again. */
  readonly action: 'status' | 'start' | 'stop'
  /** Of `start`; 0: the node's own choice. */
  readonly bytesPerSecond: number
}

/** How far a round of reading and hashing all chunks of a node is, and what it found; after its end the figures of that one. */
export interface ScrubState {
  /** Folders done, of `buckets`. */
  readonly bucket: number
  readonly buckets: number
  /** Ms since 1970, of the node's clock; 0: no round is under way; none has ended. */
  readonly startedMs: number
  readonly finishedMs: number
  readonly checked: number
  readonly checkedBytes: number
  readonly bad: number
  /** Of the bad ones: a good copy is in their place. */
  readonly replaced: number
  /** Chunks of which could not be told, twice, whether they are good: the next round looks again. */
  readonly unread: number
  /** Folders that could not be listed: what is in them was not read. */
  readonly unlisted: number
  /** It was asked for, and is not over days. */
  readonly isHasty: boolean
}

export interface NodeInfo {
  readonly id: string
  readonly volume: string
  readonly pid: number
  readonly totalBytes: number
  readonly freeBytes: number
  readonly chunks: number
  readonly version: string
  /** Ids of the disks that it uses now. */
  readonly disks: readonly string[]
}

export interface CallOptions {
  readonly deadlineMs: number
  readonly signal?: CancelSignal | undefined
}

/** Every failure is a PosixError (ENOSPC, EIO, EROFS) or a RingfsError (NODE_WRONG_VOLUME, CHUNK_MISSING, CHUNK_CORRUPT, …). */
export interface ChunkNodeApi {
  /** This process writes long chunks into its folder: to give one to all owners costs no more than to have it passed on. */
  readonly isBeside?: true
  put(request: PutRequest, data: readonly Uint8Array[], options: CallOptions): Promise<PutReply>
  /**
   * As put of a long chunk, hashed by the job that writes it. The data must not change until it settles or `options.signal` is aborted: of what was
   * given up before all of it was written nothing is kept. Absent where the node is not in this process.
   */
  putUnhashed?(request: UnhashedPut, data: readonly Uint8Array[], options: CallOptions): Promise<UnhashedReply>
  get(request: GetRequest, options: CallOptions): Promise<GetReply>
  /**
   * As get, in this tick, where that can be done without making anybody wait: null if not, or if anything is wrong, which
   * get tells. Absent where it never can.
   */
  getNow?(request: GetRequest): GetReply | null
  /** Leaves of several chunks, at most LEAVES_TOGETHER_MAX, where this process reads the files. Absent where it does not. */
  getLeaves?(volume: string, places: readonly LeafPlace[]): Promise<LeavesReply>
  /** fdatasync chunks already stored; answers the ids that it does not have, or not as they were written. */
  sync(volume: string, ids: readonly number[], options: CallOptions): Promise<{ readonly missing: readonly number[] }>
  remove(volume: string, ids: readonly number[], options: CallOptions): Promise<void>
  /** A reader found this node's copy bad: verify it, set it aside, fetch a good one from another owner. */
  reportBad(volume: string, id: number, options: CallOptions): Promise<void>
  /** What the node has, page by page: nothing is verified but the headers, if they are asked for. */
  list(request: ListRequest, options: CallOptions): Promise<ListReply>
  /** Which of them this node has not, or is about to give up. */
  lacks(request: LacksRequest, options: CallOptions): Promise<readonly number[]>
  /** What this node has, without what it is about to give up. One for each group. */
  digest(request: DigestRequest, options: CallOptions): Promise<readonly RangeDigest[]>
  scrub(request: ScrubRequest, options: CallOptions): Promise<ScrubState>
  info(options: CallOptions): Promise<NodeInfo>
  /** A chunk was put into its folder together with others' (TogetherPut): counted as a put. Absent where nobody counts. */
  notePut?(lengthBytes: number, tookMs: number): void
}

/** Several nodes on this machine, whose folders this process writes. */
export interface TogetherPut {
  /** Writing so many bytes to these nodes, and having them on disk, takes no longer than giving them to the nodes. */
  isQuick(nodes: readonly string[], lengthBytes: number): boolean
  /**
   * As `put` of each of these nodes, in one go: answers which of them have it now, on disk; the others are to be asked. null: it cannot be
   * done so. Never rejects.
   */
  put(nodes: readonly string[], request: PutRequest, data: readonly Uint8Array[]): Promise<StoredTogether> | null
}

export interface StoredTogether {
  readonly stored: readonly string[]
  /** The newest that these nodes knew after they had it; 0: they told none. */
  readonly epoch: number
}
