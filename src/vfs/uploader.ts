/**
 * Brings chunks to the nodes: a bounded number at once, again and again until a deadline, and remembers which were not
 * put to disk yet.
 *
 * Invariant: a chunk id is used for one content only, and the chunk of an upload that was given up or cancelled is named
 * by no extent, so it may be removed. An id that turns out to be taken (the metadata lost their tail, and with it that the
 * id was given out) belongs to somebody else's data: it is left alone, and another one is tried.
 */
import { Budget } from '../base/budget.js'
import type { CancelSignal } from '../base/cancel.js'
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { hasCode, messageOf } from '../base/errors.js'
import {
  orderAt,
  type ChunkClient,
  type ChunkOrigin,
  type ChunkOriginExtent,
  type ChunkRef,
  type Durability,
} from '../chunk/contract.js'
import type { MetaStore } from '../meta/contract.js'
import { UnsyncedChunks } from './unsynced.js'
import { isTransient } from './failures.js'
import type { VfsLimits } from './limits.js'

export interface UploadJob {
  readonly ino: number
  readonly data: readonly Uint8Array[]
  readonly extents: readonly ChunkOriginExtent[]
  /** Appended data: where the end of the file is taken to be. The extents count from there, the header's from the start. */
  readonly appendsAt?: number
  /** Bytes that were in other chunks before: of each extent where it stands in the order of writing, and which were appended (ChunkOrigin). */
  readonly packed?: Required<Pick<ChunkOrigin, 'orders' | 'appends'>>
  readonly durability: Durability
  /** Asked when the transfer starts: an fsync may have come meanwhile. */
  readonly wantSync: () => boolean
  /** Asked before each attempt: nobody wants the data any more. */
  readonly isCancelled: () => boolean
  /** The same, told: whoever does it waits for no node that hangs. */
  readonly stop?: CancelSignal
}

export interface UploaderDeps {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly clock: Clock
  readonly log: Log
  readonly limits: VfsLimits
}

const BACKOFF_FIRST_MS = 50
const BACKOFF_MAX_MS = 2_000

export class Uploader {
  readonly unsynced: UnsyncedChunks
  readonly #deps: UploaderDeps
  readonly #slots: Budget
  #lastOrder = 0

  constructor(deps: UploaderDeps) {
    this.#deps = deps
    this.#slots = new Budget(deps.limits.uploads)
    this.unsynced = new UnsyncedChunks(deps)
  }

  /** The chunk, or null if the job was cancelled. Throws what made it impossible. */
  upload(job: UploadJob): Promise<ChunkRef | null> {
    // The order when its turn has come (first come, first served): it tells a rebuild, too, how long ago the upload began.
    const uploading = this.#slots.with(() => this.#attempts(job, this.#nextOrder()))
    return job.stop === undefined ? uploading : this.#unlessStopped(uploading, job.stop)
  }

  /** Either who waits has the chunk, or it is removed when it has come. */
  #unlessStopped(uploading: Promise<ChunkRef | null>, stop: CancelSignal): Promise<ChunkRef | null> {
    return new Promise((resolve, reject) => {
      let isStopped = false
      const onStop = (): void => {
        isStopped = true
        resolve(null)
      }
      stop.addEventListener('abort', onStop)
      void uploading
        .then((chunk) => {
          if (!isStopped) resolve(chunk)
          else if (chunk !== null) this.discard([chunk.id])
        }, reject)
        .finally(() => stop.removeEventListener('abort', onStop))
      if (stop.aborted) onStop()
    })
  }

  /** Nobody names these chunks: deletes them, as well as it can. */
  discard(ids: readonly number[]): void {
    this.unsynced.forget(ids)
    this.#deps.chunks.remove(ids).catch((error: unknown) => {
      this.#deps.log.warn({ ids, error: messageOf(error) }, 'unused chunks could not be removed')
    })
  }

  async #attempts(job: UploadJob, order: number): Promise<ChunkRef | null> {
    if (isCancelled(job)) return null
    const { meta, chunks, clock, log, limits } = this.#deps
    let id = await meta.chunkId()
    const lengthBytes = job.data.reduce((sum, { length }) => sum + length, 0)
    const giveUpMs = clock.monotonicMs() + limits.uploadDeadlineMs
    for (let waitMs = BACKOFF_FIRST_MS; !isCancelled(job); waitMs = Math.min(2 * waitMs, BACKOFF_MAX_MS)) {
      try {
        const sync = job.wantSync() || (job.durability !== 'async' && chunks.syncsAtOnce?.(id, lengthBytes) === true)
        const deadlineMs = Math.max(1, giveUpMs - clock.monotonicMs())
        const ref = await chunks.write(id, job.data, originOf(job, order), {
          durability: job.durability,
          sync,
          deadlineMs,
        })
        if (!sync) this.unsynced.addUploaded(job.ino, id)
        if (!isCancelled(job)) return ref
      } catch (error) {
        if (hasCode(error, 'CHUNK_CONFLICT')) {
          log.error({ ino: job.ino, chunk: id }, 'a chunk id was given out twice: taking another')
          id = await meta.chunkId()
          if (clock.monotonicMs() < giveUpMs) continue
          throw error
        }
        if (!isTransient(error) || clock.monotonicMs() + waitMs >= giveUpMs) {
          this.discard([id])
          throw error
        }
        log.warn({ ino: job.ino, chunk: id, error: messageOf(error) }, 'upload failed, trying again')
        await clock.sleep(waitMs)
      }
    }
    this.discard([id])
    return null
  }

  /** Microseconds of the wall clock, strictly rising, also when the clock stands or goes back. */
  #nextOrder(): number {
    this.#lastOrder = Math.max(this.#lastOrder + 1, orderAt(this.#deps.clock.now()))
    return this.#lastOrder
  }
}

function isCancelled({ stop, isCancelled }: UploadJob): boolean {
  return stop?.aborted === true || isCancelled()
}

/** What tells of the chunk when the metadata are lost (ringfs rebuild). */
function originOf({ ino, extents, appendsAt, packed }: UploadJob, order: number): ChunkOrigin {
  if (packed !== undefined) return { ino, order, extents, ...packed }
  if (appendsAt === undefined) return { ino, order, extents }
  const shifted = extents.map((extent) => ({ ...extent, fileOffset: extent.fileOffset + appendsAt }))
  return { ino, order, extents: shifted, appended: true }
}
