/** Offers a chunk node to the connections of an RPC server. */
import { CHUNK_MAX_BYTES, LEAF_BYTES } from '../../base/limits.js'
import {
  CHUNK_DIGEST,
  CHUNK_GET,
  CHUNK_INFO,
  CHUNK_LACKS,
  CHUNK_LIST,
  CHUNK_PUT,
  CHUNK_REMOVE,
  CHUNK_REPORT_BAD,
  CHUNK_SCRUB,
  CHUNK_SYNC,
} from '../../rpc/messages-chunk.js'
import type { CallContext, RpcServer } from '../../rpc/server.js'
import type { CallOptions, ChunkNodeApi } from '../contract.js'

/** For a caller that gave no deadline: nothing may wait for ever. */
const DEADLINE_DEFAULT_MS = 60_000

export function serveChunkNode(api: ChunkNodeApi, server: RpcServer): void {
  server.handle(CHUNK_PUT, async (request, payload, context) => ({
    reply: await api.put(request, payload, optionsOf(context)),
  }))
  server.handle(CHUNK_GET, async (request, _payload, context) => {
    await context.reserve(replyBytes(request.offset, request.lengthBytes))
    const { data, release, ...reply } = await api.get(request, optionsOf(context))
    return { reply, payload: [data], onSent: release }
  })
  server.handle(CHUNK_SYNC, async ({ volume, ids }, _payload, context) => ({
    reply: await api.sync(volume, ids, optionsOf(context)),
  }))
  server.handle(CHUNK_REMOVE, async ({ volume, ids }, _payload, context) => {
    await api.remove(volume, ids, optionsOf(context))
    return { reply: {} }
  })
  server.handle(CHUNK_REPORT_BAD, async ({ volume, id }, _payload, context) => {
    await api.reportBad(volume, id, optionsOf(context))
    return { reply: {} }
  })
  server.handle(CHUNK_LIST, async (request, _payload, context) => ({
    reply: await api.list(request, optionsOf(context)),
  }))
  server.handle(CHUNK_LACKS, async (request, _payload, context) => ({
    reply: { missing: await api.lacks(request, optionsOf(context)) },
  }))
  server.handle(CHUNK_DIGEST, async (request, _payload, context) => ({
    reply: { digests: await api.digest(request, optionsOf(context)) },
  }))
  server.handle(CHUNK_SCRUB, async (request, _payload, context) => ({
    reply: await api.scrub(request, optionsOf(context)),
  }))
  server.handle(CHUNK_INFO, async (_request, _payload, context) => ({ reply: await api.info(optionsOf(context)) }))
}

/** Whole leaves are read, so that much is reserved. */
function replyBytes(offset: number, lengthBytes: number): number {
  const end = Math.ceil((offset + lengthBytes) / LEAF_BYTES) * LEAF_BYTES
  return Math.min(CHUNK_MAX_BYTES, end - Math.floor(offset / LEAF_BYTES) * LEAF_BYTES)
}

/** Most calls never ask for the signal, which is made only then. */
function optionsOf(context: CallContext): CallOptions {
  return {
    deadlineMs: context.deadlineMs === 0 ? DEADLINE_DEFAULT_MS : context.deadlineMs,
    get signal() {
      return context.signal
    },
  }
}
