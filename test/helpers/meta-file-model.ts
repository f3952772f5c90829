/** A file as an array of bytes, each told by the chunk and the place in it that it comes from; 0 is a zero. */
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { Extent, ExtentWindow, MetaStore } from '../../src/meta/contract.js'
import { extentOf } from './meta.js'

const TIME = { sec: 1_700_000_000, nsec: 5 }
/** Chunks of these tests are shorter. */
const CHUNK = 1024

/** What `length` bytes from `from` read as: extents laid over each other in order, cut at the size. */
export async function readBack(meta: MetaStore, ino: number, from: number, length: number): Promise<number[]> {
  const { sizeBytes } = await meta.getattr(ino)
  const out = new Array<number>(Math.max(0, Math.min(length, sizeBytes - from))).fill(0)
  for (let window = Math.floor(from / WINDOW_BYTES); window * WINDOW_BYTES < from + length; window++) {
    for (const extent of (await meta.extents(ino, window)).extents) lay(extent, from, out)
  }
  return out
}

function lay({ fileOffset, lengthBytes, chunk, chunkOffset }: Extent, from: number, out: number[]): void {
  const first = Math.max(fileOffset, from)
  const end = Math.min(fileOffset + lengthBytes, from + out.length)
  for (let at = first; at < end; at++) {
    out[at - from] = chunk === null ? 0 : chunk.id * CHUNK + chunkOffset + at - fileOffset
  }
}

export class FileModel {
  readonly #ino: number
  readonly #bytes = new Map<number, number>()
  #size = 0

  constructor(ino: number) {
    this.#ino = ino
  }

  async write(meta: MetaStore, offset: number, length: number): Promise<void> {
    // The caller's duty: a commit lies in one window.
    const room = WINDOW_BYTES - (offset % WINDOW_BYTES)
    const extent = extentOf(await meta.chunkId(), offset, Math.min(length, room), 3)
    await this.#commit(meta, extent)
  }

  async hole(meta: MetaStore, offset: number, length: number): Promise<void> {
    const room = WINDOW_BYTES - (offset % WINDOW_BYTES)
    await this.#commit(meta, { fileOffset: offset, lengthBytes: Math.min(length, room), chunk: null, chunkOffset: 0 })
  }

  async #commit(meta: MetaStore, extent: Extent): Promise<void> {
    await meta.commit(this.#ino, {
      extents: [extent],
      mode: 'at',
      allocatedDeltaBytes: this.#added(extent),
      mtime: TIME,
    })
    this.#lay(extent)
  }

  /** Of the whole file, or of [start, end) of it: bytes that are stored. */
  #stored(start = 0, end = Infinity): number {
    let sum = 0
    for (const [at, value] of this.#bytes) if (value !== 0 && at >= start && at < end) sum++
    return sum
  }

  /** How many bytes more are stored with it. */
  #added({ fileOffset, lengthBytes, chunk }: Extent): number {
    return (chunk === null ? 0 : lengthBytes) - this.#stored(fileOffset, fileOffset + lengthBytes)
  }

  #lay(extent: Extent): void {
    const piece = new Array<number>(extent.lengthBytes).fill(0)
    lay(extent, extent.fileOffset, piece)
    for (const [at, value] of piece.entries()) this.#bytes.set(extent.fileOffset + at, value)
    this.#size = Math.max(this.#size, extent.fileOffset + extent.lengthBytes)
  }

  async append(meta: MetaStore, length: number): Promise<void> {
    const extent = extentOf(await meta.chunkId(), 0, length)
    const request = { extents: [extent], mode: 'append', allocatedDeltaBytes: length, mtime: TIME } as const
    const reply = await meta.commit(this.#ino, request)
    const cut = WINDOW_BYTES - (this.#size % WINDOW_BYTES)
    if (cut < length) {
      if (reply.cutAfterBytes !== cut) throw new Error(`cut after ${reply.cutAfterBytes}, not ${cut}`)
      return
    }
    if (reply.baseOffset !== this.#size) throw new Error(`appended at ${reply.baseOffset}, not ${this.#size}`)
    this.#lay({ ...extent, fileOffset: this.#size })
  }

  async truncate(meta: MetaStore, size: number): Promise<void> {
    await meta.setattr(this.#ino, { sizeBytes: size })
    for (const at of [...this.#bytes.keys()]) if (at >= size) this.#bytes.delete(at)
    this.#size = size
  }

  async punch(meta: MetaStore, offset: number, length: number): Promise<void> {
    const end = Math.min(offset + length, this.#size)
    if (end <= offset) return
    const { windows } = await meta.windows(this.#ino, 0, 10)
    const stored = (window: number): number => {
      return this.#stored(Math.max(offset, window * WINDOW_BYTES), Math.min(end, (window + 1) * WINDOW_BYTES))
    }
    await meta.punch(this.#ino, {
      offset,
      lengthBytes: end - offset,
      windows: new Map(windows.map((window) => [window, 0 - stored(window)])),
      mtime: TIME,
      clearSuid: false,
      minSizeBytes: 0,
    })
    for (const at of [...this.#bytes.keys()]) if (at >= offset && at < end) this.#bytes.delete(at)
  }

  /** Puts in one extent a run of bytes of one chunk; what reads the same must read the same afterwards. */
  async compact(meta: MetaStore, window: number): Promise<void> {
    const old = await meta.extents(this.#ino, window)
    const extents = flatten(old)
    const used = new Set(extents.map((extent) => extent.chunk?.id))
    const dropped = old.extents.filter((extent) => extent.chunk !== null && !used.has(extent.chunk.id))
    await meta.compact(this.#ino, old, extents, dropped, 0)
  }

  async check(meta: MetaStore): Promise<void> {
    const attr = await meta.getattr(this.#ino)
    if (attr.sizeBytes !== this.#size) throw new Error(`size ${attr.sizeBytes}, not ${this.#size}`)
    const stored = this.#stored()
    if (attr.allocatedBytes !== stored) throw new Error(`${attr.allocatedBytes} bytes allocated, not ${stored}`)
    for (const from of [0, WINDOW_BYTES - 40]) {
      const read = await readBack(meta, this.#ino, from, 200)
      for (const [at, value] of read.entries()) {
        const wanted = this.#bytes.get(from + at) ?? 0
        if (value !== wanted) throw new Error(`byte ${from + at} is ${value}, not ${wanted}`)
      }
    }
  }
}

/** Extents that do not overlap and read as the old ones do. */
function flatten(window: ExtentWindow): Extent[] {
  const flat: Extent[] = []
  let below = [...window.extents].reverse()
  const covered = new Set<number>()
  for (const extent of below) {
    let run: Extent | undefined
    for (let at = 0; at < extent.lengthBytes; at++) {
      const place = extent.fileOffset + at
      // A byte of a hole at the end of a window would make a set of millions.
      if (extent.lengthBytes > CHUNK) return [...window.extents]
      if (covered.has(place)) {
        if (run !== undefined) flat.push(run)
        run = undefined
        continue
      }
      covered.add(place)
      run =
        run === undefined
          ? {
              ...extent,
              fileOffset: place,
              chunkOffset: extent.chunkOffset + (extent.chunk === null ? 0 : at),
              lengthBytes: 1,
            }
          : { ...run, lengthBytes: run.lengthBytes + 1 }
    }
    if (run !== undefined) flat.push(run)
  }
  below = []
  return flat
}
