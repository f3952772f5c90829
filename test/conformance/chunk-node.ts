/** What every ChunkNodeApi must do: the service in this process, and the stub that reaches it over RPC. */
import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { CHUNK_MAX_BYTES, LEAF_BYTES } from '../../src/base/limits.js'
import { CHUNK_BUCKETS, type ChunkNodeApi, type ListedChunk, type ListReply } from '../../src/chunk/contract.js'
import { digestOf } from '../../src/chunk/node/digest.js'
import { firstBadLeaf, rootOf } from '../../src/chunk/hash.js'
import { chunkPosition } from '../../src/cluster/ring.js'
import { CALL, VOLUME, failureOf, originOf, putRequest, randomChunk } from '../helpers/chunks.js'

const OTHER_VOLUME = '00000000-0000-4000-8000-000000000000'

/** `start` gives an empty node of VOLUME without peers, and its id. */
export function chunkNodeSuite(
  t: Test,
  start: (t: Test) => Promise<{ readonly api: ChunkNodeApi; readonly nodeId: string }>,
): void {
  t.test('a chunk of any size is stored and comes back with its leaves', async (t) => {
    const { api, nodeId } = await start(t)
    for (const [id, size] of [1, 4096, LEAF_BYTES, LEAF_BYTES + 1, CHUNK_MAX_BYTES].entries()) {
      const chunk = randomChunk(id, size)
      const half = size >> 1
      const pieces = [chunk.bytes.subarray(0, half), chunk.bytes.subarray(half)]
      const reply = await api.put(putRequest(chunk, { sync: id % 2 === 0 }), pieces, CALL)
      t.strictSame(reply, { stored: [nodeId], queued: [], missing: [] })
      const got = await api.get({ volume: VOLUME, id, offset: 0, lengthBytes: CHUNK_MAX_BYTES }, CALL)
      t.ok(got.data.equals(chunk.bytes), `${size} bytes`)
      t.ok(rootOf(got.leaves).equals(chunk.root))
      t.equal(got.chunkLengthBytes, size)
      t.equal(got.firstLeaf, 0)
      t.equal(got.origin, undefined)
    }
    t.equal((await api.info(CALL)).chunks, 5)
  })

  t.test('a range comes as whole leaves; the origin comes if asked for', async (t) => {
    const { api } = await start(t)
    const chunk = randomChunk(2 ** 53 - 1, 3 * LEAF_BYTES + 5)
    await api.put(putRequest(chunk), chunk.data, CALL)
    const range = { volume: VOLUME, id: chunk.id, offset: 2 * LEAF_BYTES + 1, lengthBytes: 1 }
    const got = await api.get({ ...range, withOrigin: true }, CALL)
    t.equal(got.firstLeaf, 2)
    t.equal(firstBadLeaf([got.data], got.leaves, 2), -1)
    t.strictSame(got.origin, chunk.origin)
  })

  t.test('wrong data, wrong hashes and other contents under the same id are refused', async (t) => {
    const { api } = await start(t)
    const chunk = randomChunk(7, 200_000)
    t.equal(await failureOf(api.put(putRequest(chunk), [randomBytes(200_000)], CALL)), 'CHUNK_CORRUPT')
    t.equal(await failureOf(api.put(putRequest(chunk, { root: randomBytes(32) }), chunk.data, CALL)), 'CHUNK_CORRUPT')
    t.equal(await failureOf(api.put(putRequest(chunk, { leaves: Buffer.alloc(32) }), chunk.data, CALL)), 'EINVAL')
    t.equal(await failureOf(api.put(putRequest(chunk), [], CALL)), 'EINVAL')
    t.equal(await failureOf(api.get({ volume: VOLUME, id: 7, offset: 0, lengthBytes: 1 }, CALL)), 'CHUNK_MISSING')
    await api.put(putRequest(chunk), chunk.data, CALL)
    await api.put(putRequest(chunk), chunk.data, CALL)
    const other = randomChunk(7, 200_000)
    t.equal(await failureOf(api.put(putRequest(other), other.data, CALL)), 'CHUNK_CONFLICT')
  })

  t.test('a node of another volume refuses everything', async (t) => {
    const { api } = await start(t)
    const chunk = randomChunk(1, 10)
    const volume = OTHER_VOLUME
    t.equal(await failureOf(api.put(putRequest(chunk, { volume }), chunk.data, CALL)), 'NODE_WRONG_VOLUME')
    t.equal(await failureOf(api.get({ volume, id: 1, offset: 0, lengthBytes: 1 }, CALL)), 'NODE_WRONG_VOLUME')
    t.equal(await failureOf(api.sync(volume, [1], CALL)), 'NODE_WRONG_VOLUME')
    t.equal(await failureOf(api.remove(volume, [1], CALL)), 'NODE_WRONG_VOLUME')
    t.equal(await failureOf(api.reportBad(volume, 1, CALL)), 'NODE_WRONG_VOLUME')
    t.equal((await api.info(CALL)).volume, VOLUME)
  })

  t.test('sync says what is not here; remove may be repeated', async (t) => {
    const { api, nodeId } = await start(t)
    const chunk = randomChunk(1, 10)
    await api.put(putRequest(chunk), chunk.data, CALL)
    t.strictSame(await api.sync(VOLUME, [1, 2], CALL), { missing: [2] })
    await api.remove(VOLUME, [1, 2], CALL)
    await api.remove(VOLUME, [1, 2], CALL)
    t.strictSame(await api.sync(VOLUME, [1], CALL), { missing: [1] })
    const info = await api.info(CALL)
    t.match(info, { id: nodeId, volume: VOLUME, chunks: 0 })
    t.ok(info.totalBytes > 0)
  })

  t.test('a report of a good copy changes nothing', async (t) => {
    const { api } = await start(t)
    const chunk = randomChunk(1, 100_000)
    await api.put(putRequest(chunk), chunk.data, CALL)
    await api.reportBad(VOLUME, 1, CALL)
    const got = await api.get({ volume: VOLUME, id: 1, offset: 0, lengthBytes: 100_000 }, CALL)
    t.ok(got.data.equals(chunk.bytes))
  })

  t.test('a listing has every chunk once, in the order of the ring, whatever the pages are', async (t) => {
    const { api } = await start(t)
    const ids = [5, 0, 2 ** 24 + 1, 2 ** 53 - 1, 77, 1234567]
    for (const [at, id] of ids.entries()) {
      const chunk = randomChunk(id, 100 + (id % 7))
      // Some in the journal, as far as there is one by now, some in files.
      await api.put(putRequest(chunk, { sync: at % 2 === 0 }), chunk.data, CALL)
    }
    const places = [...ids].sort((a, b) => chunkPosition(a) - chunkPosition(b))
    for (const limit of [1, 2, 100]) {
      for (const headers of [false, true]) {
        const all = await listed(api, limit, headers)
        t.strictSame(
          all.map(({ id }) => id),
          places,
          `pages of ${limit}`,
        )
        for (const { id, header } of all) {
          t.equal(header?.lengthBytes, headers ? 100 + (id % 7) : undefined)
          t.strictSame(header?.origin, headers ? originOf(100 + (id % 7)) : undefined)
        }
      }
    }
    const range = { volume: VOLUME, fromBucket: 0, toBucket: CHUNK_BUCKETS, fromId: 0, limit: 100 }
    t.equal(await failureOf(api.list({ ...range, headers: false, limit: 0 }, CALL)), 'EINVAL')
    t.equal(await failureOf(api.list({ ...range, headers: false, toBucket: CHUNK_BUCKETS + 1 }, CALL)), 'EINVAL')
    t.equal(await failureOf(api.list({ ...range, headers: false, volume: OTHER_VOLUME }, CALL)), 'NODE_WRONG_VOLUME')
  })

  t.test('digests are those of what is listed, range by range', async (t) => {
    const { api } = await start(t)
    const ids = [5, 0, 2 ** 24 + 1, 2 ** 53 - 1, 77, 1234567]
    for (const [at, id] of ids.entries()) {
      const chunk = randomChunk(id, 100 + (id % 7))
      await api.put(putRequest(chunk, { sync: at % 2 === 0 }), chunk.data, CALL)
    }
    const half = 2 ** 31
    const below = ids.filter((id) => chunkPosition(id) < half)
    const at = chunkPosition(5)
    const groups = [
      [
        { first: 0, last: at - 1 },
        { first: at + 1, last: half - 1 },
      ],
      [{ first: half, last: 2 ** 32 - 1 }],
      [],
      [{ first: at, last: at }],
    ]
    t.strictSame(await api.digest({ volume: VOLUME, groups }, CALL), [
      digestOf(below.filter((id) => id !== 5)),
      digestOf(ids.filter((id) => !below.includes(id))),
      digestOf([]),
      digestOf([5]),
    ])
    await api.remove(VOLUME, [5], CALL)
    t.strictSame(await api.digest({ volume: VOLUME, groups: [[{ first: at, last: at }]] }, CALL), [digestOf([])])
    for (const [first, last] of [
      [5, 4],
      [0, 2 ** 32],
    ] as const) {
      t.not(await failureOf(api.digest({ volume: VOLUME, groups: [[{ first, last }]] }, CALL)), '')
    }
    const overlapping = [[{ first: 0, last: 9 }], [{ first: 9, last: 10 }]]
    t.equal(await failureOf(api.digest({ volume: VOLUME, groups: overlapping }, CALL)), 'EINVAL')
    t.equal(await failureOf(api.digest({ volume: OTHER_VOLUME, groups: [] }, CALL)), 'NODE_WRONG_VOLUME')
  })
}

async function listed(api: ChunkNodeApi, limit: number, headers: boolean): Promise<ListedChunk[]> {
  const all: ListedChunk[] = []
  let from: { readonly bucket: number; readonly id: number } | null = { bucket: 0, id: 0 }
  while (from !== null) {
    const request = { fromBucket: from.bucket, toBucket: CHUNK_BUCKETS, fromId: from.id, limit, headers }
    const reply: ListReply = await api.list({ volume: VOLUME, ...request }, CALL)
    all.push(...reply.chunks)
    from = reply.next
  }
  return all
}
