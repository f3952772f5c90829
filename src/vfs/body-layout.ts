/** The body of a file as a chunk. Pure. */
import type { ChunkOriginExtent } from '../chunk/contract.js'
import type { BodyPiece, Extent } from '../meta/contract.js'
import { ExtentMap } from './extent-map.js'

export interface BodyLayout {
  readonly data: readonly Buffer[]
  readonly extents: readonly ChunkOriginExtent[]
}

/**
 * What is seen of the body, under the extents that lie above it. What they hide is left out: the chunk is younger than they are, and in the order of
 * writing, by which lost metadata are rebuilt, it would hide them.
 */
export function layOut(body: readonly BodyPiece[], above: readonly Extent[]): BodyLayout {
  const map = new ExtentMap(above, body)
  const data: Buffer[] = []
  const extents: { fileOffset: number; chunkOffset: number; lengthBytes: number }[] = []
  let chunkOffset = 0
  for (const { start, end, bytes, chunkOffset: at } of map.slice(0, map.end)) {
    if (bytes === null) continue
    data.push(bytes.subarray(at, at + end - start))
    const last = extents.at(-1)
    if (last !== undefined && last.fileOffset + last.lengthBytes === start) last.lengthBytes += end - start
    else extents.push({ fileOffset: start, chunkOffset, lengthBytes: end - start })
    chunkOffset += end - start
  }
  return { data, extents }
}
