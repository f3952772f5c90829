/**
 * Reads a file: what this process has not committed yet, over the extents of the store, over zeros.
 *
 * Invariant: the unwritten data is copied first and the extents are asked for afterwards. A batch that is committed in
 * between is in both; the other order could find it in neither. Size and extents are of one version of the data: with the size of before and the
 * extents of after another client cut the file, all of it would be zeros.
 */
import { allDone } from '../base/all-done.js'
import { giveBack } from '../base/lent.js'
import { KIB, WINDOW_BYTES } from '../base/limits.js'
import { PosixError } from '../base/errno.js'
import { hasCode, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { Attr } from '../meta/contract.js'
import type { AttrCache } from './cache.js'
import { leafBytes, type ChunkCache, type ChunkPart } from './chunk-cache.js'
import type { ExtentCache, WindowAt } from './extent-cache.js'
import type { ExtentMap, FilePiece, WindowMark } from './extent-map.js'
import type { Freshness } from './freshness.js'
import type { FileHandle } from './handles.js'
import { IntervalMap } from './interval-map.js'
import { isScattered } from './pack-plan.js'
import { TargetPool } from './target-pool.js'

/** So many are fetched together. */
const MANY_PIECES = 4
/** Shorter ones are copied as quickly, and do not keep what is longer. */
const SLICES_MIN_BYTES = 64 * KIB
/** Each time another client has changed the file since its size was asked for. */
const TRIES_MAX = 16

export interface ReaderDeps {
  readonly attrs: AttrCache
  readonly extents: ExtentCache
  readonly data: ChunkCache
  readonly fresh: Freshness
  readonly log: Log
  readonly readAheadBytes: number
  /** A read met pieces of many chunks in a window. `mark`: what that was. */
  readonly onScattered: (ino: number, window: number, mark: WindowMark) => void
}

export class Reader {
  readonly #deps: ReaderDeps
  readonly #targets = new TargetPool()

  constructor(deps: ReaderDeps) {
    this.#deps = deps
  }

  /** Short only at the end of the file. `seen` is told of the file as the store has it. Errors: EIO when no good copy of a chunk is to be had. */
  async read(
    file: FileHandle,
    offset: number,
    lengthBytes: number,
    seen: (attr: Attr) => void = () => undefined,
  ): Promise<Buffer> {
    const { state } = file
    await state.settled()
    // Where appended data will lie is known only when it is committed.
    if (state.writer.hasAppends) await state.writer.flush()
    const target = this.#targets.take(lengthBytes)
    for (let tries = 1; ; tries++) {
      const covered = new IntervalMap<true>()
      state.writer.overlay(offset, offset + lengthBytes, target, (start, end) => covered.set(start, end, true, start))
      const dirtyEnd = state.writer.positionalEnd
      const attr = await this.#attr(state.ino)
      const size = Math.max(dirtyEnd, attr.sizeBytes)
      const end = Math.min(offset + lengthBytes, size)
      const gaps = end <= offset ? [] : covered.gaps(offset, end)
      const version = tries < TRIES_MAX ? attr.dataVersion : undefined
      const fills = gaps.map((gap) => this.#fill(state.ino, gap, version, target, gap.start - offset))
      const areOfVersion = await allDone(fills)
      if (areOfVersion.includes(false)) {
        this.#deps.attrs.drop(state.ino)
        continue
      }
      seen(attr)
      if (end <= offset) return Buffer.alloc(0)
      this.#readAhead(file, offset, end, size)
      return this.#targets.lend(target.subarray(0, end - offset))
    }
  }

  /** As read(), but what lies in few chunks is not joined: contract.ts. */
  async readPieces(
    file: FileHandle,
    offset: number,
    lengthBytes: number,
    seen: (attr: Attr) => void,
  ): Promise<readonly Buffer[]> {
    const slices = lengthBytes < SLICES_MIN_BYTES ? null : await this.#slices(file, offset, lengthBytes, seen)
    return slices ?? [await this.read(file, offset, lengthBytes, seen)]
  }

  /** null: nothing was done; it lies in many pieces, or not in chunks alone, or what is known of it is not of one version. */
  async #slices(
    file: FileHandle,
    offset: number,
    lengthBytes: number,
    seen: (attr: Attr) => void,
  ): Promise<readonly Buffer[] | null> {
    const { state } = file
    await state.settled()
    // Looked at first, as what is unwritten is copied first.
    if (state.writer.isDirty) return null
    const attr = await this.#attr(state.ino)
    const end = Math.min(offset + lengthBytes, attr.sizeBytes)
    const [part, other] = windowsOf(offset, end)
    if (part === undefined || other !== undefined || end - offset < SLICES_MIN_BYTES) return null
    try {
      const found = await this.#deps.extents.at(state.ino, part.window)
      const parts = this.#pieces(state.ino, found.map, part).flatMap(partOf)
      if (found.version !== attr.dataVersion || !isWhole(parts, part)) return null
      const slices = await this.#slicesOf(parts)
      seen(attr)
      this.#readAhead(file, offset, end, attr.sizeBytes)
      return slices
    } catch (error) {
      // read() asks for the extents once more.
      if (hasCode(error, 'CHUNK_MISSING')) return null
      throw this.#failed(state.ino, error)
    }
  }

  async #slicesOf(parts: readonly ChunkPart[]): Promise<readonly Buffer[]> {
    const all = parts.map(({ ref, from, to }) => this.#deps.data.slices(ref, from, to))
    try {
      return (await allDone(all)).flat()
    } catch (error) {
      for (const one of await Promise.allSettled(all)) if (one.status === 'fulfilled') one.value.forEach(giveBack)
      throw error
    }
  }

  async #attr(ino: number): Promise<Attr> {
    const mark = this.#deps.fresh.mark()
    const attr = await this.#deps.attrs.get(ino)
    this.#deps.extents.atVersion(attr, mark)
    return attr
  }

  /** Committed bytes of [start, end). false: they are of another version, and not all there. */
  async #fill(
    ino: number,
    { start, end }: { readonly start: number; readonly end: number },
    version: number | undefined,
    target: Buffer,
    at: number,
  ): Promise<boolean> {
    const fills = windowsOf(start, end).map((part) =>
      this.#fillWindow(ino, part, version, target, at + part.start - start),
    )
    return !(await allDone(fills)).includes(false)
  }

  /**
   * A chunk that is missing may have been replaced by a compaction: the window is asked for once more, when nothing that the
   * old map named can still be on its way to `target`: it would overwrite what the new one says, or, later, another read.
   */
  async #fillWindow(
    ino: number,
    part: WindowPart,
    version: number | undefined,
    target: Buffer,
    at: number,
  ): Promise<boolean> {
    const { extents } = this.#deps
    try {
      return await this.#copyOf(ino, await extents.at(ino, part.window), part, version, target, at)
    } catch (error) {
      if (!hasCode(error, 'CHUNK_MISSING')) throw this.#failed(ino, error)
      try {
        return await this.#copyOf(ino, await extents.refetch(ino, part.window), part, version, target, at)
      } catch (again) {
        throw this.#failed(ino, again)
      }
    }
  }

  /** false: it is of another version, and nothing was copied. */
  async #copyOf(
    ino: number,
    found: WindowAt,
    part: WindowPart,
    version: number | undefined,
    target: Buffer,
    at: number,
  ): Promise<boolean> {
    if (version !== undefined && found.version !== version) return false
    await this.#copy(ino, found.map, part, target, at)
    return true
  }

  #failed(ino: number, error: unknown): PosixError {
    if (error instanceof PosixError) return error
    this.#deps.log.error({ ino, error: messageOf(error) }, 'read failed')
    return new PosixError('EIO', messageOf(error), { cause: error })
  }

  /** Those of a part, of which is told when they lie in many chunks. */
  #pieces(ino: number, map: ExtentMap, part: WindowPart): readonly FilePiece[] {
    const pieces = map.slice(part.start, part.end)
    if (isScattered(pieces, part.end - part.start)) this.#deps.onScattered(ino, part.window, map.mark)
    return pieces
  }

  async #copy(ino: number, map: ExtentMap, part: WindowPart, target: Buffer, at: number): Promise<void> {
    const pieces = this.#pieces(ino, map, part)
    // What is copied then finds the fetches of many pieces under way.
    if (pieces.length >= MANY_PIECES) void this.#deps.data.prefetch(pieces.flatMap(partOf))
    const copies = pieces.map(({ start, end, chunk, bytes, chunkOffset }) => {
      const to = at + start - part.start
      if (chunk !== null) return this.#deps.data.copy(chunk, chunkOffset, chunkOffset + end - start, target, to)
      if (bytes === null) target.fill(0, to, to + end - start)
      else bytes.copy(target, to, chunkOffset, chunkOffset + end - start)
      return Promise.resolve()
    })
    await allDone(copies)
  }

  #readAhead(file: FileHandle, start: number, end: number, size: number): void {
    const range = file.readAhead.next(start, end, size, this.#deps.readAheadBytes)
    if (range === null) return
    this.#prefetch(file, range.start, range.end).catch((error: unknown) => {
      this.#deps.log.debug({ ino: file.state.ino, error: messageOf(error) }, 'read-ahead failed')
    })
  }

  async #prefetch({ state, readAhead }: FileHandle, start: number, end: number): Promise<void> {
    for (const part of windowsOf(start, end)) {
      const map = await this.#deps.extents.get(state.ino, part.window)
      const parts = this.#pieces(state.ino, map, part).flatMap(partOf)
      readAhead.takes(parts.reduce((sum, { from, to }) => sum + leafBytes(from, to), 0) / (part.end - part.start))
      await this.#deps.data.prefetch(parts)
    }
  }
}

/** Few chunks have all of it. */
function isWhole(parts: readonly ChunkPart[], { start, end }: WindowPart): boolean {
  return parts.length < MANY_PIECES && parts.reduce((sum, { from, to }) => sum + to - from, 0) === end - start
}

function partOf({ start, end, chunk, chunkOffset }: FilePiece): ChunkPart[] {
  return chunk === null ? [] : [{ ref: chunk, from: chunkOffset, to: chunkOffset + end - start }]
}

interface WindowPart {
  readonly window: number
  readonly start: number
  readonly end: number
}

function windowsOf(start: number, end: number): WindowPart[] {
  const parts: WindowPart[] = []
  for (let from = start; from < end;) {
    const window = Math.floor(from / WINDOW_BYTES)
    const to = Math.min(end, (window + 1) * WINDOW_BYTES)
    parts.push({ window, start: from, end: to })
    from = to
  }
  return parts
}
