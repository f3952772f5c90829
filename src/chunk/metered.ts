/** A chunk node whose calls are counted and timed, by what was asked and of whom. */
import type { Metrics, Timer } from '../base/metrics.js'
import type {
  CallOptions,
  ChunkNodeApi,
  GetReply,
  GetRequest,
  LeafPlace,
  LeavesReply,
  UnhashedPut,
  UnhashedReply,
} from './contract.js'
import { sumBytes } from './hash.js'

export function meteredChunkNode(node: ChunkNodeApi, id: string, metrics: Metrics): ChunkNodeApi {
  const puts = metrics.timer('chunk.put', id)
  const gets = metrics.timer('chunk.get', id)
  const syncs = metrics.timer('chunk.sync', id)
  let sentBytes = 0
  let receivedBytes = 0
  metrics.counter(`chunk.sent.${id}`, () => sentBytes)
  metrics.counter(`chunk.received.${id}`, () => receivedBytes)
  /** Counted where it was answered: else get follows. */
  const now = (request: GetRequest): GetReply | null => {
    const startMs = performance.now()
    const reply = node.getNow?.(request) ?? null
    if (reply === null) return null
    gets.record(performance.now() - startMs)
    receivedBytes += reply.data.length
    return reply
  }
  const leaves = async (volume: string, places: readonly LeafPlace[]): Promise<LeavesReply> => {
    const startMs = performance.now()
    const reply = (await node.getLeaves?.(volume, places)) ?? { found: [], release: () => undefined }
    gets.record(performance.now() - startMs)
    for (const leaf of reply.found) receivedBytes += leaf?.data.length ?? 0
    return reply
  }
  const putUnhashed = node.putUnhashed?.bind(node)
  const unhashed =
    putUnhashed &&
    ((request: UnhashedPut, data: readonly Uint8Array[], options: CallOptions): Promise<UnhashedReply> => {
      sentBytes += sumBytes(data)
      return timed(puts, options, () => putUnhashed(request, data, options))
    })
  return {
    ...(unhashed && { putUnhashed: unhashed }),
    ...(node.isBeside === undefined ? {} : { isBeside: true }),
    put: (request, data, options) => {
      sentBytes += sumBytes(data)
      return timed(puts, options, () => node.put(request, data, options))
    },
    get: async (request, options) => {
      const reply = await timed(gets, options, () => node.get(request, options))
      receivedBytes += reply.data.length
      return reply
    },
    ...(node.getNow === undefined ? {} : { getNow: now }),
    ...(node.getLeaves === undefined ? {} : { getLeaves: leaves }),
    sync: (volume, ids, options) => timed(syncs, options, () => node.sync(volume, ids, options)),
    remove: (volume, ids, options) => node.remove(volume, ids, options),
    reportBad: (volume, chunk, options) => node.reportBad(volume, chunk, options),
    list: (request, options) => node.list(request, options),
    lacks: (request, options) => node.lacks(request, options),
    digest: (request, options) => node.digest(request, options),
    scrub: (request, options) => node.scrub(request, options),
    info: (options) => node.info(options),
    notePut: (lengthBytes, tookMs) => {
      sentBytes += lengthBytes
      puts.record(tookMs)
    },
  }
}

/** What the caller gave up (another node was quicker, or this one too slow) is not counted here. */
async function timed<T>(timer: Timer, { signal }: CallOptions, call: () => Promise<T>): Promise<T> {
  const startMs = performance.now()
  try {
    const reply = await call()
    timer.record(performance.now() - startMs)
    return reply
  } catch (error) {
    if (signal?.aborted !== true) timer.errors++
    throw error
  }
}
