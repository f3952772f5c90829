/** What ChunkService, healing and scrubbing need of the disks of a node: one store (store.ts), or several (disks.ts). */
import type { CancelSignal } from '../../base/cancel.js'
import type { ChunkOrigin, LeafPlace, LeavesReply, ListReply, ListRequest } from '../contract.js'
import type { PlainRange, StoredRange } from './chunk-files.js'
import type { Space } from './space.js'
import type { Verdict } from './tasks.js'

export interface StoredChunk {
  readonly id: number
  /** 32 bytes. */
  readonly root: Buffer
  readonly leaves: Buffer
  readonly origin: ChunkOrigin
}

/** Of a long chunk that is hashed by the job that writes it. */
export type UnhashedChunk = Pick<StoredChunk, 'id' | 'origin'>

export interface PutHow {
  readonly sync: boolean
  readonly signal: CancelSignal | undefined
}

/** Errors of all: RingfsError, PosixError. */
export interface ChunkDisk {
  /** Verifies and stores; on disk if `sync`. Errors: CHUNK_CORRUPT, CHUNK_CONFLICT, CHUNK_MISSING, ENOSPC, EINVAL, EIO. */
  put(chunk: StoredChunk, data: readonly Uint8Array[], sync?: boolean): Promise<void>
  /**
   * As put, of a file in the folder for what is being written, whose bytes are taken as its writer left them. It is the caller's still if that
   * fails. Absent where nobody writes beside. Errors: EINVAL (there is no such file, or it is not what it should be), and those of put.
   */
  putPrepared?(chunk: StoredChunk, name: string, sync?: boolean): Promise<void>
  /**
   * As put; answers the leaf table. The data must not change until it settles, or `signal` is aborted: nothing is stored of what was given up
   * before all of it was written. Absent where nothing is hashed. Errors: CANCELLED, and those of put.
   */
  putUnhashed?(chunk: UnhashedChunk, data: readonly Uint8Array[], how: PutHow): Promise<Buffer>
  /** fdatasync; answers the ids that are not here. Errors: EIO (such a copy is set aside: it cannot be trusted). */
  sync(ids: readonly number[]): Promise<readonly number[]>
  /** Not verified, unless `check` and the answer says so. Errors: CHUNK_MISSING, CHUNK_CORRUPT. */
  read(id: number, offset: number, lengthBytes: number, withOrigin?: boolean, check?: boolean): Promise<StoredRange>
  /** As read, in this tick; null where that would make anybody wait, or does not succeed. */
  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null
  /** Leaves of several chunks; null for those that are to be read one by one. */
  readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply>
  verify(id: number): Promise<Verdict>
  /** Sets a bad copy aside; nothing if it is gone or good by now. */
  quarantine(id: number): Promise<Verdict>
  /** One page of what is here. Errors: EIO where a folder cannot be listed, unless it may have gaps. */
  list(request: ListRequest): Promise<ListReply>
  /**
   * Which are not here, or being given up; with `verify`, also those that are not on disk, not what they should be, or in a folder that cannot be
   * listed.
   */
  lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]>
  /** It is being given up: whoever asks finds it missing. */
  isRetiring(id: number): boolean
  /**
   * Removes those of them that `confirm` answers, which may take seconds and is asked of a few at a time. Nobody else creates or
   * changes them meanwhile. Answers how many.
   */
  retire(ids: readonly number[], confirm: (ids: readonly number[]) => Promise<readonly number[]>): Promise<number>
  /** Idempotent. */
  remove(ids: readonly number[]): Promise<void>
  space(): Space
  readonly chunks: number
}
