/** A chunk node on the other end of a channel. Nothing is retried here: where to go instead is the caller's knowledge. */
import { RingfsError } from '../base/errors.js'
import type { RpcConnection } from '../rpc/client.js'
import { join, type PayloadMemory } from '../rpc/frame.js'
import type { RpcChannel } from '../rpc/channel.js'
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
} from '../rpc/messages-chunk.js'
import type { CallOptions, ChunkNodeApi } from './contract.js'

/** Far below FRAME_HEADER_MAX_BYTES: an id takes at most 8 bytes. */
const IDS_PER_CALL = 8192

export interface RemoteChunkNode extends ChunkNodeApi {
  /** Round trip in milliseconds. */
  ping(options: CallOptions): Promise<number>
}

/**
 * `memory`: where what is read lands.
 * Errors of every method: what the node answers, and of the connection NODE_UNREACHABLE, KEY_REQUIRED, CONNECTION_LOST,
 * DEADLINE, CANCELLED, OVERLOADED.
 */
export function remoteChunkNode(channel: RpcChannel, memory: PayloadMemory): RemoteChunkNode {
  return {
    async put(request, data, options) {
      return (await channel.call(CHUNK_PUT, request, data, options)).reply
    },
    async get(request, options) {
      const { reply, payload, release } = await channel.call(CHUNK_GET, request, [], { ...options, memory })
      return { ...reply, data: join(payload), release }
    },
    async sync(volume, ids, options) {
      const replies = batches(ids).map((part) => channel.call(CHUNK_SYNC, { volume, ids: part }, [], options))
      return { missing: (await Promise.all(replies)).flatMap(({ reply }) => reply.missing) }
    },
    async remove(volume, ids, options) {
      await Promise.all(batches(ids).map((part) => channel.call(CHUNK_REMOVE, { volume, ids: part }, [], options)))
    },
    async reportBad(volume, id, options) {
      await channel.call(CHUNK_REPORT_BAD, { volume, id }, [], options)
    },
    async list(request, options) {
      return (await channel.call(CHUNK_LIST, request, [], options)).reply
    },
    async lacks({ volume, ids, verify }, options) {
      const parts = batches(ids).map((part) => channel.call(CHUNK_LACKS, { volume, ids: part, verify }, [], options))
      return (await Promise.all(parts)).flatMap(({ reply }) => reply.missing)
    },
    async digest(request, options) {
      return (await channel.call(CHUNK_DIGEST, request, [], options)).reply.digests
    },
    async scrub(request, options) {
      return (await channel.call(CHUNK_SCRUB, request, [], options)).reply
    },
    async info(options) {
      return (await channel.call(CHUNK_INFO, {}, [], options)).reply
    },
    async ping(options) {
      return (await channel.ping(options)).ms
    },
  }
}

/**
 * To greet a connection with: only this node is to be at its other end. Else what another one has counts as a copy of this one's, where two nodes
 * are told to be at one address (a wrong one is advertised, or it was given to another machine).
 * Errors of it: NODE_UNREACHABLE, and those of the connection.
 */
export function isNode(id: string, address: string): (connection: RpcConnection, timeoutMs: number) => Promise<void> {
  return async (connection, timeoutMs) => {
    const { header } = await connection.call(CHUNK_INFO.number, CHUNK_INFO.request.encode({}), [], {
      deadlineMs: timeoutMs,
    })
    const { id: answered } = CHUNK_INFO.reply.decode(header)
    if (answered === id) return
    throw new RingfsError('NODE_UNREACHABLE', `at ${address} answers node ${answered}: a wrong advertised address`)
  }
}

function batches(ids: readonly number[]): number[][] {
  const parts: number[][] = []
  for (let at = 0; at < ids.length; at += IDS_PER_CALL) parts.push(ids.slice(at, at + IDS_PER_CALL))
  return parts
}
