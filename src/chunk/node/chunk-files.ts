/**
 * Reading the chunk files of a data folder: of this process's own node, or of a node beside it (nearby.ts). It changes nothing,
 * and needs no lock: a file is immutable under its name, and an open file outlives its name.
 */
import type { Clock } from '../../base/clock.js'
import { CHUNK_MAX_BYTES, HASH_INLINE_MAX_BYTES, LEAF_BYTES } from '../../base/limits.js'
import { invariant } from '../../base/invariant.js'
import type { ChunkOrigin, FoundLeaf, LeafPlace, LeavesReply } from '../contract.js'
import { asBuffer, compact } from '../jobs.js'
import { LeafTables } from '../leaf-tables.js'
import { toChunkError } from '../outcome.js'
import type { Job, WorkerPool } from '../pool.js'
import type { SharedBuffers } from '../shared-buffer.js'
import { knownRange, leafSpan, readLeaves } from './chunk-file.js'
import { DirectChoice } from './direct-choice.js'
import { leavesTask, noLeaves } from './leaf-reads.js'
import { DIRECT_MIN_BYTES } from './direct-file.js'
import { InlineGate } from '../../base/inline-gate.js'
import { OpenFiles } from './open-files.js'
import { ChunkPaths } from './paths.js'
import type { ChunkLayout, LeavesResult, LeavesTask, ReadResult, ReadTask } from './tasks.js'

const LAYOUTS_MAX = 4096

const READ_JOB: Job<ReadTask, ReadResult> = { file: 'disk', name: 'read' }
const LEAVES_JOB: Job<LeavesTask, LeavesResult> = { file: 'disk', name: 'readLeaves' }

export interface PlainRange {
  readonly chunkLengthBytes: number
  readonly leaves: Buffer
  readonly firstLeaf: number
  /** Lent. */
  readonly data: Buffer
  readonly release: () => void
  readonly matches?: true
}

export interface StoredRange extends PlainRange {
  readonly origin: ChunkOrigin | null
}

export interface ChunkFilesOptions {
  /** The node's data folder. */
  readonly folder: string
  /** Volume uuid. */
  readonly volume: string
  readonly pool: WorkerPool
  readonly buffers: SharedBuffers
  readonly clock: Clock
  /** Shared with who writes there, if it is this process. */
  readonly gate?: InlineGate
  readonly direct?: DirectChoice
}

export class ChunkFiles {
  readonly #options: ChunkFilesOptions
  readonly #paths: ChunkPaths
  /** With the layout of a chunk known, reading it again is one pread. */
  readonly #layouts = new LeafTables<ChunkLayout>(LAYOUTS_MAX)
  readonly #open = new OpenFiles()
  readonly #gate: InlineGate
  readonly #direct: DirectChoice

  constructor(options: ChunkFilesOptions) {
    this.#options = options
    this.#paths = new ChunkPaths(options.folder)
    this.#gate = options.gate ?? new InlineGate(options.clock, HASH_INLINE_MAX_BYTES)
    this.#direct = options.direct ?? new DirectChoice()
  }

  /** The file of the chunk is known to begin so: reading it is one pread. */
  know(id: number, layout: ChunkLayout): void {
    this.#layouts.set(id, layout)
  }

  /** Its file may be another one by now. */
  forget(id: number): void {
    this.#layouts.delete(id)
    this.#open.close(id)
  }

  /**
   * At once, on this thread, where that is quicker than a worker: a short range of a chunk that was used lately, while the
   * disk is quick. null: it is not, or it cannot be read so: read() finds out why. Not verified.
   */
  readNow(id: number, offset: number, lengthBytes: number): PlainRange | null {
    const layout = this.#layouts.get(id)
    if (layout === null) return null
    const { buffers } = this.#options
    const { from, to } = leafSpan(offset, lengthBytes, layout.lengthBytes)
    if (!this.#gate.allows(to - from)) return null
    const { bytes, release } = buffers.take(to - from)
    try {
      const { firstLeaf } = this.#gate.run(() => {
        const fd = this.#open.descriptor(id, () => this.#paths.fileOf(id))
        return readLeaves(fd, { id, offset, lengthBytes, into: bytes }, layout, null)
      })
      const leaves = asBuffer(layout.leaves)
      return { chunkLengthBytes: layout.lengthBytes, leaves, firstLeaf, data: bytes, release }
    } catch {
      release()
      this.forget(id)
      return null
    }
  }

  /** Not verified. Errors: CHUNK_MISSING, CHUNK_CORRUPT, what the disk says. */
  async read(
    id: number,
    offset: number,
    lengthBytes: number,
    withOrigin: boolean,
    check = false,
  ): Promise<StoredRange> {
    const now = withOrigin ? null : this.readNow(id, offset, lengthBytes)
    if (now !== null) return { ...now, origin: null }
    const layout = this.#layouts.get(id)
    const { volume, buffers } = this.#options
    const { from, to } = leafSpan(offset, lengthBytes, layout?.lengthBytes ?? CHUNK_MAX_BYTES)
    const { bytes, release } = buffers.take(to - from)
    const direct = to - from >= DIRECT_MIN_BYTES && this.#direct.forRead(id, offset)
    const range = { offset, lengthBytes }
    const known = layout && knownRange(layout, range, check)
    const task = { ...range, volume, id, file: this.#paths.fileOf(id), known, withOrigin, direct, check, into: bytes }
    try {
      const result = await this.#read(task)
      if (to - from >= DIRECT_MIN_BYTES) this.#direct.noteRead(task, result)
      const found = result.layout ?? layout
      invariant(found !== null, 'what is not known is answered')
      if (layout === null) this.#layouts.set(id, { ...found, leaves: compact(found.leaves) })
      return {
        chunkLengthBytes: found.lengthBytes,
        leaves: asBuffer(found.leaves),
        firstLeaf: result.firstLeaf,
        data: bytes.subarray(0, result.dataBytes),
        release,
        origin: result.origin,
        ...(check ? { matches: true } : {}),
      }
    } catch (error) {
      release()
      throw error
    }
  }

  /**
   * In one worker. null: it is none that `hasFile`, or cannot be read so; read() finds out why. Errors: none of them can be.
   */
  async readLeaves(places: readonly LeafPlace[], hasFile: (id: number) => boolean): Promise<LeavesReply> {
    const inFiles = places.filter(({ id }) => hasFile(id))
    if (inFiles.length === 0) return noLeaves(places)
    const { found, release } = await this.#readLeaves(inFiles)
    const foundAt = new Map(inFiles.map((place, at) => [place, found[at]]))
    return { found: places.map((place) => foundAt.get(place) ?? null), release }
  }

  async #readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply> {
    const { volume, buffers, pool } = this.#options
    const { bytes, release } = buffers.take(places.length * LEAF_BYTES)
    const layouts = places.map(({ id }) => this.#layouts.get(id))
    const files = places.map(({ id }) => this.#paths.fileOf(id))
    try {
      const result = await pool.run(LEAVES_JOB, leavesTask(volume, places, files, layouts, bytes))
      const found = places.map(({ id }, at): FoundLeaf | null => {
        const layout = layouts[at] ?? result.layouts.get(at)
        const lengthBytes = result.lengths[at] ?? 0
        if (layout === undefined || lengthBytes === 0) {
          this.forget(id)
          return null
        }
        if (layouts[at] === null) this.#layouts.set(id, layout)
        const data = bytes.subarray(at * LEAF_BYTES, at * LEAF_BYTES + lengthBytes)
        return { chunkLengthBytes: layout.lengthBytes, leaves: asBuffer(layout.leaves), data }
      })
      return { found, release }
    } catch (error) {
      release()
      throw error
    }
  }

  async #read(task: ReadTask): Promise<ReadResult> {
    try {
      return await this.#options.pool.run(READ_JOB, task)
    } catch (error) {
      this.forget(task.id)
      throw toChunkError(error)
    }
  }
}
