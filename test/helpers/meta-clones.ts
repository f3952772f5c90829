/** Clones of ranges by the metadata alone, as the VFS makes them, and what the janitor finds. */
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { Attr, ClonedExtent, MetaStore } from '../../src/meta/contract.js'
import { ExtentMap } from '../../src/vfs/extent-map.js'

const MTIME = { sec: 1_700_000_001, nsec: 0 }

export interface CloneOptions {
  /** Between reading the files and the clone. */
  readonly before?: () => Promise<unknown>
}

/** One attempt. null: a file was changed meanwhile. */
export async function cloneRange(
  meta: MetaStore,
  source: number,
  from: number,
  target: number,
  to: number,
  lengthBytes: number,
  { before }: CloneOptions = {},
): Promise<Attr | null> {
  const version = (await meta.getattr(target)).dataVersion
  const sourceVersion = (await meta.getattr(source)).dataVersion
  const extents: ClonedExtent[] = []
  for (let at = from; at < from + lengthBytes;) {
    const window = Math.floor(at / WINDOW_BYTES)
    const place = to + at - from
    const room = Math.min(WINDOW_BYTES - (at % WINDOW_BYTES), WINDOW_BYTES - (place % WINDOW_BYTES))
    const end = Math.min(at + room, from + lengthBytes)
    const read = await meta.extents(source, window)
    if (read.dataVersion !== sourceVersion) return null
    for (const { start, end: stop, chunk, chunkOffset } of new ExtentMap(read.extents).slice(at, end)) {
      const extent = { fileOffset: to + start - from, lengthBytes: stop - start, chunk, chunkOffset }
      extents.push({ extent, sourceWindow: window })
    }
    at = end
  }
  await before?.()
  const minSizeBytes = to + lengthBytes
  const base = { source, sourceVersion, version, extents, minSizeBytes }
  return meta.clone(target, { ...base, allocatedDeltaBytes: lengthBytes, mtime: MTIME, clearSuid: true })
}

/** Ids of the chunks that a file names, ascending. */
export async function namedChunks(meta: MetaStore, ino: number): Promise<number[]> {
  const ids = new Set<number>()
  for (const window of (await meta.windows(ino, 0, 10_000)).windows) {
    for (const { chunk } of (await meta.extents(ino, window)).extents) if (chunk !== null) ids.add(chunk.id)
  }
  return [...ids].sort((a, b) => a - b)
}

/** What the janitor deletes now, each once. Several rounds: keys of deleted files become claims first. */
export async function collected(meta: MetaStore): Promise<number[]> {
  const ids: number[] = []
  for (let round = 0; round < 3; round++) {
    await meta.collectGarbage((some) => {
      ids.push(...some)
      return Promise.resolve()
    }, 0)
  }
  return [...new Set(ids)].sort((a, b) => a - b)
}
