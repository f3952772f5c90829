/**
 * Long chunks for a node on this machine: their files are written into its `tmp` by this process, past the page cache, and the node is asked to
 * take each under its own name. The bytes go from the writer's memory to the disk; nothing is sent, received, copied or hashed once more.
 *
 * Invariants:
 * - The node is asked only if nobody has given up the put until all was written: the memory was the chunk's until then, and what was written
 *   matches the hashes that were computed from it.
 * - Whatever is not taken is deleted, here, or by the node's next start.
 * - The node alone gives a file its name, and with it the last word on other contents of the same id, and what is on disk. Nothing is
 *   written into what it keeps free.
 * - A disk that hangs keeps one thread, which is this node's, and no further chunk.
 */
import { basename } from 'node:path'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import type { CancelSignal } from '../../base/cancel.js'
import type { Log } from '../../base/log.js'
import type { CallOptions, ChunkNodeApi, PutReply, PutRequest } from '../contract.js'
import { encodePrefix } from '../format.js'
import { sumBytes } from '../hash.js'
import { isNoAnswer } from '../node-health.js'
import type { Job, WorkerPool } from '../pool.js'
import { sharePieces, type SharedBuffers } from '../shared-buffer.js'
import { DirectChoice } from './direct-choice.js'
import { DIRECT_MIN_BYTES, canBeDirect } from './direct-file.js'
import { ChunkPaths } from './paths.js'
import type { SpaceGauge } from './space.js'
import type { FilesTask, PrepareResult, PrepareTask } from './tasks.js'

const PREPARE_JOB: Job<PrepareTask, PrepareResult> = { file: 'disk', name: 'prepare' }
const REMOVE_JOB: Job<FilesTask, readonly boolean[]> = { file: 'disk', name: 'remove' }
/** After one that was not taken so many are sent: the node may never take any. */
const PAUSE_PUTS = 16
/** What is wrong with the chunk, or with the node as a whole: to send the data would not help. */
const FINAL = new Set(['CHUNK_CONFLICT', 'ENOSPC'])

export interface NearbyWriterOptions {
  /** The node's data folder, its only one. */
  readonly folder: string
  /** Of this writer alone. */
  readonly pool: WorkerPool
  readonly buffers: SharedBuffers
  /** Of the disk that the folder is on. */
  readonly gauge: SpaceGauge
  readonly log: Log
}

export class NearbyWriter {
  readonly #options: NearbyWriterOptions
  readonly #paths: ChunkPaths
  readonly #direct = new DirectChoice()
  /** Given up by whoever wanted them, and still being written. */
  readonly #leftBehind = new Set<symbol>()
  #pause = 0

  constructor(options: NearbyWriterOptions) {
    this.#options = options
    this.#paths = new ChunkPaths(options.folder)
  }

  /** null: the node is to be sent the data. Errors: CANCELLED, and what the node says. */
  async put(
    node: ChunkNodeApi,
    request: PutRequest,
    data: readonly Uint8Array[],
    options: CallOptions,
  ): Promise<PutReply | null> {
    const lengthBytes = sumBytes(data)
    if (request.forward.length > 0 || lengthBytes < DIRECT_MIN_BYTES) return null
    if (this.#isPaused() || this.#leftBehind.size > 0) return null
    const file = await this.#write(request, data, lengthBytes, options.signal)
    if (file === null) return null
    try {
      mustBeWanted(request, options.signal)
      return await node.put({ ...request, prepared: basename(file) }, [], options)
    } catch (error) {
      await this.#remove(file)
      const code = codeOf(error)
      if (FINAL.has(code) || isNoAnswer(code)) throw error
      mustBeWanted(request, options.signal)
      this.#pause = PAUSE_PUTS
      this.#options.log.debug({ chunk: request.id, err: messageOf(error) }, 'a prepared chunk was not taken: sent')
      return null
    }
  }

  #isPaused(): boolean {
    if (this.#pause === 0) return false
    this.#pause--
    return true
  }

  /** null: it cannot be written here, and nothing is left. The node has the words for it. */
  async #write(
    request: PutRequest,
    data: readonly Uint8Array[],
    lengthBytes: number,
    signal: CancelSignal | undefined,
  ): Promise<string | null> {
    const { id, volume, root, leaves, origin } = request
    const { buffers, log } = this.#options
    const prefix = encodePrefix({ volume, id, lengthBytes, root, origin }, leaves)
    const temporary = this.#paths.newPrepared(id)
    const shared = sharePieces(buffers, data, lengthBytes)
    const direct = canBeDirect(shared.pieces) && this.#direct.forWrite()
    try {
      const task = { prefix, data: shared.pieces, temporary, direct }
      const written = await this.#countedIfLeft(signal, () => this.#prepare(request, task, lengthBytes, signal))
      this.#direct.noteWrite(direct, written, lengthBytes)
      return temporary
    } catch (error) {
      await this.#remove(temporary)
      mustBeWanted(request, signal)
      log.debug({ chunk: id, err: messageOf(error) }, 'a chunk cannot be written beside its node: sent')
      return null
    } finally {
      shared.release()
    }
  }

  async #prepare(
    request: PutRequest,
    task: PrepareTask,
    lengthBytes: number,
    signal: CancelSignal | undefined,
  ): Promise<PrepareResult> {
    const { gauge, pool } = this.#options
    await gauge.claim(task.prefix.length + lengthBytes)
    mustBeWanted(request, signal)
    return await pool.run(PREPARE_JOB, task)
  }

  async #countedIfLeft<T>(signal: CancelSignal | undefined, work: () => Promise<T>): Promise<T> {
    const one = Symbol('a write')
    const note = (): void => void this.#leftBehind.add(one)
    signal?.addEventListener('abort', note, { once: true })
    try {
      return await work()
    } finally {
      signal?.removeEventListener('abort', note)
      this.#leftBehind.delete(one)
    }
  }

  async #remove(file: string): Promise<void> {
    const { pool, gauge, log } = this.#options
    try {
      await pool.run(REMOVE_JOB, { files: [file] })
      gauge.refresh()
    } catch (error) {
      log.debug({ file, err: messageOf(error) }, 'left for the next start of the node')
    }
  }
}

/** Errors: CANCELLED. */
function mustBeWanted({ id }: PutRequest, signal: CancelSignal | undefined): void {
  if (signal?.aborted === true) throw new RingfsError('CANCELLED', `chunk ${id}: given up while it was written`)
}
