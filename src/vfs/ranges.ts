/** fallocate(2) and lseek(2) for holes and data. */
import { PosixError } from '../base/errno.js'
import { FILE_MAX_BYTES, WINDOW_BYTES } from '../base/limits.js'
import { PUNCH_WINDOWS_MAX, type Attr } from '../meta/contract.js'
import type { VfsContext } from './context.js'
import { isHole } from './extent-map.js'
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, SEEK_DATA, SEEK_HOLE } from './flags.js'
import type { FileHandle } from './handles.js'
import type { IntervalMap } from './interval-map.js'
import { checkRange } from './names.js'

interface Range {
  readonly start: number
  readonly end: number
  /** Size to grow to at least; 0: it stays. */
  readonly minSizeBytes: number
}

/** Windows asked for at once. */
const LIST_MAX = 64

export class Ranges {
  readonly #context: VfsContext

  constructor(context: VfsContext) {
    this.#context = context
  }

  /** A change of size to all others: what was written before is committed first, what comes later waits. */
  async fallocate(handle: number, mode: number, offset: number, lengthBytes: number): Promise<void> {
    const file = this.#context.handles.file(handle)
    const kind = kindOf(mode)
    if (!file.writable) throw new PosixError('EBADF', 'not open for writing')
    checkRange(offset, lengthBytes)
    if (lengthBytes === 0) throw new PosixError('EINVAL', 'nothing to allocate')
    if (lengthBytes > FILE_MAX_BYTES - offset) throw new PosixError('EFBIG', `beyond ${FILE_MAX_BYTES} bytes`)
    const end = offset + lengthBytes
    const range = { start: offset, end, minSizeBytes: (mode & FALLOC_FL_KEEP_SIZE) === 0 ? end : 0 }
    const { state } = file
    await state.exclusive(() =>
      state.writer.barrier(() => (kind === 'allocate' ? this.#allocate(file, range) : this.#zero(file, range))),
    )
  }

  /** Nothing is reserved: whether there is room is asked now, and again when the data is written. */
  async #allocate(file: FileHandle, { start, end, minSizeBytes }: Range): Promise<void> {
    const { attrs, chunks, clock, meta } = this.#context
    const { ino } = file.state
    const { sizeBytes, allocatedBytes } = await attrs.get(ino)
    const behind = Math.max(0, end - Math.max(start, sizeBytes))
    const needed = behind + Math.max(0, end - start - behind - allocatedBytes)
    const { freeBytes } = await chunks.space()
    if (needed > freeBytes) throw new PosixError('ENOSPC', `${needed} bytes are wanted, ${freeBytes} are free`)
    const request = { extents: [], mode: 'at', allocatedDeltaBytes: 0, mtime: clock.now(), minSizeBytes } as const
    const clear = file.clearSuid ? ({ clearSuid: true } as const) : {}
    await this.#changed(ino, async () => (await meta.commit(ino, { ...request, ...clear })).attr)
  }

  /** Windows inside go whole, a bounded number with each change; those at the edges get a hole. */
  async #zero(file: FileHandle, { start, end, minSizeBytes }: Range): Promise<void> {
    const { meta, extents, clock, fresh } = this.#context
    const { ino } = file.state
    for (let from = start; from < end;) {
      const mark = fresh.mark()
      const { attr, windows } = await meta.windows(ino, Math.floor(from / WINDOW_BYTES), PUNCH_WINDOWS_MAX)
      extents.atVersion(attr, mark)
      if (attr.hasBody && windows[0] === 0) await this.#context.spiller.spill(ino)
      const inside = windows.filter((window) => window * WINDOW_BYTES < end)
      const last = inside.at(-1)
      const isRest = last === undefined || inside.length < PUNCH_WINDOWS_MAX
      const to = isRest ? end : Math.min(end, (last + 1) * WINDOW_BYTES)
      const stored = async (window: number): Promise<[number, number]> => {
        return [window, 0 - (await extents.get(ino, window)).storedBytes(from, to)]
      }
      const request = {
        offset: from,
        lengthBytes: to - from,
        windows: new Map(await Promise.all(inside.map(stored))),
        mtime: clock.now(),
        clearSuid: file.clearSuid,
        minSizeBytes,
      }
      if (await this.#changed(ino, () => meta.punch(ino, request))) from = to
    }
  }

  /** false: nothing was done. */
  async #changed(ino: number, change: () => Promise<Attr | null>): Promise<boolean> {
    const { extents, fresh } = this.#context
    try {
      const attr = await this.#context.mutate(ino, change)
      extents.drop(ino)
      if (attr !== null) extents.atVersion(attr, fresh.mark())
      return attr !== null
    } catch (error) {
      extents.drop(ino)
      throw error
    }
  }

  async seek(handle: number, offset: number, whence: number): Promise<number> {
    const file = this.#context.handles.file(handle)
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new PosixError('EINVAL', `whence ${whence}`)
    if (!Number.isSafeInteger(offset) || offset < 0) throw new PosixError('ENXIO', 'no such place')
    const { state } = file
    await state.settled()
    if (state.writer.hasAppends) await state.writer.flush()
    // As for reads: what is unwritten is noted first, so that what is committed meanwhile is in both and not in neither.
    const dirty = state.writer.covered(offset)
    const { attrs, extents, fresh } = this.#context
    const mark = fresh.mark()
    const attr = await attrs.get(state.ino)
    extents.atVersion(attr, mark)
    const size = Math.max(dirty.end, attr.sizeBytes)
    if (offset >= size) throw new PosixError('ENXIO', 'at the end of the file')
    if (whence === SEEK_HOLE) return await this.#hole(state.ino, offset, size, dirty)
    const at = await this.#data(state.ino, offset, size, dirty)
    if (at === undefined) throw new PosixError('ENXIO', 'no data from here on')
    return at
  }

  /** The first byte of data in [offset, size). */
  async #data(ino: number, offset: number, size: number, dirty: IntervalMap<true>): Promise<number | undefined> {
    const [unwritten] = dirty.overlapping(offset, size)
    const end = unwritten?.start ?? size
    for await (const window of this.#windows(ino, offset, end)) {
      const start = window * WINDOW_BYTES
      const map = await this.#context.extents.get(ino, window)
      const pieces = map.slice(Math.max(offset, start), Math.min(end, start + WINDOW_BYTES))
      const first = pieces.find((piece) => !isHole(piece))
      if (first !== undefined) return first.start
    }
    return unwritten?.start
  }

  /** The first byte of [offset, size) that is no data; `size` if all are. */
  async #hole(ino: number, offset: number, size: number, dirty: IntervalMap<true>): Promise<number> {
    let at = offset
    for await (const window of this.#windows(ino, offset, size)) {
      const start = window * WINDOW_BYTES
      const gap = firstGap(dirty, at, Math.min(start, size))
      if (gap !== undefined) return gap
      const end = Math.min(size, start + WINDOW_BYTES)
      const map = await this.#context.extents.get(ino, window)
      for (const piece of map.slice(Math.max(at, start), end)) {
        const found = isHole(piece) ? firstGap(dirty, piece.start, piece.end) : undefined
        if (found !== undefined) return found
      }
      at = end
    }
    return firstGap(dirty, at, size) ?? size
  }

  /** Windows that have extents and touch [start, end). */
  async *#windows(ino: number, start: number, end: number): AsyncGenerator<number> {
    for (let from = Math.floor(start / WINDOW_BYTES); from * WINDOW_BYTES < end;) {
      const { windows } = await this.#context.meta.windows(ino, from, LIST_MAX)
      for (const window of windows) {
        if (window * WINDOW_BYTES >= end) return
        yield window
      }
      const last = windows.at(-1)
      if (last === undefined || windows.length < LIST_MAX) return
      from = last + 1
    }
  }
}

function kindOf(mode: number): 'allocate' | 'zero' {
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
      return 'allocate'
    case FALLOC_FL_ZERO_RANGE:
      return 'zero'
    case FALLOC_FL_PUNCH_HOLE:
      if ((mode & FALLOC_FL_KEEP_SIZE) !== 0) return 'zero'
  }
  throw new PosixError('EOPNOTSUPP', `fallocate with mode ${mode}`)
}

/** The first of [start, end) that no interval covers. */
function firstGap(map: IntervalMap<true>, start: number, end: number): number | undefined {
  return start < end ? map.gaps(start, end)[0]?.start : undefined
}
