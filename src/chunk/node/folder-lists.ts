/**
 * What the folders of one disk have, as far as it can list them, and which it could not when that was last tried.
 *
 * Invariant: nobody gets a list that lacks a folder unless he says that he knows of gaps.
 */
import { PosixError } from '../../base/errno.js'
import type { Log } from '../../base/log.js'
import { CHUNK_BUCKETS, type ListReply, type ListRequest } from '../contract.js'
import type { Job, WorkerPool } from '../pool.js'
import type { UnlistedBucket } from './bucket-folders.js'
import { bucketOf } from './paths.js'
import type { CountResult, CountTask, ListResult, ListTask } from './tasks.js'

const COUNT_JOB: Job<CountTask, CountResult> = { file: 'disk', name: 'count' }
const LIST_JOB: Job<ListTask, ListResult> = { file: 'disk', name: 'list' }
/** So many folders are named in a line of the log. */
const NAMED_MAX = 16

export interface FolderListsOptions {
  /** The node's data folder. */
  readonly folder: string
  readonly pool: WorkerPool
  readonly log: Log
  /** While it is in use, folders were found that it cannot list, for the first time. */
  readonly onUnlisted?: () => void
}

export class FolderLists {
  readonly #options: FolderListsOptions
  readonly #unlisted = new Map<number, UnlistedBucket>()
  /** Since the start: a folder that can be listed only now and then is news once. */
  readonly #told = new Set<number>()

  constructor(options: FolderListsOptions) {
    this.#options = options
  }

  /** How many folders it could not list. */
  get unlisted(): number {
    return this.#unlisted.size
  }

  /** Why the first of them; '' if there is none. */
  get unlistedWhy(): string {
    const [first] = this.#unlisted.values()
    return first?.why ?? ''
  }

  isUnlisted(id: number): boolean {
    return this.#unlisted.has(bucketOf(id))
  }

  /** Chunk files, in the folders that can be listed. */
  async count(): Promise<number> {
    const { pool, folder } = this.#options
    const { chunks, unlisted } = await pool.run(COUNT_JOB, { folder })
    this.#note(0, CHUNK_BUCKETS, unlisted)
    return chunks
  }

  /** As ChunkDisk.list, of chunk files. */
  async list(request: ListRequest): Promise<ListReply> {
    const { pool, folder, onUnlisted } = this.#options
    const { chunks, next, unlisted } = await pool.run(LIST_JOB, { ...request, folder })
    if (this.#note(request.fromBucket, next?.bucket ?? request.toBucket, unlisted)) onUnlisted?.()
    const [gap] = unlisted
    if (gap === undefined) return { chunks, next }
    if (request.withGaps !== true) throw new PosixError('EIO', gap.why)
    return { chunks, next, gaps: unlisted.map(({ bucket }) => bucket) }
  }

  /** All of buckets `from` up to `to` (not included) were looked into. Answers whether any of these is new. */
  #note(from: number, to: number, found: readonly UnlistedBucket[]): boolean {
    for (const bucket of this.#unlisted.keys()) if (bucket >= from && bucket < to) this.#unlisted.delete(bucket)
    for (const one of found) this.#unlisted.set(one.bucket, one)
    const fresh = found.filter(({ bucket }) => !this.#told.has(bucket))
    const [first] = fresh
    if (first === undefined) return false
    for (const { bucket } of fresh) this.#told.add(bucket)
    const folders = [...new Set(fresh.map(({ folder }) => folder))]
    this.#options.log.error(
      { folders: folders.slice(0, NAMED_MAX), count: folders.length, err: first.why },
      'folders of chunks cannot be listed: what is in them is read, and neither offered to other nodes nor scrubbed',
    )
    return true
  }
}
