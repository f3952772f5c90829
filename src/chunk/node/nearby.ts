/**
 * A node of another process on this machine whose data folder this process may read: chunks are read from their files, without
 * the node. Its bytes are as much worth as the node's answer: the reader verifies every leaf either way. Small chunks that must be
 * on disk are written there without it, too, if this process is the one that may (nearby-journal.ts); of long ones the bytes
 * (nearby-writer.ts).
 *
 * Everything else, and what cannot be read so (a chunk that is still in the node's journal, a folder that is gone), is asked of
 * the node.
 */
import { codeOf } from '../../base/errors.js'
import { CHUNK_MAX_BYTES } from '../../base/limits.js'
import type { ChunkNodeApi, GetRequest, PutReply, PutRequest } from '../contract.js'
import type { ChunkFiles, PlainRange, StoredRange } from './chunk-files.js'
import { rankDisks, type Candidate } from './disk-choice.js'
import type { JournalChunk } from './journal.js'
import { rangeOf, storedRangeOf } from './kept.js'
import { noLeaves } from './leaf-reads.js'
import type { NearbyJournal } from './nearby-journal.js'
import type { NearbyWriter } from './nearby-writer.js'

/** One of the node's disks. */
export interface NearbyDisk extends Candidate {
  readonly files: ChunkFiles
  readonly journal?: NearbyJournal
  /** Only where the node has no other disk. */
  readonly writer?: NearbyWriter
}

export interface Nearby {
  /** The node's. */
  readonly id: string
  /** Volume uuid. */
  readonly volume: string
  readonly disks: readonly NearbyDisk[]
}

export function nearbyChunkNode({ id: nodeId, volume, disks }: Nearby, node: ChunkNodeApi): ChunkNodeApi {
  const stored: PutReply = { stored: [nodeId], queued: [], missing: [] }
  const forget = (id: number): void => {
    for (const { files } of disks) files.forget(id)
  }
  return {
    ...(disks.some(({ writer }) => writer !== undefined) ? { isBeside: true } : {}),
    async get(request, options) {
      if (request.volume !== volume || !isRange(request)) return await node.get(request, options)
      const range = await rangeIn(disks, request)
      if (range === null) return await node.get(request, options)
      const { origin, ...reply } = range
      return origin === null ? reply : { ...reply, origin }
    },
    getNow(request) {
      if (request.volume !== volume || request.withOrigin === true || !isRange(request)) return null
      return rangeNowIn(disks, request)
    },
    async getLeaves(of, places) {
      const [disk, other] = disks
      if (of !== volume || disk === undefined || other !== undefined) return noLeaves(places)
      return await disk.files.readLeaves(places, (id) => disk.journal?.get(id) === undefined)
    },
    async reportBad(of, id, options) {
      // The copy that replaces it may begin elsewhere in its file.
      forget(id)
      await node.reportBad(of, id, options)
    },
    async put(request, data, options) {
      const disk = request.volume === volume ? rankDisks(request.id, disks)[0] : undefined
      if (await isPutIn(disk, request, data)) {
        const epoch = disk?.journal?.epoch() ?? 0
        return epoch === 0 ? stored : { ...stored, epoch }
      }
      const reply = await disk?.writer?.put(node, request, data, options)
      return reply ?? (await node.put(request, data, options))
    },
    sync: (of, ids, options) => node.sync(of, ids, options),
    async remove(of, ids, options) {
      // Not to keep room that is to be freed.
      for (const id of ids) forget(id)
      if (of === volume) await Promise.all(disks.map(async ({ journal }) => await journal?.remove(ids)))
      await node.remove(of, ids, options)
    },
    list: (request, options) => node.list(request, options),
    lacks: (request, options) => node.lacks(request, options),
    digest: (request, options) => node.digest(request, options),
    scrub: (request, options) => node.scrub(request, options),
    info: (options) => node.info(options),
  }
}

function keptIn(disks: readonly NearbyDisk[], id: number): JournalChunk | undefined {
  for (const { journal } of disks) {
    const kept = journal?.get(id)
    if (kept !== undefined) return kept
  }
  return undefined
}

/** null: it cannot be read so. */
async function rangeIn(disks: readonly NearbyDisk[], request: GetRequest): Promise<StoredRange | null> {
  const { id, offset, lengthBytes, withOrigin = false, check } = request
  const kept = keptIn(disks, id)
  if (kept !== undefined) return storedRangeOf(kept, offset, lengthBytes, withOrigin)
  for (const { files } of rankDisks(id, disks)) {
    try {
      return await files.read(id, offset, lengthBytes, withOrigin, check)
    } catch {
      // On another disk, or the node says what is wrong.
    }
  }
  return null
}

function rangeNowIn(disks: readonly NearbyDisk[], { id, offset, lengthBytes }: GetRequest): PlainRange | null {
  const kept = keptIn(disks, id)
  if (kept !== undefined) return rangeOf(kept, offset, lengthBytes)
  for (const { files } of rankDisks(id, disks)) {
    const range = files.readNow(id, offset, lengthBytes)
    if (range !== null) return range
  }
  return null
}

/** A disk that is full, or does not work, is the node's to deal with: it may have others. Errors: CHUNK_CONFLICT. */
async function isPutIn(
  disk: NearbyDisk | undefined,
  request: PutRequest,
  data: readonly Uint8Array[],
): Promise<boolean> {
  try {
    return (await disk?.journal?.put(request, data)) === true
  } catch (error) {
    if (codeOf(error) === 'CHUNK_CONFLICT') throw error
    return false
  }
}

/** Others are refused by the node, with the right words. */
function isRange({ id, offset, lengthBytes }: GetRequest): boolean {
  const counts = [id, offset, lengthBytes].every((value) => Number.isSafeInteger(value) && value >= 0)
  return counts && lengthBytes > 0 && offset < CHUNK_MAX_BYTES
}
