/**
 * Turns uploaded batches into commits and tells the caches what they did.
 *
 * Invariant: the caches learn of a commit in the same tick in which its reply is handled, so that the writer can stop
 * showing the data from memory in that tick and no reader finds it in neither place.
 */
import { isErrno } from '../base/errno.js'
import { compareTime, type TimeSpec } from '../base/clock.js'
import { invariant } from '../base/invariant.js'
import { WINDOW_BYTES } from '../base/limits.js'
import type { ChunkOriginExtent, ChunkRef } from '../chunk/contract.js'
import type {
  Attr,
  AttrChange,
  CommitReply,
  CommitRequest,
  Extent,
  InlineCommitRequest,
  MetaStore,
} from '../meta/contract.js'
import type { AttrCache } from './cache.js'
import type { ChunkCache } from './chunk-cache.js'
import type { ExtentCache } from './extent-cache.js'
import type { Freshness } from './freshness.js'
import type { Batch } from './dirty-map.js'
import { allocatedDelta } from './extent-map.js'
import type { Uploader } from './uploader.js'

export interface Uploaded {
  readonly batch: Batch
  readonly chunk: ChunkRef
}

/** A chunk's worth of appended data. */
interface Part {
  readonly data: readonly Buffer[]
  readonly lengthBytes: number
  readonly chunk: ChunkRef
}

export interface CommitterDeps {
  readonly meta: MetaStore
  readonly fresh: Freshness
  readonly attrs: AttrCache
  readonly extents: ExtentCache
  readonly uploader: Uploader
  readonly data: ChunkCache
  /** Of each commit, with the data version that it made. */
  readonly onCommitted: (ino: number, dataVersion: number) => void
}

export class Committer {
  readonly #deps: CommitterDeps

  constructor(deps: CommitterDeps) {
    this.#deps = deps
  }

  /** The bytes may well be ones that the store keeps itself: nothing that is known of the file says otherwise. */
  fitsInline(ino: number, batch: Batch): boolean {
    const { mode, end } = batch
    const { meta, attrs } = this.#deps
    const attr = attrs.peek(ino)
    const size = attr?.sizeBytes ?? 0
    if (attr?.hasExtents === true) return false
    if (mode === 'append') return size + end <= meta.inlineBytes
    // A part of a long body would be refused.
    if (end <= meta.inlineBytes && (attr?.hasBody !== true || size <= meta.inlineBytes)) return true
    return attr !== undefined && size <= end && end <= meta.wholeInlineBytes && isWhole(batch)
  }

  /** Bytes, as far as it is known here; 0 where it is not. */
  sizeOf(ino: number): number {
    return this.#deps.attrs.peek(ino)?.sizeBytes ?? 0
  }

  /** A batch, and the attributes that are changed behind it, as one change, without a chunk. null: nothing was done, it needs one. */
  async commitInline(
    ino: number,
    batch: Batch,
    notBefore: TimeSpec,
    attributes?: AttrChange,
  ): Promise<{ readonly attr: Attr; readonly isMerged: boolean } | null> {
    const mtime = compareTime(batch.mtime, notBefore) > 0 ? batch.mtime : notBefore
    // A copy, which the caches keep: the blocks of the batch are used again.
    const data = Buffer.concat(batch.seal().data)
    const pieces = batch.extents.map(({ fileOffset, chunkOffset, lengthBytes }) => ({
      fileOffset,
      lengthBytes,
      bytes: data.subarray(chunkOffset, chunkOffset + lengthBytes),
    }))
    const known = batch.mode === 'at' ? this.#deps.extents.peek(ino, 0) : undefined
    const stored = pieces.reduce((sum, { fileOffset: at, lengthBytes }) => {
      return sum + (known?.storedBytes(at, at + lengthBytes) ?? 0)
    }, 0)
    const clear = batch.clearSuid ? ({ clearSuid: true } as const) : {}
    const allocatedDeltaBytes = sumOf(pieces) - stored
    const also = attributes === undefined ? {} : { attributes }
    const request = {
      pieces,
      mode: batch.mode,
      allocatedDeltaBytes,
      mtime,
      neverBack: true,
      ...clear,
      ...also,
    } as const
    const reply = await this.#inline(ino, request)
    if (reply === null) return null
    const placed = pieces.map((piece) => ({ ...piece, fileOffset: piece.fileOffset + reply.baseOffset }))
    this.#deps.extents.committedInline(reply.attr, placed, reply.isNewest)
    return { attr: reply.attr, isMerged: reply.attributesLeft !== true }
  }

  async #inline(
    ino: number,
    request: InlineCommitRequest,
  ): Promise<(CommitReply & { readonly isNewest: boolean }) | null> {
    const mutation = this.#deps.fresh.begin(ino)
    try {
      const reply = await this.#deps.meta.commitInline(ino, request)
      const isNewest = this.#deps.attrs.settle(mutation, reply?.attr ?? null)
      if (reply === null) return null
      this.#deps.onCommitted(ino, reply.attr.dataVersion)
      return { ...reply, isNewest }
    } catch (error) {
      this.#deps.attrs.settle(mutation, null)
      this.#deps.extents.drop(ino)
      // Redis has no memory for it. For an extent it might.
      if (isErrno(error, 'ENOSPC')) return null
      throw error
    }
  }

  /** Positional batches of one window, in write order, as one change. The mtime that it made. */
  async commitAt(ino: number, uploads: readonly Uploaded[], notBefore: TimeSpec): Promise<TimeSpec> {
    const extents = uploads.flatMap(({ batch, chunk }) => batch.extents.map((extent) => toExtent(extent, chunk)))
    const [first] = extents
    if (first === undefined) return notBefore
    const known = this.#deps.extents.peek(ino, uploads[0]?.batch.window ?? 0)
    const allocatedDeltaBytes = known === undefined ? sumOf(extents) : allocatedDelta(known, extents)
    const mtime = latest(notBefore, uploads)
    const { attr } = await this.#commit(ino, { extents, mode: 'at', allocatedDeltaBytes, mtime, ...suid(uploads) })
    for (const { batch, chunk } of uploads) this.#deps.data.put(chunk, batch.seal().data)
    return attr.mtime
  }

  /**
   * One batch of appended writes, where the store says, as one change: nobody else's append comes in between. A chunk lies
   * in one window, so data that would lie across two becomes two chunks, whose extents are committed together. null: `isAbandoned`, which
   * is asked before anything is sent again; nothing was done.
   */
  async commitAppend(
    ino: number,
    { batch, chunk }: Uploaded,
    notBefore: TimeSpec,
    isAbandoned: () => boolean,
  ): Promise<TimeSpec | null> {
    const mtime = latest(notBefore, [{ batch, chunk }])
    const { data, lengthBytes } = batch.seal()
    let parts: readonly Part[] = [{ data, lengthBytes, chunk }]
    for (;;) {
      const { attr, cutAfterBytes: cut } = await this.#append(ino, batch, mtime, parts)
      if (cut === undefined) {
        for (const part of parts) this.#deps.data.put(part.chunk, part.data)
        return attr.mtime
      }
      // Where the border lies changes with what others append meanwhile.
      invariant(cut > 0 && cut < lengthBytes, 'a cut leaves two parts')
      this.#deps.uploader.discard(parts.map((part) => part.chunk.id))
      if (isAbandoned()) return null
      // The border of two windows lies where the first part ends.
      const end = Math.ceil((this.sizeOf(ino) + 1) / WINDOW_BYTES) * WINDOW_BYTES
      parts = await this.#cut(ino, batch, [0, cut, lengthBytes], end - cut)
      if (!isAbandoned()) continue
      this.#deps.uploader.discard(parts.map((part) => part.chunk.id))
      return null
    }
  }

  async #append(ino: number, batch: Batch, mtime: TimeSpec, parts: readonly Part[]): Promise<CommitReply> {
    const extents: Extent[] = []
    let end = 0
    for (const { lengthBytes, chunk } of parts) {
      extents.push({ fileOffset: end, lengthBytes, chunk, chunkOffset: 0 })
      end += lengthBytes
    }
    const clear = batch.clearSuid ? ({ clearSuid: true } as const) : {}
    return await this.#commit(ino, { extents, mode: 'append', allocatedDeltaBytes: end, mtime, ...clear })
  }

  async #cut(
    ino: number,
    batch: Batch,
    [start, middle, end]: readonly [number, number, number],
    appendsAt: number,
  ): Promise<Part[]> {
    const { data } = batch.seal()
    const part = async (from: number, to: number): Promise<Part> => {
      const piece = slicePieces(data, from, to)
      return { data: piece, lengthBytes: to - from, chunk: await this.#uploadPart(ino, batch, piece, appendsAt + from) }
    }
    const first = await part(start, middle)
    try {
      return [first, await part(middle, end)]
    } catch (error) {
      this.#deps.uploader.discard([first.chunk.id])
      throw error
    }
  }

  async #uploadPart(ino: number, batch: Batch, data: readonly Buffer[], appendsAt: number): Promise<ChunkRef> {
    const lengthBytes = data.reduce((sum, piece) => sum + piece.length, 0)
    const ref = await this.#deps.uploader.upload({
      ino,
      data,
      extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes }],
      appendsAt,
      durability: batch.durability,
      wantSync: () => false,
      isCancelled: () => false,
    })
    invariant(ref !== null, 'the upload of a part is never cancelled')
    return ref
  }

  async #commit(ino: number, request: CommitRequest): Promise<CommitReply> {
    const mutation = this.#deps.fresh.begin(ino)
    let reply: CommitReply
    try {
      reply = await this.#deps.meta.commit(ino, { ...request, neverBack: true })
    } catch (error) {
      this.#deps.attrs.settle(mutation, null)
      this.#deps.extents.drop(ino)
      throw error
    } finally {
      this.#deps.uploader.unsynced.commitEnded(chunksOf(request.extents))
    }
    const newest = this.#deps.attrs.settle(mutation, reply.attr)
    if (reply.cutAfterBytes === undefined) {
      this.#deps.onCommitted(ino, reply.attr.dataVersion)
      const shifted = request.extents.map((extent) => ({ ...extent, fileOffset: extent.fileOffset + reply.baseOffset }))
      this.#deps.extents.committed(reply.attr, request.mode === 'append' ? shifted : request.extents, newest)
    }
    return reply
  }
}

/** One piece, from the start of the file on. */
function isWhole({ extents }: Batch): boolean {
  return extents.length === 1 && extents[0]?.fileOffset === 0
}

function toExtent({ fileOffset, chunkOffset, lengthBytes }: ChunkOriginExtent, chunk: ChunkRef): Extent {
  return { fileOffset, lengthBytes, chunk, chunkOffset }
}

function chunksOf(extents: readonly Extent[]): number[] {
  return extents.flatMap(({ chunk }) => chunk?.id ?? [])
}

function sumOf(extents: readonly { readonly lengthBytes: number }[]): number {
  return extents.reduce((sum, extent) => sum + extent.lengthBytes, 0)
}

/** File times do not go back when batches of different windows are committed in another order than written. */
function latest(notBefore: TimeSpec, uploads: readonly Uploaded[]): TimeSpec {
  return uploads.reduce((time, { batch }) => (compareTime(batch.mtime, time) > 0 ? batch.mtime : time), notBefore)
}

function suid(uploads: readonly Uploaded[]): { clearSuid?: true } {
  return uploads.some(({ batch }) => batch.clearSuid) ? { clearSuid: true } : {}
}

/** Bytes [from, to) of joined pieces. */
function slicePieces(pieces: readonly Buffer[], from: number, to: number): Buffer[] {
  const found: Buffer[] = []
  let start = 0
  for (const piece of pieces) {
    const part = piece.subarray(Math.max(0, from - start), Math.max(0, to - start))
    if (part.length > 0) found.push(part)
    start += piece.length
  }
  return found
}
