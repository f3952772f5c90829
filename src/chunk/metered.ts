/** A chunk node whose calls are counted and timed, by what was asked and of whom. */
import type { Metrics, Timer } from '../base/metrics.js'
import type { CallOptions, ChunkNodeApi } from './contract.js'

export function meteredChunkNode(node: ChunkNodeApi, id: string, metrics: Metrics): ChunkNodeApi {
  const puts = metrics.timer('chunk.put', id)
  const gets = metrics.timer('chunk.get', id)
  const syncs = metrics.timer('chunk.sync', id)
  let sentBytes = 0
  let receivedBytes = 0
  metrics.counter(`chunk.sent.${id}`, () => sentBytes)
  metrics.counter(`chunk.received.${id}`, () => receivedBytes)
  return {
    put: (request, data, options) => {
      for (const piece of data) sentBytes += piece.length
      return timed(puts, options, () => node.put(request, data, options))
    },
    get: async (request, options) => {
      const reply = await timed(gets, options, () => node.get(request, options))
      receivedBytes += reply.data.length
      return reply
    },
    sync: (volume, ids, options) => timed(syncs, options, () => node.sync(volume, ids, options)),
    remove: (volume, ids, options) => node.remove(volume, ids, options),
    reportBad: (volume, chunk, options) => node.reportBad(volume, chunk, options),
    info: (options) => node.info(options),
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
