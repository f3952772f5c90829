/** Calls of nodes are counted by node; what they answer is not touched. */
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { Metrics } from '../../../src/base/metrics.js'
import type { ChunkNodeApi, GetReply, PutRequest } from '../../../src/chunk/contract.js'
import { meteredChunkNode } from '../../../src/chunk/metered.js'

const LATER = { deadlineMs: 1000 }
const REPLY: GetReply = {
  ...{ chunkLengthBytes: 5, leaves: Buffer.alloc(32), firstLeaf: 0, data: Buffer.from('hello') },
  release: () => undefined,
}

function nodeThat(calls: Partial<ChunkNodeApi>): ChunkNodeApi {
  const refused = (): Promise<never> => Promise.reject(new RingfsError('CHUNK_MISSING', 'not here'))
  return {
    put: refused,
    get: refused,
    sync: refused,
    remove: refused,
    reportBad: refused,
    list: refused,
    lacks: refused,
    digest: refused,
    scrub: refused,
    info: refused,
    ...calls,
  }
}

const get = { volume: 'v', id: 1, offset: 0, lengthBytes: 5 }
const put: PutRequest = {
  ...{
    volume: 'v',
    id: 1,
    root: Buffer.alloc(32),
    leaves: Buffer.alloc(32),
    origin: { ino: 1, order: 1, extents: [] },
  },
  ...{ sync: false, forward: [], copies: 1, absent: [] },
}

t.test('calls and bytes are counted by node, and the reply is the node’s own', async (t) => {
  const metrics = new Metrics()
  const stored = { stored: ['a'], queued: [], missing: [] }
  const node = meteredChunkNode(
    nodeThat({ get: () => Promise.resolve(REPLY), put: () => Promise.resolve(stored) }),
    'a',
    metrics,
  )
  t.equal(await node.get(get, LATER), REPLY)
  t.equal(await node.put(put, [Buffer.alloc(3), Buffer.alloc(4)], LATER), stored)
  await t.rejects(node.sync('v', [1], LATER), { code: 'CHUNK_MISSING' })
  const { timers, counters } = metrics.snapshot()
  t.same(
    timers.map(({ group, label, count, errors }) => [group, label, count, errors]),
    [
      ['chunk.put', 'a', 1, 0],
      ['chunk.get', 'a', 1, 0],
      ['chunk.sync', 'a', 0, 1],
    ],
  )
  t.same(counters, [
    { name: 'chunk.sent.a', value: 7 },
    { name: 'chunk.received.a', value: 5 },
  ])
})

t.test('a call that was given up is no failure of the node', async (t) => {
  const metrics = new Metrics()
  const stop = new AbortController()
  const node = meteredChunkNode(
    nodeThat({
      get: () => {
        stop.abort()
        return Promise.reject(new RingfsError('CANCELLED', 'given up'))
      },
    }),
    'a',
    metrics,
  )
  await t.rejects(node.get(get, { ...LATER, signal: stop.signal }), { code: 'CANCELLED' })
  t.same(metrics.snapshot().timers, [])
})

t.test('a put that the node hashes is a put', async (t) => {
  const metrics = new Metrics()
  const stored = { stored: ['a'], queued: [], missing: [], leaves: Buffer.alloc(32) }
  const node = meteredChunkNode(nodeThat({ putUnhashed: () => Promise.resolve(stored) }), 'a', metrics)
  t.equal(await node.putUnhashed?.(put, [Buffer.alloc(3), Buffer.alloc(4)], LATER), stored)
  const { timers, counters } = metrics.snapshot()
  t.equal(timers.find(({ group }) => group === 'chunk.put')?.count, 1)
  t.equal(counters.find(({ name }) => name === 'chunk.sent.a')?.value, 7)
  t.notOk('putUnhashed' in meteredChunkNode(nodeThat({}), 'b', metrics), 'where it cannot be done it is not offered')
})
