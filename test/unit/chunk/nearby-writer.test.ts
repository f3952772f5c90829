/** Long chunks are written beside their nodes, which only give them their names: whole, once, and never what was given up. */
import t from 'tap'
import { readdirSync, readFileSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Cancellation } from '../../../src/base/cancel.js'
import { systemClock } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { KIB, MIB } from '../../../src/base/limits.js'
import { silentLog } from '../../../src/base/log.js'
import type { ChunkNodeApi, PutRequest } from '../../../src/chunk/contract.js'
import { encodePrefix } from '../../../src/chunk/format.js'
import { ChunkFiles } from '../../../src/chunk/node/chunk-files.js'
import { seedOf } from '../../../src/chunk/node/disk-choice.js'
import { nearbyChunkNode } from '../../../src/chunk/node/nearby.js'
import { NearbyWriter } from '../../../src/chunk/node/nearby-writer.js'
import { ChunkPaths } from '../../../src/chunk/node/paths.js'
import { SpaceGauge } from '../../../src/chunk/node/space.js'
import { WorkerPool, type Job } from '../../../src/chunk/pool.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import {
  CALL,
  VOLUME,
  chunkFile,
  chunkOf,
  failureOf,
  originOf,
  poolOf,
  putRequest,
  randomChunk,
  startCluster,
  type TestChunk,
  type TestCluster,
  type TestNode,
} from '../../helpers/chunks.js'
import { until } from '../../helpers/deadline.js'
import { newFolders, openDisks } from '../../helpers/disks.js'

t.setTimeout(300_000)

interface Put {
  readonly node: string
  readonly request: PutRequest
  readonly sentBytes: number
}

/** As a process beside the node has it; `puts`: what the node itself was asked. `before`: in the node's place, before it looks at a put. */
function beside(
  cluster: TestCluster,
  node: TestNode,
  puts: Put[],
  before?: (request: PutRequest) => void | Promise<void>,
  { pool = cluster.pool, reserveBytes = 0 }: { readonly pool?: WorkerPool; readonly reserveBytes?: number } = {},
): ChunkNodeApi {
  const { folder, id, api } = node
  const shared = { folder, volume: VOLUME, pool: cluster.pool, buffers: new SharedBuffers(), log: silentLog }
  const files = new ChunkFiles({ ...shared, clock: systemClock })
  const gauge = new SpaceGauge({ folder, pool, clock: systemClock, isInline: false, reserveBytes })
  const disks = [{ seed: seedOf('d'), weight: 1, files, writer: new NearbyWriter({ ...shared, pool, gauge }) }]
  const noted: ChunkNodeApi = {
    ...api,
    put: async (request, data, options) => {
      puts.push({ node: id, request, sentBytes: data.reduce((sum, { length }) => sum + length, 0) })
      await before?.(request)
      return await api.put(request, data, options)
    },
  }
  return nearbyChunkNode({ id, volume: VOLUME, disks }, noted)
}

async function ground(t: Parameters<typeof startCluster>[0], before?: (node: TestNode, request: PutRequest) => void) {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const node = cluster.node('node-0')
  const puts: Put[] = []
  return { cluster, node, puts, api: beside(cluster, node, puts, (request) => before?.(node, request)) }
}

/** Whose writes can be made to wait. */
class CountingPool extends WorkerPool {
  prepared = 0
  letGo: () => void = () => undefined
  #hanging: Promise<void> | undefined

  constructor() {
    super({ threads: 1 })
  }

  hang(): void {
    this.#hanging = new Promise((resolve) => (this.letGo = resolve))
  }

  override async run<Input, Output>(job: Job<Input, Output>, input: Input): Promise<Output> {
    if (job.name === 'prepare') {
      this.prepared++
      await this.#hanging
    }
    return await super.run(job, input)
  }
}

const temporariesOf = ({ folder }: TestNode): string[] => readdirSync(join(folder, 'tmp'))

async function isIn({ store }: TestNode, { id, bytes, leaves, origin }: TestChunk): Promise<boolean> {
  const range = await store.read(id, 0, bytes.length, true)
  const isSame = range.data.equals(bytes) && range.leaves.equals(leaves)
  range.release()
  const isSound = (await store.verify(id)).state === 'good'
  return isSame && isSound && JSON.stringify(range.origin) === JSON.stringify(origin)
}

t.test('a long chunk is taken as it was prepared, and no data are sent; a short one is sent', async (t) => {
  const { node, api, puts } = await ground(t)
  t.equal(api.isBeside, true)
  for (const [id, lengthBytes] of [256 * KIB, 300 * KIB + 7, 4 * MIB].entries()) {
    const chunk = randomChunk(id, lengthBytes)
    const reply = await api.put(putRequest(chunk, { sync: id % 2 === 0 }), chunk.data, CALL)
    t.same(reply.stored, ['node-0'])
    t.ok(await isIn(node, chunk))
  }
  const short = randomChunk(77, 256 * KIB - 1)
  await api.put(putRequest(short), short.data, CALL)
  t.ok(await isIn(node, short))
  t.strictSame(
    puts.map(({ sentBytes }) => sentBytes),
    [0, 0, 0, short.bytes.length],
  )
  t.equal(node.store.chunks, 4)
  t.strictSame(temporariesOf(node), [])
})

t.test('put again it is known, with other contents refused, and a bad copy in its way is set aside', async (t) => {
  const { node, api } = await ground(t)
  const chunk = randomChunk(1, MIB)
  await api.put(putRequest(chunk), chunk.data, CALL)
  await api.put(putRequest(chunk), chunk.data, CALL)
  const other = randomChunk(1, MIB)
  t.equal(await failureOf(api.put(putRequest(other), other.data, CALL)), 'CHUNK_CONFLICT')
  t.ok(await isIn(node, chunk))
  truncateSync(chunkFile(node.folder, 1), 100_000)
  await api.put(putRequest(chunk), chunk.data, CALL)
  t.ok(await isIn(node, chunk))
  t.equal(node.store.chunks, 1)
  t.strictSame(temporariesOf(node), [])
})

t.test('what is given up while it is written is not offered: its memory may be of others by then', async (t) => {
  const { node, api, puts } = await ground(t)
  const chunk = randomChunk(1, 4 * MIB)
  const given = new Cancellation()
  const put = api.put(putRequest(chunk), chunk.data, { deadlineMs: 60_000, signal: given })
  given.cancel()
  t.equal(await failureOf(put), 'CANCELLED')
  t.strictSame(puts, [])
  t.equal(node.store.chunks, 0)
  t.strictSame(temporariesOf(node), [])
})

t.test('where the node cannot take it, as it has begun anew meanwhile, the data are sent', async (t) => {
  const gone = (node: TestNode, { prepared }: PutRequest): void => {
    if (prepared !== undefined) unlinkSync(join(node.folder, 'tmp', prepared))
  }
  const { node, api, puts } = await ground(t, gone)
  const chunk = randomChunk(1, MIB)
  await api.put(putRequest(chunk, { sync: true }), chunk.data, CALL)
  t.strictSame(
    puts.map(({ sentBytes }) => sentBytes),
    [0, MIB],
  )
  t.ok(await isIn(node, chunk))
})

t.test('what the node refuses for another reason is refused, and nothing is left', async (t) => {
  const full = (): void => {
    throw new PosixError('ENOSPC', 'full')
  }
  const { node, api, puts } = await ground(t, full)
  const chunk = randomChunk(1, MIB)
  t.equal(await failureOf(api.put(putRequest(chunk), chunk.data, CALL)), 'ENOSPC')
  t.equal(puts.length, 1)
  t.strictSame(temporariesOf(node), [])
})

t.test('a node takes only what is a whole file of that chunk, in its own place', async (t) => {
  const { node } = await ground(t)
  const chunk = randomChunk(1, MIB)
  const paths = new ChunkPaths(node.folder)
  const prefix = encodePrefix(
    { volume: VOLUME, id: 1, lengthBytes: MIB, root: chunk.root, origin: originOf(MIB) },
    chunk.leaves,
  )
  const whole = Buffer.concat([prefix, chunk.bytes])
  const take = (name: string, of = chunk): Promise<unknown> =>
    node.service.put(putRequest(of, { prepared: name }), [], CALL)
  const nameOf = (bytes: Buffer): string => {
    const file = paths.newPrepared(1)
    writeFileSync(file, bytes)
    return file.slice(paths.temporary.length + 1)
  }
  const good = nameOf(whole)
  writeFileSync(join(node.folder, 'other'), whole)
  for (const name of ['other', '../other', `../tmp/${good}`, good.replace('beside', '..'), `${good}x`, ' ']) {
    t.equal(await failureOf(take(name)), 'EINVAL', name)
  }
  t.equal(await failureOf(take(nameOf(whole.subarray(0, -1)))), 'EINVAL', 'too short')
  t.equal(await failureOf(take(nameOf(Buffer.concat([whole, Buffer.alloc(1)])))), 'EINVAL', 'too long')
  t.equal(await failureOf(take(nameOf(Buffer.alloc(0)))), 'EINVAL', 'empty')
  t.equal(await failureOf(take(good, randomChunk(1, MIB))), 'EINVAL', 'of other contents')
  t.equal(await failureOf(take(good, randomChunk(2, MIB))), 'EINVAL', 'of another chunk')
  const passedOn = putRequest(chunk, { prepared: good, forward: ['node-0'] })
  t.equal(await failureOf(node.service.put(passedOn, [], CALL)), 'EINVAL', 'to be passed on')
  t.equal(await failureOf(node.service.put(putRequest(chunk, { prepared: good }), chunk.data, CALL)), 'EINVAL')
  t.equal(node.store.chunks, 0)
  await take(good)
  t.ok(await isIn(node, chunk))
  t.ok(readFileSync(join(node.folder, 'other')).equals(whole), 'what is not its own is left alone')
})

t.test('a node of several disks chooses one itself', async (t) => {
  const disks = await openDisks(t, poolOf(t), newFolders(t, 2))
  const { id, root, leaves, origin } = randomChunk(1, MIB)
  const put = disks.putPrepared({ id, root, leaves, origin }, new ChunkPaths('/').newPrepared(1).slice('/tmp/'.length))
  t.equal(await failureOf(put), 'EINVAL')
})

t.test('all owners that are beside are written at once; where one is not, the first passes it on', async (t) => {
  const cluster = await startCluster(t, { nodes: 4, replicas: 3, writeQuorum: 2 })
  const puts: Put[] = []
  const all = new Map(cluster.nodes.map((node) => [node.id, beside(cluster, node, puts)]))
  const some = new Map([...all].slice(0, 2))
  const apiOf = (from: ReadonlyMap<string, ChunkNodeApi>) => (id: string) => from.get(id) ?? cluster.node(id).api
  const chunk = chunkOf(0, randomChunk(0, MIB).bytes)
  await cluster.clientWith({ node: apiOf(all) }).write(0, chunk.data, chunk.origin, { durability: 'all', sync: true })
  t.strictSame(puts.map(({ node }) => node).sort(), ['node-0', 'node-1', 'node-2'])
  t.ok(puts.every(({ request, sentBytes }) => request.prepared !== undefined && sentBytes === 0))
  for (const owner of cluster.owners(0)) t.ok(await isIn(owner, chunk))

  puts.length = 0
  const next = chunkOf(4, randomChunk(4, MIB).bytes)
  await cluster.clientWith({ node: apiOf(some) }).write(4, next.data, next.origin, { durability: 'all', sync: false })
  t.strictSame(
    puts.map(({ node, sentBytes }) => [node, sentBytes]),
    [['node-0', MIB]],
  )
  for (const owner of cluster.owners(4)) t.ok(await isIn(owner, next))
})

t.test('nothing is written into what a disk keeps free: the node is sent it, and has the words', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const puts: Put[] = []
  const pool = new CountingPool()
  t.teardown(() => pool.close())
  const reserveBytes = Number.MAX_SAFE_INTEGER
  const api = beside(cluster, cluster.node('node-0'), puts, undefined, { pool, reserveBytes })
  const chunk = randomChunk(1, MIB)
  await api.put(putRequest(chunk), chunk.data, CALL)
  t.equal(pool.prepared, 0)
  t.strictSame(
    puts.map(({ sentBytes }) => sentBytes),
    [MIB],
  )
})

t.test('after one that was not taken the next are sent, for a while', async (t) => {
  const { node, api, puts } = await ground(t, (of, { prepared }) => {
    if (prepared !== undefined) unlinkSync(join(of.folder, 'tmp', prepared))
  })
  for (let id = 0; id < 20; id++) {
    const chunk = randomChunk(id, 256 * KIB)
    await api.put(putRequest(chunk), chunk.data, CALL)
    t.ok(await isIn(node, chunk))
  }
  t.equal(puts.filter(({ sentBytes }) => sentBytes === 0).length, 2)
})

t.test('a disk that hangs keeps one thread: no further chunk waits for it, and the others are written', async (t) => {
  const cluster = await startCluster(t, { nodes: 3, replicas: 3, writeQuorum: 2 })
  const pool = new CountingPool()
  t.teardown(() => pool.close())
  const hung = cluster.node('node-2')
  const puts: Put[] = []
  // The others have the chunk only when the hung disk was begun with: else it may be given up before.
  const behindIt = (): Promise<void> => until('the hung disk is written to', () => pool.prepared > 0)
  const apis = new Map(
    cluster.nodes.map((node) => [
      node.id,
      node === hung ? beside(cluster, node, puts, undefined, { pool }) : beside(cluster, node, puts, behindIt),
    ]),
  )
  const client = cluster.clientWith({ node: (name) => apis.get(name) ?? cluster.node(name).api })
  const write = async (id: number): Promise<void> => {
    const { data, origin } = randomChunk(id, MIB)
    await client.write(id, data, origin, { durability: 'quorum', sync: false, deadlineMs: 60_000 })
  }
  pool.hang()
  await write(0)
  t.notOk(
    puts.some(({ node }) => node === hung.id),
    'given up while it was written',
  )
  await write(3)
  t.equal(pool.prepared, 1)
  pool.letGo()
  for (const id of [0, 3]) t.equal((await cluster.node('node-0').store.verify(id)).state, 'good')
})

t.test('an owner that is dead gets it through its queue', async (t) => {
  const cluster = await startCluster(t, { nodes: 3, replicas: 3, writeQuorum: 2 })
  const all = new Map(cluster.nodes.map((node) => [node.id, beside(cluster, node, [])]))
  const dead = cluster.node('node-1')
  dead.faults.killed = true
  const chunk = chunkOf(0, randomChunk(0, MIB).bytes)
  const node = (id: string): ChunkNodeApi => all.get(id) ?? cluster.node(id).api
  await cluster.clientWith({ node }).write(0, chunk.data, chunk.origin, { durability: 'quorum', sync: true })
  dead.faults.killed = false
  t.equal(dead.queue.length, 1)
  await until('what was begun for it has gone', () => temporariesOf(dead).length === 0)
  await cluster.drain()
  for (const owner of cluster.nodes) t.ok(await isIn(owner, chunk))
})
