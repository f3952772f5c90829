/** What goes to the disk worker and comes back: plain values, for structured clone. */
import type { ThreadPlaces } from '../../base/thread-places.js'
import type { ChunkOrigin, ListReply, ListRequest } from '../contract.js'
import type { UnlistedBucket } from './bucket-folders.js'

export interface StoreTask {
  readonly volume: string
  readonly id: number
  /** 32 bytes. */
  readonly root: Uint8Array
  readonly leaves: Uint8Array
  /** Header, leaf table and padding as encodePrefix makes them. */
  readonly prefix: Uint8Array
  readonly data: readonly Uint8Array[]
  /** Free for this job alone; in the same filesystem as `file`. */
  readonly temporary: string
  readonly folder: string
  readonly file: string
  /** Where a bad copy that stands in the way is set aside. */
  readonly quarantine: string
  /** Past the page cache, if that can be done. */
  readonly direct: boolean
}

export interface StoreResult {
  /** false: a good copy was there already. */
  readonly created: boolean
  /** A bad copy was in the way and was set aside. */
  readonly replacedBad: boolean
  /** Was it written past the page cache? Of no meaning unless it was created. */
  readonly direct: boolean
  /** Microseconds that the write took. */
  readonly writeUs: number
}

/** A chunk whose hashes the job computes. */
export interface HashStoreTask extends Omit<TakeTask, 'root'> {
  readonly origin: ChunkOrigin
  readonly data: readonly Uint8Array[]
  readonly direct: boolean
  /** One word of shared memory: not 0 when the data may be others' by now. */
  readonly givenUp: Int32Array
  /** To hash in. */
  readonly places: ThreadPlaces
}

export interface HashStoreResult extends StoreResult {
  readonly leaves: Uint8Array
  /** Where the data begin in the file. */
  readonly dataOffset: number
}

/** The file of a chunk that another process of this machine is to take. */
export type PrepareTask = Pick<StoreTask, 'prefix' | 'data' | 'temporary' | 'direct'>

export type PrepareResult = Pick<StoreResult, 'direct' | 'writeUs'>

/** `temporary` is what was prepared. */
export type TakeTask = Pick<StoreTask, 'volume' | 'id' | 'root' | 'temporary' | 'folder' | 'file' | 'quarantine'>

export interface TakeResult extends Pick<StoreResult, 'created' | 'replacedBad'> {
  /** As the file has it. */
  readonly layout: ChunkLayout
}

/** What the store keeps of a chunk's prefix, so that a later read is one pread. */
export interface ChunkLayout {
  readonly lengthBytes: number
  readonly dataOffset: number
  readonly leaves: Uint8Array
}

/** Of a range of a chunk that is known, what it takes to read it. */
export interface KnownRange extends Omit<ChunkLayout, 'leaves'> {
  /** Of the leaves that cover the range, if they are to be compared. */
  readonly hashes: Uint8Array
}

export interface ReadTask {
  readonly file: string
  readonly volume: string
  readonly id: number
  readonly offset: number
  /** Cut off at the chunk's end. */
  readonly lengthBytes: number
  readonly known: KnownRange | null
  readonly withOrigin: boolean
  /** Past the page cache, if that can be done. */
  readonly direct: boolean
  /** Errors: CHUNK_CORRUPT where they do not match the leaf table. */
  readonly check: boolean
  /** Where the leaves go: whole leaves of the range fit. Seen by both threads. */
  readonly into: Uint8Array
}

export interface ReadResult {
  /** null: what was known was enough. */
  readonly layout: ChunkLayout | null
  readonly firstLeaf: number
  /** Of whole leaves, at the start of `into`. */
  readonly dataBytes: number
  /** Was it read past the page cache? */
  readonly direct: boolean
  /** How long the disk, or the page cache, took. */
  readonly readUs: number
  readonly origin: ChunkOrigin | null
}

/** A leaf of each of several chunks. In columns: an object for each leaf would take longer to hand over than the leaf to read. */
export interface LeavesTask {
  readonly volume: string
  readonly files: readonly string[]
  readonly ids: readonly number[]
  readonly leaves: readonly number[]
  /** Where in the file, and how many bytes; 0 bytes: the layout is not known. */
  readonly positions: readonly number[]
  readonly lengths: readonly number[]
  /** 32 bytes each, zeros where the layout is not known. */
  readonly hashes: Uint8Array
  /** LEAF_BYTES for each. Seen by both threads. */
  readonly into: Uint8Array
}

export interface LeavesResult {
  /** Bytes of each; 0: the read failed. */
  readonly lengths: readonly number[]
  /** Those that were not known, by their places. */
  readonly layouts: ReadonlyMap<number, ChunkLayout>
}

export interface VerifyTask {
  readonly file: string
  readonly volume: string
  readonly id: number
}

export type Verdict =
  | { readonly state: 'good'; readonly root: Uint8Array }
  /** The root is what the header says, where the header at least can be trusted. */
  | { readonly state: 'bad'; readonly root: Uint8Array | null; readonly why: string }
  | { readonly state: 'missing' }

export interface FilesTask {
  readonly files: readonly string[]
}

export interface SyncTask {
  readonly files: readonly string[]
  /** Folders whose entries must be on disk too, innermost first. */
  readonly folders: readonly string[]
  /** Where each file goes that cannot be written. Absent, or where it cannot be moved: it is deleted, or emptied. */
  readonly aside?: readonly string[]
}

/** 'failed': the disk could not write it. It has its name no more, or no bytes: the copy in memory may be gone at any time. */
export type SyncResult = 'synced' | 'missing' | 'failed'

export interface ListTask extends ListRequest {
  /** The node's data folder. */
  readonly folder: string
}

export interface ListResult extends Pick<ListReply, 'chunks' | 'next'> {
  readonly unlisted: readonly UnlistedBucket[]
}

export interface MoveTask {
  readonly from: string
  readonly to: string
}

export interface CountTask {
  /** The node's data folder. */
  readonly folder: string
}

export interface CountResult {
  /** In the folders that can be listed. */
  readonly chunks: number
  readonly unlisted: readonly UnlistedBucket[]
}
