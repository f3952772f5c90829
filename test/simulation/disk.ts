/**
 * A chunk store in memory that behaves as ChunkStore does: a chunk is seen only when it is whole, what is being given up is missing
 * for whoever asks, and work that creates or deletes a chunk holds its lock. Its disk outlives the process, may be full, slow or
 * broken, may forget what was not synced when the power goes, and copies on it may rot.
 */
import type { Clock } from '../../src/base/clock.js'
import { PosixError } from '../../src/base/errno.js'
import { RingfsError } from '../../src/base/errors.js'
import { LEAF_BYTES } from '../../src/base/limits.js'
import type { ChunkOrigin, LeafPlace, LeavesReply, ListReply, ListRequest } from '../../src/chunk/contract.js'
import { firstBadLeaf, rootOf, sumBytes } from '../../src/chunk/hash.js'
import { KeyedLock } from '../../src/chunk/node/keyed-lock.js'
import { noLeaves } from '../../src/chunk/node/leaf-reads.js'
import type { Space } from '../../src/chunk/node/space.js'
import type { StoredRange } from '../../src/chunk/node/chunk-files.js'
import type { ChunkDisk, StoredChunk } from '../../src/chunk/node/disk.js'
import type { Verdict } from '../../src/chunk/node/tasks.js'
import { chunkPosition } from '../../src/cluster/ring.js'

const BUCKET_BITS = 20
const RETIRE_BATCH = 16

export interface StoredCopy {
  readonly root: Buffer
  readonly leaves: Buffer
  readonly origin: ChunkOrigin
  readonly data: Buffer
  isSynced: boolean
  isBad: boolean
}

interface Place {
  readonly bucket: number
  readonly id: number
}

/** By id; and in the order of their folders. */
class Copies extends Map<number, StoredCopy> {
  #places: readonly Place[] | null = null

  override set(id: number, copy: StoredCopy): this {
    this.#places = null
    return super.set(id, copy)
  }

  override delete(id: number): boolean {
    this.#places = null
    return super.delete(id)
  }

  override clear(): void {
    this.#places = null
    super.clear()
  }

  within(fromBucket: number, fromId: number, toBucket: number): readonly Place[] {
    const places = (this.#places ??= this.#sorted())
    const first = places.findIndex(({ bucket, id }) => bucket > fromBucket || (bucket === fromBucket && id >= fromId))
    if (first < 0 || (places[first]?.bucket ?? 0) >= toBucket) return []
    const end = places.findIndex(({ bucket }) => bucket >= toBucket)
    return places.slice(first, end < 0 ? places.length : end)
  }

  #sorted(): readonly Place[] {
    const places = [...this.keys()].map((id) => ({ bucket: chunkPosition(id) >>> BUCKET_BITS, id }))
    return places.sort((a, b) => a.bucket - b.bucket || a.id - b.id)
  }
}

/** What lasts. */
export class DiskState {
  readonly chunks = new Copies()
  /** Everything fails with EIO. */
  isBroken = false
  isFull = false
  /** Added to each operation, up to so much. */
  slowMs = 0

  /** Power goes: of what was not synced, some is on disk by chance. Answers what is not. */
  forgetUnsynced(random: () => number): readonly number[] {
    const forgotten = [...this.chunks].filter(([, { isSynced }]) => !isSynced && random() < 0.5).map(([id]) => id)
    for (const id of forgotten) this.chunks.delete(id)
    return forgotten
  }
}

export interface DiskOptions {
  readonly state: DiskState
  readonly clock: Clock
  readonly random: () => number
  /** A copy that was there has been removed, and why. */
  readonly onRemoved: (id: number, why: 'retired' | 'removed') => void
  readonly onStored: (id: number) => void
}

export class SimulatedDisk implements ChunkDisk {
  readonly #options: DiskOptions
  readonly #state: DiskState
  readonly #locks = new KeyedLock()
  readonly #retiring = new Set<number>()

  constructor(options: DiskOptions) {
    this.#options = options
    this.#state = options.state
  }

  get chunks(): number {
    return this.#state.chunks.size
  }

  space(): Space {
    return { totalBytes: 1e9, freeBytes: this.#state.isFull ? 0 : 5e8 }
  }

  async #work(): Promise<void> {
    const { clock, random } = this.#options
    await clock.sleep(0.1 + random() * (1 + this.#state.slowMs))
    this.#check()
  }

  #check(): void {
    if (this.#state.isBroken) throw new PosixError('EIO', 'the simulated disk is broken')
  }

  async put(chunk: StoredChunk, pieces: readonly Uint8Array[], sync = false): Promise<void> {
    if (this.#state.isFull) throw new PosixError('ENOSPC', 'the simulated disk is full')
    const data = Buffer.concat(pieces, sumBytes(pieces))
    await this.#locks.run(chunk.id, async () => {
      await this.#work()
      if (!rootOf(chunk.leaves).equals(chunk.root) || firstBadLeaf([data], chunk.leaves, 0) >= 0) {
        throw new RingfsError('CHUNK_CORRUPT', `chunk ${chunk.id}: the data do not match the hashes`)
      }
      this.#keep(chunk, data)
    })
    if (sync && (await this.sync([chunk.id])).length > 0) {
      throw new RingfsError('CHUNK_MISSING', `chunk ${chunk.id} was removed while it was stored`)
    }
  }

  #keep({ id, root, leaves, origin }: StoredChunk, data: Buffer): void {
    const { chunks } = this.#state
    const known = chunks.get(id)
    if (known !== undefined && !known.isBad) {
      if (!known.root.equals(root)) throw new RingfsError('CHUNK_CONFLICT', `chunk ${id} exists with other contents`)
      return
    }
    chunks.set(id, { root, leaves, origin, data, isSynced: false, isBad: false })
    this.#options.onStored(id)
  }

  async sync(ids: readonly number[]): Promise<readonly number[]> {
    const { chunks } = this.#state
    const copies = ids.map((id) => chunks.get(id))
    await this.#work()
    for (const copy of copies) if (copy !== undefined) copy.isSynced = true
    return ids.filter((id) => !chunks.has(id))
  }

  async read(id: number, offset: number, lengthBytes: number, withOrigin = false, check = false): Promise<StoredRange> {
    await this.#work()
    const copy = this.#state.chunks.get(id)
    if (copy === undefined) throw new RingfsError('CHUNK_MISSING', `no chunk ${id}`)
    const { leaves, origin, data, isBad } = copy
    if (isBad && check) throw new RingfsError('CHUNK_CORRUPT', `chunk ${id} is rotten`)
    const firstLeaf = Math.floor(offset / LEAF_BYTES)
    const end = Math.min(data.length, Math.ceil((offset + lengthBytes) / LEAF_BYTES) * LEAF_BYTES)
    const range = data.subarray(firstLeaf * LEAF_BYTES, end)
    const shown = isBad ? Buffer.from(range.map((byte) => byte ^ 1)) : range
    const reply = { chunkLengthBytes: data.length, leaves, firstLeaf, data: shown, release: () => undefined }
    return { ...reply, origin: withOrigin ? origin : null }
  }

  readNow(): null {
    return null
  }

  async readLeaves(places: readonly LeafPlace[]): Promise<LeavesReply> {
    return await Promise.resolve(noLeaves(places))
  }

  async verify(id: number): Promise<Verdict> {
    await this.#work()
    const copy = this.#state.chunks.get(id)
    if (copy === undefined) return { state: 'missing' }
    return copy.isBad ? { state: 'bad', root: copy.root, why: 'rotten' } : { state: 'good', root: copy.root }
  }

  async quarantine(id: number): Promise<Verdict> {
    return await this.#locks.run(id, async () => {
      const verdict = await this.verify(id)
      if (verdict.state === 'bad') this.#state.chunks.delete(id)
      return verdict
    })
  }

  async list({ fromBucket, fromId, toBucket, limit }: ListRequest): Promise<ListReply> {
    const { chunks } = this.#state
    // Where there is nothing, no time passes: nothing can be seen there but that.
    if (chunks.within(fromBucket, fromId, toBucket).length > 0) await this.#work()
    else this.#check()
    const places = chunks.within(fromBucket, fromId, toBucket)
    return { chunks: places.slice(0, limit).map(({ id }) => ({ id })), next: places[limit] ?? null }
  }

  async lacks(ids: readonly number[], verify: boolean): Promise<readonly number[]> {
    const { chunks } = this.#state
    const missing = new Set(verify ? await this.sync(ids) : [])
    await this.#work()
    for (const id of ids) {
      const copy = chunks.get(id)
      if (copy === undefined || (verify && copy.isBad)) missing.add(id)
    }
    return ids.filter((id) => missing.has(id) || this.#retiring.has(id))
  }

  isRetiring(id: number): boolean {
    return this.#retiring.has(id)
  }

  async retire(
    ids: readonly number[],
    confirm: (ids: readonly number[]) => Promise<readonly number[]>,
  ): Promise<number> {
    let given = 0
    for (let at = 0; at < ids.length; at += RETIRE_BATCH) {
      const batch = ids.slice(at, at + RETIRE_BATCH)
      given += await this.#locks.runAll(batch, () => this.#retireBatch(batch, confirm))
    }
    return given
  }

  async #retireBatch(
    ids: readonly number[],
    confirm: (ids: readonly number[]) => Promise<readonly number[]>,
  ): Promise<number> {
    for (const id of ids) this.#retiring.add(id)
    try {
      const safe = await confirm(ids)
      await this.#work()
      for (const id of safe) if (this.#state.chunks.delete(id)) this.#options.onRemoved(id, 'retired')
      return safe.length
    } finally {
      for (const id of ids) this.#retiring.delete(id)
    }
  }

  async remove(ids: readonly number[]): Promise<void> {
    await this.#locks.runAll(ids, async () => {
      await this.#work()
      for (const id of ids) if (this.#state.chunks.delete(id)) this.#options.onRemoved(id, 'removed')
    })
  }
}
