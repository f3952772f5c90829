/** Chunks as files in a folder, for tests with several mounts of one volume: each process reads what the others wrote. */
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RingfsError } from '../../src/base/errors.js'
import type { ChunkOrigin, ChunkRef, ChunkWriteOptions } from '../../src/chunk/contract.js'
import { MemoryChunks } from './memory-chunks.js'

export class FolderChunks extends MemoryChunks {
  readonly #folder: string

  constructor(folder: string) {
    super()
    this.#folder = folder
  }

  override async write(
    id: number,
    data: readonly Uint8Array[],
    origin: ChunkOrigin,
    options: ChunkWriteOptions,
  ): Promise<ChunkRef> {
    const ref = await super.write(id, data, origin, options)
    const path = join(this.#folder, String(id))
    await writeFile(`${path}.${process.pid}`, Buffer.concat(data))
    await rename(`${path}.${process.pid}`, path)
    return ref
  }

  override async read(ref: ChunkRef, offset: number, lengthBytes: number): Promise<Buffer> {
    if (!this.stored.has(ref.id)) {
      const data = await readFile(join(this.#folder, String(ref.id))).catch(() => {
        throw new RingfsError('CHUNK_MISSING', `no chunk ${ref.id}`)
      })
      const options = { durability: 'quorum', sync: false } as const
      this.stored.set(ref.id, { data, origin: { ino: 0, order: 0, extents: [] }, options, synced: false })
    }
    return super.read(ref, offset, lengthBytes)
  }

  override async sync(ids: readonly number[]): Promise<void> {
    await super.sync(ids.filter((id) => this.stored.has(id)))
  }

  override async remove(ids: readonly number[]): Promise<void> {
    await super.remove(ids)
    await Promise.all(ids.map((id) => rm(join(this.#folder, String(id)), { force: true })))
  }
}
