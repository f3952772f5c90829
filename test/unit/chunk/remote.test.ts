import t from 'tap'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError } from '../../../src/base/errors.js'
import { CHUNK_MAX_BYTES, KIB } from '../../../src/base/limits.js'
import type { CallOptions, ChunkNodeApi, GetRequest, PutRequest } from '../../../src/chunk/contract.js'
import { ORIGIN_EXTENTS_MAX, ORIGIN_ORDERS_MAX } from '../../../src/chunk/contract.js'
import { serveChunkNode } from '../../../src/chunk/node/server.js'
import { remoteChunkNode } from '../../../src/chunk/remote.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import { RpcChannel } from '../../../src/rpc/channel.js'
import { RpcServer } from '../../../src/rpc/server.js'
import { until } from '../../helpers/deadline.js'

t.setTimeout(300_000)

const CALL: CallOptions = { deadlineMs: 20_000 }
const ID = Number.MAX_SAFE_INTEGER
const REQUEST: PutRequest = {
  volume: 'v',
  id: ID,
  root: Buffer.alloc(32, 1),
  leaves: Buffer.alloc(64 * 32, 2),
  origin: {
    ino: 2 ** 49,
    order: 2 ** 52,
    extents: Array.from({ length: ORIGIN_EXTENTS_MAX }, (_, i) => ({
      fileOffset: ID - i,
      chunkOffset: i * KIB,
      lengthBytes: KIB,
    })),
  },
  sync: true,
  forward: ['b', 'c'],
  copies: 2,
  absent: ['d'],
}

/** A node that remembers what it was asked, and answers from memory. */
function recorder() {
  const asked: unknown[] = []
  let stored = Buffer.alloc(0)
  let failure: Error | null = null
  let released = 0
  const told = (...what: unknown[]): void => {
    asked.push(...what)
    if (failure !== null) throw failure
  }
  const api: ChunkNodeApi = {
    put: async (request, data) => {
      told(request)
      stored = Buffer.concat(data)
      return { stored: ['a', 'b'], queued: ['d'], missing: [] }
    },
    get: async (request) => {
      const release = (): void => {
        released++
      }
      told(request)
      const reply = { chunkLengthBytes: stored.length, leaves: REQUEST.leaves, firstLeaf: 0, data: stored, release }
      return request.withOrigin === true ? { ...reply, origin: REQUEST.origin } : reply
    },
    sync: async (volume, ids) => {
      told(volume, ids)
      return { missing: ids.slice(-1) }
    },
    remove: async (volume, ids) => told(volume, ids),
    reportBad: async (volume, id) => told(volume, id),
    lacks: async (request) => {
      told(request)
      return [3]
    },
    digest: async (request) => {
      told(request)
      return [{ count: ID, high: 2 ** 32 - 1, low: 0 }]
    },
    list: async (request) => {
      told(request)
      const header = { lengthBytes: 5, root: REQUEST.root, origin: REQUEST.origin }
      const chunks = request.headers ? [{ id: ID, header }, { id: 3 }] : [{ id: ID }, { id: 3 }]
      const gaps = request.withGaps === true ? { gaps: [0, 4095] } : {}
      return { chunks, next: request.fromId === 0 ? { bucket: 4095, id: ID } : null, ...gaps }
    },
    scrub: async (request) => {
      told(request)
      return SCRUB
    },
    info: async () => {
      told('info')
      return {
        id: 'a',
        volume: 'v',
        pid: 7,
        totalBytes: ID,
        freeBytes: 0,
        chunks: 3,
        version: '0.1.0',
        disks: ['d', 'e'],
      }
    },
  }
  return { api, asked, fail: (error: Error | null) => (failure = error), released: () => released }
}

const SCRUB = {
  ...{ bucket: 1, buckets: 4096, startedMs: ID, finishedMs: 2, checked: 3, checkedBytes: 4, bad: 5, replaced: 6 },
  ...{ isHasty: true, unread: 7, unlisted: 8 },
}

async function serve(t: { teardown(end: () => unknown): void }, api: ChunkNodeApi) {
  const server = new RpcServer()
  serveChunkNode(api, server)
  const channel = new RpcChannel(await server.listen('127.0.0.1:0'))
  t.teardown(async () => {
    await channel.close()
    await server.close()
  })
  return remoteChunkNode(channel, new SharedBuffers())
}

t.test('a node answers over RPC as it does in the same process', async (t) => {
  const { api, asked, released } = recorder()
  const node = await serve(t, api)
  const data = [Buffer.alloc(CHUNK_MAX_BYTES - 5, 1), new Uint8Array(5).fill(2)]
  t.same(await node.put(REQUEST, data, CALL), { stored: ['a', 'b'], queued: ['d'], missing: [] })
  t.same(asked.pop(), REQUEST)

  const get: GetRequest = { volume: 'v', id: ID, offset: 0, lengthBytes: CHUNK_MAX_BYTES }
  const got = await node.get(get, CALL)
  t.ok(got.data.equals(Buffer.concat(data)), 'a whole chunk there and back')
  t.match(got, { chunkLengthBytes: CHUNK_MAX_BYTES, firstLeaf: 0, leaves: REQUEST.leaves })
  t.equal(got.origin, undefined)
  t.same(asked.pop(), { ...get, withOrigin: false })
  t.same((await node.get({ ...get, withOrigin: true }, CALL)).origin, REQUEST.origin)
  t.equal(released(), 2, 'the node has the memory of what it sent back')
  asked.pop()

  const range = { volume: 'v', fromBucket: 1, toBucket: 4096, limit: 9 }
  const header = { lengthBytes: 5, root: REQUEST.root, origin: REQUEST.origin }
  t.strictSame(await node.list({ ...range, fromId: 0, headers: true }, CALL), {
    chunks: [{ id: ID, header }, { id: 3 }],
    next: { bucket: 4095, id: ID },
  })
  t.same(asked.pop(), { ...range, fromId: 0, headers: true, withGaps: false })
  t.strictSame(await node.list({ ...range, fromId: ID, headers: false, withGaps: true }, CALL), {
    chunks: [{ id: ID }, { id: 3 }],
    next: null,
    gaps: [0, 4095],
  })
  t.same(asked.pop(), { ...range, fromId: ID, headers: false, withGaps: true })

  t.strictSame(await node.lacks({ volume: 'v', ids: [3, ID], verify: true }, CALL), [3])
  t.same(asked.pop(), { volume: 'v', ids: [3, ID], verify: true })
  const digest = {
    volume: 'v',
    groups: [
      [{ first: 0, last: 0 }],
      [
        { first: 7, last: 2 ** 31 },
        { first: 2 ** 32 - 1, last: 2 ** 32 - 1 },
      ],
      [],
    ],
  }
  t.strictSame(await node.digest(digest, CALL), [{ count: ID, high: 2 ** 32 - 1, low: 0 }])
  t.same(asked.pop(), digest)
  const indices = Array.from({ length: ORIGIN_ORDERS_MAX }, (_, i) => i)
  const packed = {
    ...{ ino: 5, order: ID, extents: REQUEST.origin.extents.slice(0, ORIGIN_ORDERS_MAX) },
    ...{ orders: indices.map((i) => ID - i), appends: indices },
  }
  await node.put({ ...REQUEST, origin: packed }, data, CALL)
  t.match(asked.pop(), { origin: packed })
  t.same((await node.put({ ...REQUEST, epoch: 7 }, data, CALL)).epoch, undefined)
  t.match(asked.pop(), { epoch: 7 })
  const scrub = { volume: 'v', action: 'start', bytesPerSecond: ID } as const
  t.strictSame(await node.scrub(scrub, CALL), SCRUB)
  t.same(asked.pop(), scrub)

  t.same(await node.sync('v', [1, ID], CALL), { missing: [ID] })
  await node.remove('v', [5], CALL)
  await node.reportBad('v', 6, CALL)
  t.match(await node.info(CALL), { id: 'a', totalBytes: ID, version: '0.1.0', disks: ['d', 'e'] })
  t.same(asked, ['v', [1, ID], 'v', [5], 'v', 6, 'info'])
  t.type(await node.ping(CALL), 'number')
})

t.test('any number of ids is synced and removed', async (t) => {
  const { api, asked } = recorder()
  const node = await serve(t, api)
  const ids = Array.from({ length: 100_000 }, (_, i) => ID - i)
  t.ok((await node.sync('v', ids, CALL)).missing.includes(ID - 99_999))
  await node.remove('v', [], CALL)
  t.same(asked.filter(Array.isArray).flat().length, ids.length)
})

t.test('errors of a node keep their type', async (t) => {
  const { api, fail } = recorder()
  const node = await serve(t, api)
  for (const error of [
    new PosixError('ENOSPC'),
    new RingfsError('CHUNK_MISSING', 'chunk 5 is not here'),
    new RingfsError('CHUNK_CONFLICT', 'other contents'),
  ]) {
    fail(error)
    await t.rejects(node.info(CALL), { name: error.name, code: error.code, message: error.message })
  }
})

t.test('the deadline and the cancelling of a call reach the node', async (t) => {
  const { api } = recorder()
  const seen: CallOptions[] = []
  const node = await serve(t, {
    ...api,
    info: (options) => {
      seen.push(options)
      return new Promise((_, reject) => {
        options.signal?.addEventListener('abort', () => reject(new PosixError('EINTR')))
      })
    },
  })
  const controller = new AbortController()
  const call = node.info({ deadlineMs: 12_345, signal: controller.signal })
  await until('it has begun', () => seen.length > 0)
  controller.abort()
  await t.rejects(call, { code: 'CANCELLED' })
  await until('it is cancelled there', () => seen[0]?.signal?.aborted === true)
  const deadlineMs = seen[0]?.deadlineMs ?? 0
  t.ok(deadlineMs > 0 && deadlineMs <= 12_345)
})
