/** What the files of a metadata store in memory are made of: windows of extents, and a body before them. */
import { WINDOW_BYTES } from '../../src/base/limits.js'
import type { BodyPiece, Extent, ExtentWindow } from '../../src/meta/contract.js'
import { ExtentMap } from '../../src/vfs/extent-map.js'
import type { Inode } from './memory-state.js'

export function windowOf(inode: Inode, window: number): ExtentWindow {
  const extents = [...(inode.windows.get(window) ?? [])]
  const body = window === 0 && inode.attr.hasBody ? { body: [...inode.body] } : {}
  return { window, generation: inode.generation, dataVersion: inode.attr.dataVersion, extents, ...body }
}

export function addExtent(inode: Inode, extent: Extent): void {
  const window = Math.floor(extent.fileOffset / WINDOW_BYTES)
  const last = extent.fileOffset + extent.lengthBytes - 1
  if (Math.floor(last / WINDOW_BYTES) !== window) throw new Error('an extent lies across two windows')
  const extents = inode.windows.get(window) ?? []
  extents.push(extent)
  inode.windows.set(window, extents)
  inode.attr.hasExtents = true
}

/** Answers the chunks that it named. */
export function freeWindow(inode: Inode, window: number): readonly number[] {
  const freed = (inode.windows.get(window) ?? []).flatMap(({ chunk }) => (chunk === null ? [] : [chunk.id]))
  inode.windows.delete(window)
  inode.attr.hasExtents = inode.windows.size > 0
  inode.generation = inode.attr.dataVersion + 1
  return freed
}

/** Nothing of it lies behind `size` any more. */
export function shorten(inode: Inode, size: number): void {
  const { attr } = inode
  const gone = storedBehind(inode, size)
  for (const [window, extents] of inode.windows) {
    const kept = extents
      .filter((extent) => extent.fileOffset < size)
      .map((extent) => ({ ...extent, lengthBytes: Math.min(extent.lengthBytes, size - extent.fileOffset) }))
    if (kept.length > 0) inode.windows.set(window, kept)
    else inode.windows.delete(window)
  }
  inode.body = inode.body
    .filter((piece) => piece.fileOffset < size)
    .map((piece) => cutPiece(piece, size - piece.fileOffset))
  attr.hasBody = inode.body.length > 0
  attr.hasExtents = inode.windows.size > 0
  inode.generation = attr.dataVersion + 1
  attr.sizeBytes = size
  const most = (inode.windows.size + (attr.hasBody ? 1 : 0)) * WINDOW_BYTES
  account(attr, Math.min(-gone, most - attr.allocatedBytes))
}

function storedBehind(inode: Inode, size: number): number {
  let sum = 0
  for (const window of new Set([0, ...inode.windows.keys()])) {
    const map = new ExtentMap(inode.windows.get(window), window === 0 ? inode.body : [])
    sum += map.storedBytes(Math.max(size, window * WINDOW_BYTES), (window + 1) * WINDOW_BYTES)
  }
  return sum
}

/** Nothing is stored behind the size. */
export function account(attr: { allocatedBytes: number; readonly sizeBytes: number }, deltaBytes: number): void {
  attr.allocatedBytes = Math.max(0, Math.min(attr.sizeBytes, attr.allocatedBytes + deltaBytes))
}

function cutPiece({ fileOffset, lengthBytes, bytes }: BodyPiece, most: number): BodyPiece {
  return { fileOffset, lengthBytes: Math.min(lengthBytes, most), bytes: bytes?.subarray(0, most) ?? null }
}
