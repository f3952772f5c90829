/**
 * Group commit: while one fdatasync batch runs in a worker, further requests gather for the next. A hundred small writers
 * that fsync share the disk's flushes instead of queueing for one each.
 *
 * Invariants:
 * - request() resolves with 'synced' only after the chunk's data, its folder, and the folders above that this process has not seen on
 *   disk yet, were synced by a batch that began after the request.
 * - What is 'failed' is in quarantine by then, or deleted, or empty: no request that comes later takes it for written (files.ts).
 */
import type { Job, WorkerPool } from '../pool.js'
import type { ChunkPaths } from './paths.js'
import type { SyncResult, SyncTask } from './tasks.js'

const BATCH_MAX = 256
const SYNC_JOB: Job<SyncTask, readonly SyncResult[]> = { file: 'disk', name: 'sync' }

interface Waiting {
  readonly id: number
  resolve(result: SyncResult): void
  reject(error: unknown): void
}

export class SyncGroup {
  readonly #pool: WorkerPool
  readonly #paths: ChunkPaths
  #queue: Waiting[] = []
  #running = false
  /** Inner folders whose own entry, and their parent's, is known to be on disk. */
  readonly #durableFolders = new Set<string>()

  constructor(pool: WorkerPool, paths: ChunkPaths) {
    this.#pool = pool
    this.#paths = paths
  }

  request(id: number): Promise<SyncResult> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ id, resolve, reject })
      if (!this.#running) void this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#running = true
    // One turn later, so that requests of the same turn go together.
    await Promise.resolve()
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, BATCH_MAX)
      await this.#sync(batch)
    }
    this.#running = false
  }

  async #sync(batch: readonly Waiting[]): Promise<void> {
    const { inner, above } = this.#folders(batch)
    try {
      const files = batch.map(({ id }) => this.#paths.fileOf(id))
      const aside = batch.map(({ id }) => this.#paths.newQuarantine(id))
      const results = await this.#pool.run(SYNC_JOB, { files, aside, folders: [...inner, ...above] })
      for (const [index, waiting] of batch.entries()) {
        const result = results[index] ?? 'failed'
        if (result === 'synced') this.#durableFolders.add(this.#paths.foldersOf(waiting.id).inner)
        waiting.resolve(result)
      }
    } catch (error) {
      for (const waiting of batch) waiting.reject(error)
    }
  }

  #folders(batch: readonly Waiting[]): { readonly inner: Set<string>; readonly above: Set<string> } {
    const inner = new Set<string>()
    const above = new Set<string>()
    for (const { id } of batch) {
      const folders = this.#paths.foldersOf(id)
      inner.add(folders.inner)
      if (this.#durableFolders.has(folders.inner)) continue
      above.add(folders.outer)
      above.add(this.#paths.chunks)
    }
    return { inner, above }
  }
}
