/**
 * How a file is made of what was laid out: pure.
 *
 * Invariant: what is seen of a chunk is named in one commit, if that is possible at all: a chunk that is named is not looked at again, whatever of it
 * was still to be named when a run was interrupted.
 */
import { ORIGIN_EXTENTS_MAX } from '../../chunk/contract.js'
import type { Extent } from '../../meta/contract.js'
import type { FileLayout } from './layout.js'

/** So many make a commit, unless a chunk has more. */
const COMMIT_EXTENTS = 512

export interface LaidCommit {
  /** All of one window. */
  readonly extents: readonly Extent[]
  readonly allocatedDeltaBytes: number
}

/** One after the other. `withHidden`: what is seen then covers all chunks of which nothing is. */
export function commitsOf({ windows }: FileLayout, withHidden: boolean): readonly LaidCommit[] {
  return windows.flatMap(({ hidden, seen }) => {
    const below = withHidden ? batches(hidden.map((extent) => [extent])) : []
    return [
      ...below.map((extents) => ({ extents, allocatedDeltaBytes: 0 })),
      ...batches(byChunk(seen)).map((extents) => ({ extents, allocatedDeltaBytes: sumOf(extents) })),
    ]
  })
}

function byChunk(extents: readonly Extent[]): readonly (readonly Extent[])[] {
  const groups = new Map<number, Extent[]>()
  for (const extent of extents) {
    const id = extent.chunk?.id ?? 0
    const group = groups.get(id)
    if (group === undefined) groups.set(id, [extent])
    else group.push(extent)
  }
  return [...groups.values()]
}

function batches(groups: readonly (readonly Extent[])[]): readonly (readonly Extent[])[] {
  const all: Extent[][] = []
  for (const group of groups) {
    const last = all.at(-1)
    if (last !== undefined && last.length + group.length <= COMMIT_EXTENTS) last.push(...group)
    else
      for (let at = 0; at < group.length; at += ORIGIN_EXTENTS_MAX) all.push(group.slice(at, at + ORIGIN_EXTENTS_MAX))
  }
  return all
}

function sumOf(extents: readonly Extent[]): number {
  return extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
}
