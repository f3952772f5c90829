/**
 * A node of another process on this machine whose data folder this process may read: chunks are read from their files, without
 * the node. Its bytes are as much worth as the node's answer: the reader verifies every leaf either way. Small chunks that must be
 * on disk are written there without it, too, if this process is the one that may (nearby-journal.ts).
 *
 * Everything else, and what cannot be read so (a chunk that is still in the node's journal, a folder that is gone), is asked of
 * the node.
 */
import { CHUNK_MAX_BYTES } from '../../base/limits.js'
import type { ChunkNodeApi, GetRequest } from '../contract.js'
import type { ChunkFiles } from './chunk-files.js'
import { rangeOf, storedRangeOf } from './kept.js'
import type { NearbyJournal } from './nearby-journal.js'

export interface Nearby {
  /** The node's. */
  readonly id: string
  /** Volume uuid. */
  readonly volume: string
  readonly files: ChunkFiles
  readonly journal?: NearbyJournal
}

export function nearbyChunkNode({ id: nodeId, volume, files, journal }: Nearby, node: ChunkNodeApi): ChunkNodeApi {
  return {
    async get(request, options) {
      if (request.volume !== volume || !isRange(request)) return await node.get(request, options)
      const { id, offset, lengthBytes, withOrigin = false, check } = request
      const kept = journal?.get(id)
      try {
        const range =
          kept === undefined
            ? await files.read(id, offset, lengthBytes, withOrigin, check)
            : storedRangeOf(kept, offset, lengthBytes, withOrigin)
        const { origin, ...reply } = range
        return origin === null ? reply : { ...reply, origin }
      } catch {
        return await node.get(request, options)
      }
    },
    getNow(request) {
      if (request.volume !== volume || request.withOrigin === true || !isRange(request)) return null
      const { id, offset, lengthBytes } = request
      const kept = journal?.get(id)
      return kept === undefined ? files.readNow(id, offset, lengthBytes) : rangeOf(kept, offset, lengthBytes)
    },
    async reportBad(of, id, options) {
      // The copy that replaces it may begin elsewhere in its file.
      files.forget(id)
      await node.reportBad(of, id, options)
    },
    async put(request, data, options) {
      const isHere = request.volume === volume && (await journal?.put(request, data)) === true
      return isHere ? { stored: [nodeId], queued: [], missing: [] } : await node.put(request, data, options)
    },
    sync: (of, ids, options) => node.sync(of, ids, options),
    async remove(of, ids, options) {
      // Not to keep room that is to be freed.
      for (const id of ids) files.forget(id)
      if (of === volume) await journal?.remove(ids)
      await node.remove(of, ids, options)
    },
    list: (request, options) => node.list(request, options),
    lacks: (request, options) => node.lacks(request, options),
    scrub: (request, options) => node.scrub(request, options),
    info: (options) => node.info(options),
  }
}

/** Others are refused by the node, with the right words. */
function isRange({ id, offset, lengthBytes }: GetRequest): boolean {
  const counts = [id, offset, lengthBytes].every((value) => Number.isSafeInteger(value) && value >= 0)
  return counts && lengthBytes > 0 && offset < CHUNK_MAX_BYTES
}
