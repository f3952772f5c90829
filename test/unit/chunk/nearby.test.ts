/** Chunks of a node beside this process are read from its files; everything else is asked of the node. */
import t from 'tap'
import { readFileSync, writeFileSync } from 'node:fs'
import { systemClock } from '../../../src/base/clock.js'
import { KIB, LEAF_BYTES, MIB } from '../../../src/base/limits.js'
import type { ChunkNodeApi, LeavesReply } from '../../../src/chunk/contract.js'
import { Metrics } from '../../../src/base/metrics.js'
import { meteredChunkNode } from '../../../src/chunk/metered.js'
import { ChunkFiles } from '../../../src/chunk/node/chunk-files.js'
import { seedOf } from '../../../src/chunk/node/disk-choice.js'
import { nearbyChunkNode } from '../../../src/chunk/node/nearby.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import {
  CALL,
  VOLUME,
  chunkFile,
  failureOf,
  putRequest,
  randomChunk,
  startCluster,
  type TestChunk,
} from '../../helpers/chunks.js'

t.setTimeout(300_000)

async function ground(t: Parameters<typeof startCluster>[0]) {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const node = cluster.node('node-0')
  const options = { folder: node.folder, volume: VOLUME, pool: cluster.pool, buffers: new SharedBuffers() }
  const files = new ChunkFiles({ ...options, clock: systemClock })
  return {
    cluster,
    node,
    api: nearbyChunkNode({ id: 'node-0', volume: VOLUME, disks: [{ seed: seedOf('d'), weight: 1, files }] }, node.api),
  }
}

async function isRight(api: ChunkNodeApi, { id, bytes, leaves }: TestChunk): Promise<boolean> {
  const all = await api.get({ volume: VOLUME, id, offset: 0, lengthBytes: 4 * MIB }, CALL)
  const same = all.data.equals(bytes) && all.leaves.equals(leaves) && all.chunkLengthBytes === bytes.length
  all.release()
  return same
}

t.test('chunks are read without the node, whatever their length, and also with the node gone', async (t) => {
  const { node, api } = await ground(t)
  const chunks = [100, LEAF_BYTES, 300 * KIB + 7, 4 * MIB].map((lengthBytes, id) => randomChunk(id, lengthBytes))
  for (const chunk of chunks) await api.put(putRequest(chunk), chunk.data, CALL)
  node.calls.length = 0
  node.faults.killed = true
  for (let round = 0; round < 3; round++) for (const chunk of chunks) t.ok(await isRight(api, chunk))
  const part = await api.get({ volume: VOLUME, id: 3, offset: 100_000, lengthBytes: 10, withOrigin: true }, CALL)
  t.equal(part.firstLeaf, Math.floor(100_000 / LEAF_BYTES))
  t.strictSame(part.origin, chunks[3]?.origin)
  part.release()
  t.strictSame(node.calls, [])
})

t.test('what is not in a file is asked of the node, which has the last word', async (t) => {
  const { node, api } = await ground(t)
  const small = randomChunk(1, 500)
  for (let i = 0; i < 40; i++) {
    const one = randomChunk(100 + i, 500)
    await api.put(putRequest(one, { sync: true }), one.data, CALL)
  }
  await api.put(putRequest(small, { sync: true }), small.data, CALL)
  t.ok(await isRight(api, small), 'wherever the node has it')
  t.equal(await failureOf(api.get({ volume: VOLUME, id: 77, offset: 0, lengthBytes: 1 }, CALL)), 'CHUNK_MISSING')
  t.equal(await failureOf(api.get({ volume: 'other', id: 1, offset: 0, lengthBytes: 1 }, CALL)), 'NODE_WRONG_VOLUME')
  t.equal(await failureOf(api.get({ volume: VOLUME, id: -1, offset: 0, lengthBytes: 1 }, CALL)), 'EINVAL')
  await api.remove(VOLUME, [1], CALL)
  t.equal(await failureOf(api.get({ volume: VOLUME, id: 1, offset: 0, lengthBytes: 1 }, CALL)), 'CHUNK_MISSING')
  t.ok(node.calls.includes('get'))
})

t.test('a copy that was replaced by one that begins elsewhere is read again after it was reported', async (t) => {
  const { node, api } = await ground(t)
  const chunk = randomChunk(5, MIB)
  const extents = Array.from({ length: 400 }, (_, i) => ({ fileOffset: i * 8192, chunkOffset: i, lengthBytes: 1 }))
  const other = { ...chunk, origin: { ...chunk.origin, extents } }
  await api.put(putRequest(chunk), chunk.data, CALL)
  t.ok(await isRight(api, chunk))
  await node.store.remove([5])
  await node.store.put(other, other.data)
  t.notOk(await isRight(api, chunk), 'the reader finds bytes that do not match, and says so')
  await api.reportBad(VOLUME, 5, CALL)
  t.ok(await isRight(api, chunk))
})

t.test(
  'what was used lately is answered in the same tick, and only if it is right does a reader take it',
  async (t) => {
    const { cluster, node, api } = await ground(t)
    const chunk = randomChunk(9, 12 * LEAF_BYTES + 1)
    await api.put(putRequest(chunk), chunk.data, CALL)
    const request = { volume: VOLUME, id: 9, offset: LEAF_BYTES + 5, lengthBytes: 100 }
    t.equal(api.getNow?.(request), null, 'nothing is known of it yet')
    t.ok(await isRight(api, chunk))
    const now = api.getNow?.(request)
    t.ok(now?.data.equals(chunk.bytes.subarray(LEAF_BYTES, 2 * LEAF_BYTES)))
    now?.release()
    t.equal(api.getNow?.({ ...request, volume: 'other' }), null)
    t.equal(api.getNow?.({ ...request, offset: -1 }), null)
    t.equal(api.getNow?.({ ...request, lengthBytes: 4 * MIB }), null, 'a long one is left to a worker')

    const client = cluster.clientWith({ node: () => api })
    const ref = { id: 9, lengthBytes: chunk.bytes.length, root: chunk.root }
    node.calls.length = 0
    t.ok((await client.read(ref, 100, 1000)).equals(chunk.bytes.subarray(100, 1100)))
    t.strictSame(node.calls, [], 'the node has nothing to do with it')
    const file = chunkFile(node.folder, 9)
    const bytes = readFileSync(file)
    bytes[bytes.length - 1] = 1 + (bytes.at(-1) ?? 0)
    // In place: the file that may be open.
    writeFileSync(file, bytes)
    t.ok((await client.read(ref, 100, 1000)).equals(chunk.bytes.subarray(100, 1100)), 'other leaves are good')
    const last = client.read(ref, 12 * LEAF_BYTES, 1)
    t.equal(await failureOf(last), 'CHUNK_CORRUPT', 'one copy, and that one is bad')
    await api.remove(VOLUME, [9], CALL)
    t.equal(api.getNow?.(request), null, 'a removed one is not kept open')
  },
)

t.test(
  'what a worker has compared already is not hashed again, unless its table is another than the root names',
  async (t) => {
    const { cluster, node, api } = await ground(t)
    const [chunk, other] = [randomChunk(3, MIB), randomChunk(3, MIB)]
    await api.put(putRequest(chunk), chunk.data, CALL)
    const range = { volume: VOLUME, id: 3, offset: 0, lengthBytes: MIB }
    const plain = await api.get(range, CALL)
    t.equal(plain.matches, undefined, 'only who asks for it has it compared')
    plain.release()
    const compared = await api.get({ ...range, check: true }, CALL)
    t.equal(compared.matches, true)
    compared.release()
    const metered = meteredChunkNode(api, 'node-0', new Metrics())
    t.ok(metered.getNow?.({ ...range, lengthBytes: 1 }), 'also when it is counted')
    const client = cluster.clientWith({ node: () => metered })
    const ref = { id: 3, lengthBytes: MIB, root: chunk.root }
    t.ok((await client.read(ref, 0, MIB)).equals(chunk.bytes))
    // A whole other chunk under this name: it matches its own table.
    await node.store.remove([3])
    await node.store.put(other, other.data)
    await api.reportBad(VOLUME, 3, CALL)
    t.equal((await api.get({ ...range, check: true }, CALL)).matches, true)
    t.equal(await failureOf(client.read(ref, 0, MIB)), 'CHUNK_CORRUPT', 'with the table known')
    t.equal(await failureOf(cluster.clientWith({ node: () => api }).read(ref, 0, MIB)), 'CHUNK_CORRUPT', 'and without')
    t.equal(await failureOf(client.read(ref, 5, 10)), 'CHUNK_CORRUPT')
    const file = chunkFile(node.folder, 3)
    const bytes = readFileSync(file)
    bytes[bytes.length - 1] = 1 + (bytes.at(-1) ?? 0)
    writeFileSync(file, bytes)
    // It may have been put aside by now, for the readers above have reported it.
    t.match(await failureOf(node.store.read(3, 0, MIB, false, true)), /^CHUNK_(CORRUPT|MISSING)$/)
  },
)

t.test('leaves of several chunks are read in one go, each of them right or left to be read alone', async (t) => {
  const { cluster, node, api } = await ground(t)
  const chunks = Array.from({ length: 20 }, (_, i) => randomChunk(100 + i, 70 * KIB + i * 3001))
  for (const chunk of chunks) await api.put(putRequest(chunk), chunk.data, CALL)
  const wants = chunks.flatMap(({ id, root, bytes }) => {
    const ref = { id, lengthBytes: bytes.length, root }
    return [0, Math.floor((bytes.length - 1) / LEAF_BYTES)].map((leaf) => ({ ref, leaf }))
  })
  const bytesOf = (id: number, leaf: number): Buffer => {
    const bytes = chunks[id - 100]?.bytes ?? Buffer.alloc(0)
    return bytes.subarray(leaf * LEAF_BYTES, (leaf + 1) * LEAF_BYTES)
  }
  const buffers = new SharedBuffers()
  const files = new ChunkFiles({ folder: node.folder, volume: VOLUME, pool: cluster.pool, buffers, clock: systemClock })
  const beside = { id: 'node-0', volume: VOLUME, disks: [{ seed: seedOf('d'), weight: 1, files }] }
  const client = cluster.clientWith({ node: () => nearbyChunkNode(beside, node.api) })
  node.calls.length = 0
  // The second time the layouts of the files are known.
  for (let round = 0; round < 2; round++) {
    const { leaves, release } = await client.lendLeaves('node-0', wants)
    t.strictSame(
      leaves.map((leaf, at) => leaf?.equals(bytesOf(wants[at]?.ref.id ?? 0, wants[at]?.leaf ?? 0))),
      wants.map(() => true),
    )
    release()
  }
  t.strictSame(node.calls, [])
  t.equal(buffers.lentBytes, 0)

  for (const fresh of [false, true]) {
    for (const [id, at] of [
      [100, -1],
      [101, -70 * KIB],
    ] as const) {
      const file = chunkFile(node.folder, id)
      const bytes = readFileSync(file)
      bytes[bytes.length + at] = 1 + (bytes.at(at) ?? 0)
      writeFileSync(file, bytes)
      if (fresh) files.forget(id)
    }
    const other = { ref: { id: 102, lengthBytes: chunks[2]?.bytes.length ?? 0, root: randomChunk(1, 9).root }, leaf: 0 }
    const missing = { ref: { id: 999, lengthBytes: 5, root: randomChunk(1, 9).root }, leaf: 0 }
    const [rotten, whole] = [wants[1], wants[0]]
    const outside = { ref: wants[6]?.ref ?? other.ref, leaf: 99 }
    const asked = [rotten, whole, wants[2], other, missing, outside].filter((want) => want !== undefined)
    const { leaves, release } = await client.lendLeaves('node-0', asked)
    t.strictSame(
      leaves.map((leaf) => leaf !== null),
      [false, true, false, false, false, false],
    )
    release()
  }
  t.equal(buffers.lentBytes, 0)
  const elsewhere = await nearbyChunkNode(beside, node.api).getLeaves?.('other', [{ id: 100, leaf: 0 }])
  t.strictSame(elsewhere?.found, [null])
})

t.test('who does not answer in time is left alone, and what was lent too late comes back', async (t) => {
  const { cluster, node } = await ground(t)
  const late: ((reply: LeavesReply) => void)[] = []
  let released = 0
  const hanging: ChunkNodeApi = { ...node.api, getLeaves: () => new Promise((resolve) => late.push(resolve)) }
  const client = cluster.clientWith({ node: () => hanging, attemptMs: 20 })
  const want = { ref: { id: 1, lengthBytes: 5, root: randomChunk(1, 5).root }, leaf: 0 }
  t.equal(client.nearNode(1), 'node-0')
  const lent = await Promise.all(Array.from({ length: 20 }, () => client.lendLeaves('node-0', [want])))
  t.ok(lent.every(({ leaves }) => leaves.length === 1 && leaves[0] === null))
  t.equal(late.length, 8, 'no more than so many wait for it')
  t.equal(client.nearNode(1), undefined)
  for (const resolve of late) resolve({ found: [null], release: () => released++ })
  await systemClock.sleep(1)
  t.equal(released, 8)
  t.equal(client.nearNode(1), undefined, 'for a while')
  const none = cluster.clientWith({ node: () => ({ ...node.api, getLeaves: () => Promise.reject(new Error('x')) }) })
  t.strictSame((await none.lendLeaves('node-0', [want])).leaves, [null])
  t.equal(none.nearNode(1), 'node-0', 'a failure is an answer')
})
