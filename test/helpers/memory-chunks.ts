/**
 * Chunk nodes in memory, for tests of what lies above. `before` bends it: it runs before each call, may wait (as a slow
 * node) or throw (as a full or a dead one).
 */
import { createHash } from 'node:crypto'
import { CHUNK_MAX_BYTES, GIB } from '../../src/base/limits.js'
import { RingfsError } from '../../src/base/errors.js'
import {
  ChunksMissing,
  type ChunkClient,
  type ChunkOrigin,
  type ChunkRef,
  type ChunkWriteOptions,
  type LentBytes,
} from '../../src/chunk/contract.js'
import { originProblem } from '../../src/chunk/format.js'

export interface StoredChunk {
  readonly data: Buffer
  readonly origin: ChunkOrigin
  readonly options: ChunkWriteOptions
  synced: boolean
}

export interface ReadCall {
  readonly id: number
  readonly offset: number
  readonly lengthBytes: number
}

export class MemoryChunks implements ChunkClient {
  readonly stored = new Map<number, StoredChunk>()
  readonly reads: ReadCall[] = []
  /** Loans not given back. */
  lent = 0
  /** Uploads under way, now and at most. */
  writing = 0
  mostWriting = 0
  /** Chunks up to this length may as well be synced when they are written. */
  syncedBytes = 0
  room = { totalBytes: 100 * GIB, freeBytes: 60 * GIB }
  before: (call: 'write' | 'read' | 'origin' | 'sync' | 'remove', id: number) => Promise<void> | void = () => undefined

  syncsAtOnce(_id: number, lengthBytes: number): boolean {
    return lengthBytes <= this.syncedBytes
  }

  async write(
    id: number,
    data: readonly Uint8Array[],
    origin: ChunkOrigin,
    options: ChunkWriteOptions,
  ): Promise<ChunkRef> {
    const lengthBytes = data.reduce((sum, piece) => sum + piece.length, 0)
    if (lengthBytes < 1 || lengthBytes > CHUNK_MAX_BYTES) throw new Error(`a chunk of ${lengthBytes} bytes`)
    const problem = originProblem(origin, lengthBytes)
    if (problem !== undefined) throw new Error(problem)
    this.writing++
    this.mostWriting = Math.max(this.mostWriting, this.writing)
    try {
      await this.before('write', id)
      // Copied at the end: whoever changes the pieces before the promise settles is found out.
      const bytes = Buffer.concat(data)
      const before = this.stored.get(id)
      if (before !== undefined && !before.data.equals(bytes)) throw new Error(`chunk ${id} was written twice`)
      this.stored.set(id, { data: bytes, origin, options, synced: options.sync })
      return { id, lengthBytes, root: createHash('sha256').update(bytes).digest() }
    } finally {
      this.writing--
    }
  }

  async read(ref: ChunkRef, offset: number, lengthBytes: number): Promise<Buffer> {
    this.reads.push({ id: ref.id, offset, lengthBytes })
    await this.before('read', ref.id)
    const chunk = this.stored.get(ref.id)
    if (chunk === undefined) throw new RingfsError('CHUNK_MISSING', `no chunk ${ref.id}`)
    if (!createHash('sha256').update(chunk.data).digest().equals(ref.root)) {
      throw new RingfsError('CHUNK_CORRUPT', `chunk ${ref.id} is corrupt`)
    }
    if (offset + lengthBytes > chunk.data.length) throw new Error('a read beyond the end of a chunk')
    return Buffer.from(chunk.data.subarray(offset, offset + lengthBytes))
  }

  async lend(ref: ChunkRef, offset: number, lengthBytes: number): Promise<LentBytes> {
    const bytes = await this.read(ref, offset, lengthBytes)
    this.lent++
    let open = true
    const release = (): void => {
      if (!open) return
      open = false
      this.lent--
      // Whoever still uses it is found out.
      bytes.fill(0xee)
    }
    return { bytes, release }
  }

  async origin(ref: ChunkRef): Promise<ChunkOrigin> {
    await this.before('origin', ref.id)
    const chunk = this.stored.get(ref.id)
    if (chunk === undefined) throw new RingfsError('CHUNK_MISSING', `no chunk ${ref.id}`)
    return chunk.origin
  }

  async sync(ids: readonly number[]): Promise<void> {
    const missing: number[] = []
    for (const id of ids) {
      await this.before('sync', id)
      const chunk = this.stored.get(id)
      if (chunk === undefined) missing.push(id)
      else chunk.synced = true
    }
    if (missing.length > 0) throw new ChunksMissing(missing)
  }

  async remove(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      await this.before('remove', id)
      this.stored.delete(id)
    }
  }

  space(): Promise<{ totalBytes: number; freeBytes: number }> {
    return Promise.resolve(this.room)
  }
}
