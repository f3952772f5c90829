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
    await writeFile(`${path}.origin`, JSON.stringify(origin))
    await rename(`${path}.${process.pid}`, path)
    return ref
  }

  override async read(ref: ChunkRef, offset: number, lengthBytes: number): Promise<Buffer> {
    await this.#find(ref.id)
    return super.read(ref, offset, lengthBytes)
  }

  override async origin(ref: ChunkRef): Promise<ChunkOrigin> {
    await this.#find(ref.id)
    return super.origin(ref)
  }

  /** Another process may have written it. */
  async #find(id: number): Promise<void> {
    if (this.stored.has(id)) return
    const path = join(this.#folder, String(id))
    try {
      const data = await readFile(path)
      const origin = originOf(await readFile(`${path}.origin`, 'utf8'))
      this.stored.set(id, { data, origin, options: { durability: 'quorum', sync: false }, synced: false })
    } catch {
      throw new RingfsError('CHUNK_MISSING', `no chunk ${id}`)
    }
  }

  override async sync(ids: readonly number[]): Promise<void> {
    await super.sync(ids.filter((id) => this.stored.has(id)))
  }

  override async remove(ids: readonly number[]): Promise<void> {
    await super.remove(ids)
    for (const id of ids) {
      await rm(join(this.#folder, String(id)), { force: true })
      await rm(join(this.#folder, `${id}.origin`), { force: true })
    }
  }
}

/** It was written by `write` of a process like this one. */
function originOf(json: string): ChunkOrigin {
  return JSON.parse(json) as ChunkOrigin
}
