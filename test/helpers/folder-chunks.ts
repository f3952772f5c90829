/** Chunks as files in a folder, for tests with several mounts of one volume: each process sees what the others wrote. */
import { createHash } from 'node:crypto'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GIB } from '../../src/base/limits.js'
import { RingfsError } from '../../src/base/errors.js'
import type { ChunkClient, ChunkOrigin, ChunkRef } from '../../src/chunk/contract.js'

export class FolderChunks implements ChunkClient {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  async write(id: number, data: readonly Uint8Array[], _origin: ChunkOrigin): Promise<ChunkRef> {
    const bytes = Buffer.concat(data)
    const path = join(this.#folder, String(id))
    await writeFile(`${path}.${process.pid}`, bytes)
    await rename(`${path}.${process.pid}`, path)
    return { id, lengthBytes: bytes.length, root: createHash('sha256').update(bytes).digest() }
  }

  async read(ref: ChunkRef, offset: number, lengthBytes: number): Promise<Buffer> {
    const bytes = await readFile(join(this.#folder, String(ref.id))).catch(() => {
      throw new RingfsError('CHUNK_MISSING', `no chunk ${ref.id}`)
    })
    if (!createHash('sha256').update(bytes).digest().equals(ref.root)) {
      throw new RingfsError('CHUNK_CORRUPT', `chunk ${ref.id} is corrupt`)
    }
    return bytes.subarray(offset, offset + lengthBytes)
  }

  async sync(): Promise<void> {
    // Tests that end the machine do not use this.
  }

  async remove(ids: readonly number[]): Promise<void> {
    await Promise.all(ids.map((id) => rm(join(this.#folder, String(id)), { force: true })))
  }

  space(): Promise<{ totalBytes: number; freeBytes: number }> {
    return Promise.resolve({ totalBytes: 100 * GIB, freeBytes: 60 * GIB })
  }
}
