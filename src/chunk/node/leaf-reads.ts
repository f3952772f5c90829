/** Leaves of several chunk files in one job of a worker: what a file that was written over in small pieces is read of. */
import { closeSync, openSync } from 'node:fs'
import { HASH_BYTES, LEAF_BYTES } from '../../base/limits.js'
import type { LeafPlace, LeavesReply } from '../contract.js'
import { leafHashes } from '../hash.js'
import { compact } from '../jobs.js'
import { readChecked, readInto } from './chunk-file.js'
import type { ChunkLayout, LeavesResult, LeavesTask } from './tasks.js'

/** All are to be read one by one. */
export function noLeaves(places: readonly LeafPlace[]): LeavesReply {
  return { found: places.map(() => null), release: () => undefined }
}

/** `layouts`: null where it is not known. `into`: LEAF_BYTES for each. */
export function leavesTask(
  volume: string,
  places: readonly LeafPlace[],
  files: readonly string[],
  layouts: readonly (ChunkLayout | null)[],
  into: Uint8Array,
): LeavesTask {
  const hashes = new Uint8Array(places.length * HASH_BYTES)
  const positions = places.map(() => 0)
  const lengths = places.map(() => 0)
  for (const [at, { leaf }] of places.entries()) {
    const layout = layouts[at] ?? null
    if (layout === null) continue
    hashes.set(layout.leaves.subarray(leaf * HASH_BYTES, (leaf + 1) * HASH_BYTES), at * HASH_BYTES)
    positions[at] = layout.dataOffset + leaf * LEAF_BYTES
    lengths[at] = Math.min(LEAF_BYTES, layout.lengthBytes - leaf * LEAF_BYTES)
  }
  const ids = places.map(({ id }) => id)
  return { volume, files, ids, leaves: places.map(({ leaf }) => leaf), positions, lengths, hashes, into }
}

/** In a worker. */
export function readLeafOfEach(task: LeavesTask): LeavesResult {
  const layouts = new Map<number, ChunkLayout>()
  const lengths = task.files.map((file, at) => {
    const into = task.into.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES)
    const lengthBytes = task.lengths[at] ?? 0
    try {
      if (lengthBytes === 0) return readUnknown(task, file, at, into, layouts)
      return isRead(task, file, at, into.subarray(0, lengthBytes)) ? lengthBytes : 0
    } catch {
      return 0
    }
  })
  return { lengths, layouts }
}

function isRead({ positions, hashes }: LeavesTask, file: string, at: number, into: Uint8Array): boolean {
  const fd = openSync(file, 'r')
  try {
    if (readInto(fd, positions[at] ?? 0, into) < into.length) return false
  } finally {
    closeSync(fd)
  }
  return leafHashes([into]).equals(hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES))
}

/** With the layout, from the start of the file. */
function readUnknown(
  { volume, ids, leaves }: LeavesTask,
  file: string,
  at: number,
  into: Uint8Array,
  layouts: Map<number, ChunkLayout>,
): number {
  const [id = 0, leaf = 0] = [ids[at], leaves[at]]
  const range = { file, volume, id, offset: leaf * LEAF_BYTES, lengthBytes: LEAF_BYTES, into }
  const { layout, dataBytes } = readChecked({ ...range, known: null, withOrigin: false, direct: false, check: true })
  // A structured clone carries all that lies behind a view.
  if (layout !== null) layouts.set(at, { ...layout, leaves: compact(layout.leaves) })
  return dataBytes
}
