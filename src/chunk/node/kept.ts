/** A chunk that is in a journal and has no file yet, read from memory. */
import { asBuffer } from '../jobs.js'
import { decodePrefix } from '../format.js'
import { leafSpan } from './chunk-file.js'
import type { PlainRange, StoredRange } from './chunk-files.js'
import type { JournalChunk } from './journal.js'

export function rangeOf({ layout, file }: JournalChunk, offset: number, lengthBytes: number): PlainRange {
  const { firstLeaf, from, to } = leafSpan(offset, lengthBytes, layout.lengthBytes)
  return {
    chunkLengthBytes: layout.lengthBytes,
    leaves: asBuffer(layout.leaves),
    firstLeaf,
    data: file.subarray(layout.dataOffset + from, layout.dataOffset + to),
    release: () => undefined,
  }
}

export function storedRangeOf(
  kept: JournalChunk,
  offset: number,
  lengthBytes: number,
  withOrigin: boolean,
): StoredRange {
  const origin = withOrigin ? decodePrefix(kept.file).header.origin : null
  return { ...rangeOf(kept, offset, lengthBytes), origin }
}

/** `file`: all that will be in its file. */
export function keptOf(file: Buffer): JournalChunk {
  const { header, leaves, dataOffset } = decodePrefix(file)
  const layout = { lengthBytes: file.length - dataOffset, dataOffset, leaves }
  return { id: header.id, root: Buffer.from(header.root), layout, file }
}
