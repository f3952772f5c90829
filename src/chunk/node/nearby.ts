/**
 * A node of another process on this machine whose data folder this process may read: chunks are read from their files, without
 * the node. Its bytes are as much worth as the node's answer: the reader verifies every leaf either way.
 *
 * Everything else, and what cannot be read so (a chunk that is still in the node's journal, a folder that is gone), is asked of
 * the node.
 */
import { CHUNK_MAX_BYTES } from '../../base/limits.js'
import type { ChunkNodeApi, GetRequest } from '../contract.js'
import type { ChunkFiles } from './chunk-files.js'

export function nearbyChunkNode(files: ChunkFiles, volume: string, node: ChunkNodeApi): ChunkNodeApi {
  return {
    async get(request, options) {
      if (request.volume !== volume || !isRange(request)) return await node.get(request, options)
      const { id, offset, lengthBytes, withOrigin = false, check } = request
      try {
        const { origin, ...reply } = await files.read(id, offset, lengthBytes, withOrigin, check)
        return origin === null ? reply : { ...reply, origin }
      } catch {
        return await node.get(request, options)
      }
    },
    getNow(request) {
      if (request.volume !== volume || request.withOrigin === true || !isRange(request)) return null
      return files.readNow(request.id, request.offset, request.lengthBytes)
    },
    async reportBad(of, id, options) {
      // The copy that replaces it may begin elsewhere in its file.
      files.forget(id)
      await node.reportBad(of, id, options)
    },
    put: (request, data, options) => node.put(request, data, options),
    sync: (of, ids, options) => node.sync(of, ids, options),
    async remove(of, ids, options) {
      // Not to keep room that is to be freed.
      for (const id of ids) files.forget(id)
      await node.remove(of, ids, options)
    },
    list: (request, options) => node.list(request, options),
    lacks: (request, options) => node.lacks(request, options),
    info: (options) => node.info(options),
  }
}

/** Others are refused by the node, with the right words. */
function isRange({ id, offset, lengthBytes }: GetRequest): boolean {
  const counts = [id, offset, lengthBytes].every((value) => Number.isSafeInteger(value) && value >= 0)
  return counts && lengthBytes > 0 && offset < CHUNK_MAX_BYTES
}
