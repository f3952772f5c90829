/**
 * copy_file_range(2): the target's extents name the chunks of the source (src/meta/clone.ts says what keeps them alive).
 *
 * Both files are held for the time: what this process wrote to them before is committed first, what it writes later waits.
 * Another client's change of either makes the clone fail; it is tried again a few times, then the caller copies the bytes.
 */
import { PosixError } from '../base/errno.js'
import { FILE_MAX_BYTES, GIB, WINDOW_BYTES } from '../base/limits.js'
import type { Attr, ClonedExtent, Extent } from '../meta/contract.js'
import type { VfsContext } from './context.js'
import { ExtentMap, allocatedDelta } from './extent-map.js'
import type { FileHandle } from './handles.js'
import type { InodeState } from './inode-state.js'
import { checkRange } from './names.js'

/** In one call: as many windows are looked at, and as many extents committed by one script. */
const MOST_BYTES = GIB
const EXTENTS_MAX = 4096
const TRIES = 4
const WAIT_MS = 10

interface Job {
  readonly source: number
  readonly from: number
  readonly target: number
  readonly to: number
  readonly lengthBytes: number
  readonly clearSuid: boolean
}

/** A file at one version. */
interface Snapshot {
  readonly version: number
  readonly hasBody: boolean
  readonly maps: ReadonlyMap<number, ExtentMap>
}

export class Copier {
  readonly #context: VfsContext

  constructor(context: VfsContext) {
    this.#context = context
  }

  async copy(source: number, from: number, target: number, to: number, lengthBytes: number): Promise<number> {
    const { handles, limits } = this.#context
    const [input, output] = [handles.file(source), handles.file(target)]
    check(input, output, from, to, lengthBytes)
    if (lengthBytes === 0) return 0
    const job = {
      source: input.state.ino,
      from,
      target: output.state.ino,
      to,
      lengthBytes: Math.min(lengthBytes, MOST_BYTES, FILE_MAX_BYTES - to),
      clearSuid: output.clearSuid,
    }
    if (job.lengthBytes < limits.cloneBytes) throw new PosixError('EOPNOTSUPP', 'too little to be worth a clone')
    return await hold(input.state, output.state, async () => {
      await input.state.writer.flush()
      return await output.state.writer.barrier(() => this.#tries(job))
    })
  }

  async #tries(job: Job): Promise<number> {
    for (let attempt = 0; attempt < TRIES; attempt++) {
      if (attempt > 0) await this.#context.clock.sleep(WAIT_MS * 2 ** attempt)
      const copied = await this.#attempt(job)
      if (copied !== null) return copied
    }
    throw new PosixError('EOPNOTSUPP', 'the files are being changed')
  }

  /** null: somebody changed one of the files. */
  async #attempt(job: Job): Promise<number | null> {
    const { meta, limits } = this.#context
    const attr = await meta.getattr(job.source)
    const length = Math.min(job.lengthBytes, attr.sizeBytes - job.from)
    if (length <= 0) return 0
    if (length < limits.cloneBytes) throw new PosixError('EOPNOTSUPP', 'too little to be worth a clone')
    const [source, target] = await Promise.all([
      this.#snapshot(job.source, job.from, job.from + length),
      this.#snapshot(job.target, job.to, job.to + length),
    ])
    if (source === null || target === null || source.version !== attr.dataVersion) return null
    // Extents are what can be cloned, and what a hole can hide.
    if (source.hasBody || target.hasBody) {
      if (source.hasBody) await this.#context.spiller.spill(job.source)
      if (target.hasBody && job.target !== job.source) await this.#context.spiller.spill(job.target)
      return null
    }
    const { extents, lengthBytes } = cloned(source, target, { ...job, lengthBytes: length })
    return (await this.#clone(job, source, target, extents, lengthBytes)) ? lengthBytes : null
  }

  async #clone(
    job: Job,
    source: Snapshot,
    target: Snapshot,
    extents: readonly ClonedExtent[],
    lengthBytes: number,
  ): Promise<boolean> {
    const { meta, clock, extents: cache, fresh, attrs, uploader } = this.#context
    const mutation = fresh.begin(job.target)
    let attr: Attr | null = null
    try {
      attr = await meta.clone(job.target, {
        source: job.source,
        sourceVersion: source.version,
        version: target.version,
        extents,
        allocatedDeltaBytes: addedBytes(target, extents),
        mtime: clock.now(),
        clearSuid: job.clearSuid,
        minSizeBytes: job.to + lengthBytes,
      })
    } finally {
      attrs.settle(mutation, attr)
      cache.drop(job.target)
    }
    if (attr === null) return false
    cache.atVersion(attr, fresh.mark())
    // Whether the chunks are on disk is not known here, and an fsync of the target must see to it.
    for (const { extent } of extents) if (extent.chunk !== null) uploader.unsynced.add(job.target, extent.chunk.id)
    return true
  }

  /** null: it changed while it was read. */
  async #snapshot(ino: number, start: number, end: number): Promise<Snapshot | null> {
    const { meta } = this.#context
    const first = Math.floor(start / WINDOW_BYTES)
    const count = Math.ceil(end / WINDOW_BYTES) - first
    const windows = await Promise.all(Array.from({ length: count }, (_, i) => meta.extents(ino, first + i)))
    const version = windows[0]?.dataVersion ?? 0
    if (windows.some(({ dataVersion }) => dataVersion !== version)) return null
    const hasBody = windows.some(({ body }) => body !== undefined)
    return { version, hasBody, maps: new Map(windows.map(({ window, extents }) => [window, new ExtentMap(extents)])) }
  }
}

function check(input: FileHandle, output: FileHandle, from: number, to: number, lengthBytes: number): void {
  if (!input.readable || !output.writable) throw new PosixError('EBADF', 'not open for this')
  if (output.append) throw new PosixError('EBADF', 'the target is open for appending')
  checkRange(from, lengthBytes)
  checkRange(to, lengthBytes)
  if (to === FILE_MAX_BYTES) throw new PosixError('EFBIG', `beyond ${FILE_MAX_BYTES} bytes`)
  if (input.state === output.state && from < to + lengthBytes && to < from + lengthBytes) {
    throw new PosixError('EINVAL', 'the ranges overlap')
  }
}

/** Both files, in an order that all agree on. */
function hold<T>(one: InodeState, other: InodeState, work: () => Promise<T>): Promise<T> {
  if (one === other) return one.exclusive(work)
  const [first, second] = one.ino < other.ino ? [one, other] : [other, one]
  return first.exclusive(() => second.exclusive(work))
}

/** Extents of the target that read as the source does, and for how many bytes: fewer if they would be too many. */
function cloned(
  source: Snapshot,
  target: Snapshot,
  job: Job,
): { readonly extents: readonly ClonedExtent[]; readonly lengthBytes: number } {
  const extents: ClonedExtent[] = []
  const end = job.from + job.lengthBytes
  for (let at = job.from; at < end;) {
    const to = job.to + at - job.from
    const sourceWindow = Math.floor(at / WINDOW_BYTES)
    const targetWindow = Math.floor(to / WINDOW_BYTES)
    const step = Math.min(end - at, roomIn(at), roomIn(to))
    const below = target.maps.get(targetWindow) ?? new ExtentMap()
    for (const piece of (source.maps.get(sourceWindow) ?? new ExtentMap()).slice(at, at + step)) {
      if (extents.length === EXTENTS_MAX) return { extents, lengthBytes: piece.start - job.from }
      const { chunk, chunkOffset } = piece
      const extent: Extent = {
        fileOffset: job.to + piece.start - job.from,
        lengthBytes: piece.end - piece.start,
        chunk,
        chunkOffset,
      }
      // A hole is only needed where it hides something.
      if (chunk !== null || below.storedBytes(extent.fileOffset, extent.fileOffset + extent.lengthBytes) > 0) {
        extents.push({ extent, sourceWindow })
      }
    }
    at += step
  }
  return { extents, lengthBytes: job.lengthBytes }
}

/** Bytes up to the end of the window. */
function roomIn(offset: number): number {
  return WINDOW_BYTES - (offset % WINDOW_BYTES)
}

function addedBytes(target: Snapshot, extents: readonly ClonedExtent[]): number {
  let sum = 0
  for (const [window, map] of target.maps) {
    const own = extents
      .map(({ extent }) => extent)
      .filter(({ fileOffset }) => Math.floor(fileOffset / WINDOW_BYTES) === window)
    sum += allocatedDelta(map, own)
  }
  return sum
}
