/** A disk that knows ids only: every chunk on it is the same byte. For counting what nodes with many chunks say to each other. */
import { RingfsError } from '../../src/base/errors.js'
import type { LeafPlace, LeavesReply, ListReply, ListRequest } from '../../src/chunk/contract.js'
import { leafHashes, rootOf } from '../../src/chunk/hash.js'
import type { ChunkDisk, StoredChunk } from '../../src/chunk/node/disk.js'
import type { StoredRange } from '../../src/chunk/node/chunk-files.js'
import { noLeaves } from '../../src/chunk/node/leaf-reads.js'
import { bucketOf } from '../../src/chunk/node/paths.js'
import type { Space } from '../../src/chunk/node/space.js'
import type { Verdict } from '../../src/chunk/node/tasks.js'
import { originOf } from './chunks.js'

const DATA = Buffer.from('x')
const LEAVES = leafHashes([DATA])

export class ListDisk implements ChunkDisk {
  readonly #ids: Set<number>
  /** In the order of buckets; null: not known any more. */
  #sorted: readonly number[] | null = null

  constructor(ids: readonly number[]) {
    this.#ids = new Set(ids)
  }

  get chunks(): number {
    return this.#ids.size
  }

  space(): Space {
    return { totalBytes: 1e12, freeBytes: 1e12 }
  }

  async put({ id }: StoredChunk): Promise<void> {
    this.#ids.add(id)
    this.#sorted = null
    await Promise.resolve()
  }

  async sync(ids: readonly number[]): Promise<readonly number[]> {
    return await this.lacks(ids)
  }

  async read(id: number): Promise<StoredRange> {
    if (!this.#ids.has(id)) throw new RingfsError('CHUNK_MISSING', `no chunk ${id}`)
    const range = { chunkLengthBytes: DATA.length, leaves: LEAVES, firstLeaf: 0, data: DATA, release: () => undefined }
    return await Promise.resolve({ ...range, origin: originOf(DATA.length) })
  }

  readNow(): null {
    return null
  }

  async readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply> {
    return await Promise.resolve(noLeaves(places))
  }

  async verify(id: number): Promise<Verdict> {
    return await Promise.resolve(this.#ids.has(id) ? { state: 'good', root: rootOf(LEAVES) } : { state: 'missing' })
  }

  async quarantine(id: number): Promise<Verdict> {
    return await this.verify(id)
  }

  async list({ fromBucket, fromId, toBucket, limit }: ListRequest): Promise<ListReply> {
    const sorted = (this.#sorted ??= [...this.#ids].sort((a, b) => bucketOf(a) - bucketOf(b) || a - b))
    const start = firstAt(sorted, fromBucket, fromId)
    const end = firstAt(sorted, toBucket, 0)
    const chunks = sorted.slice(start, Math.min(end, start + limit)).map((id) => ({ id }))
    const next = start + limit < end ? sorted[start + limit] : undefined
    return await Promise.resolve({ chunks, next: next === undefined ? null : { bucket: bucketOf(next), id: next } })
  }

  async lacks(ids: readonly number[]): Promise<readonly number[]> {
    return await Promise.resolve(ids.filter((id) => !this.#ids.has(id)))
  }

  isRetiring(): boolean {
    return false
  }

  async retire(): Promise<number> {
    return await Promise.resolve(0)
  }

  async remove(ids: readonly number[]): Promise<void> {
    for (const id of ids) this.#ids.delete(id)
    this.#sorted = null
    await Promise.resolve()
  }
}

function firstAt(sorted: readonly number[], bucket: number, id: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const one = sorted[middle] ?? 0
    const isBefore = bucketOf(one) < bucket || (bucketOf(one) === bucket && one < id)
    if (isBefore) low = middle + 1
    else high = middle
  }
  return low
}
