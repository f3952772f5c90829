/** A long chunk of the node in this process is hashed by the job that writes it: the same file, and nothing of what was given up. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Cancellation } from '../../../src/base/cancel.js'
import { PosixError } from '../../../src/base/errno.js'
import { CHUNK_MAX_BYTES, KIB, LEAF_BYTES } from '../../../src/base/limits.js'
import { threadPlaces } from '../../../src/base/thread-places.js'
import type { PlacementSource } from '../../../src/chunk/client/placement.js'
import type { ChunkNodeApi, ChunkWriteOptions } from '../../../src/chunk/contract.js'
import { leafHashes, rootOf } from '../../../src/chunk/hash.js'
import { hashAndStoreChunkFile } from '../../../src/chunk/node/chunk-file.js'
import { WorkerPool, type Job } from '../../../src/chunk/pool.js'
import {
  CALL,
  VOLUME,
  chunkFile,
  failureOf,
  openStore,
  originOf,
  placementOf,
  poolOf,
  randomChunk,
  startCluster,
  temporaryFolder,
} from '../../helpers/chunks.js'
import { until } from '../../helpers/deadline.js'
import { newFolders, openDisks } from '../../helpers/disks.js'

t.setTimeout(300_000)

const WANTED = { sync: false, signal: undefined }
const QUORUM: ChunkWriteOptions = { durability: 'quorum', sync: false }
const LONG_BYTES = 300_000

/** Whose jobs that hash and write wait until they are let go. */
class GatedPool extends WorkerPool {
  /** Of each such job. */
  readonly givenUp: Int32Array[] = []
  letGo: () => void = () => undefined
  readonly #gate = new Promise<void>((resolve) => (this.letGo = resolve))

  override async run<Input, Output>(job: Job<Input, Output>, input: Input): Promise<Output> {
    if (hasFlag(input)) {
      this.givenUp.push(input.givenUp)
      await this.#gate
    }
    return await super.run(job, input)
  }
}

function hasFlag(input: unknown): input is { readonly givenUp: Int32Array } {
  return typeof input === 'object' && input !== null && 'givenUp' in input && input.givenUp instanceof Int32Array
}

t.test('the file is the one that a put with hashes makes, of any length and in any pieces', async (t) => {
  const [folder, other] = [temporaryFolder(t), temporaryFolder(t)]
  const pool = poolOf(t)
  const [store, usual] = [await openStore(folder, pool), await openStore(other, pool)]
  for (const [id, size] of [64 * KIB + 1, 8 * LEAF_BYTES, LONG_BYTES, CHUNK_MAX_BYTES].entries()) {
    const chunk = randomChunk(id, size)
    const pieces = [chunk.bytes.subarray(0, size >> 1), chunk.bytes.subarray(size >> 1)]
    const leaves = await store.putUnhashed(chunk, pieces, { ...WANTED, sync: id % 2 === 0 })
    await usual.put(chunk, pieces)
    t.ok(leaves.equals(chunk.leaves))
    t.ok(readFileSync(chunkFile(folder, id)).equals(readFileSync(chunkFile(other, id))), `${size} bytes`)
    t.ok((await store.read(id, 0, size)).data.equals(chunk.bytes))
    t.strictSame(await store.sync([id]), [])
  }
  t.equal(store.chunks, 4)
  t.strictSame(readdirSync(join(folder, 'tmp')), [])
})

t.test('put again it is known, with other contents refused, and a bad copy in its way is set aside', async (t) => {
  const folder = temporaryFolder(t)
  const store = await openStore(folder, poolOf(t))
  const [chunk, other] = [randomChunk(1, LONG_BYTES), randomChunk(1, LONG_BYTES)]
  await store.put(chunk, chunk.data)
  t.ok((await store.putUnhashed(chunk, chunk.data, WANTED)).equals(chunk.leaves))
  t.equal(await failureOf(store.putUnhashed(other, other.data, WANTED)), 'CHUNK_CONFLICT')
  writeFileSync(chunkFile(folder, 1), readFileSync(chunkFile(folder, 1)).fill(0, 100_000))
  await store.putUnhashed(chunk, chunk.data, WANTED)
  t.equal((await store.verify(1)).state, 'good')
  t.equal(store.chunks, 1)
  t.equal(readdirSync(join(folder, 'quarantine')).length, 1)
  t.strictSame(readdirSync(join(folder, 'tmp')), [])
})

t.test('a small chunk of the same id that has no file yet is no less in its way', async (t) => {
  const store = await openStore(temporaryFolder(t), poolOf(t))
  const small = randomChunk(1, 4 * KIB)
  await store.put(small, small.data, true)
  t.equal(
    await failureOf(store.putUnhashed(randomChunk(1, LONG_BYTES), [randomBytes(LONG_BYTES)], WANTED)),
    'CHUNK_CONFLICT',
  )
  t.ok((await store.read(1, 0, 4 * KIB)).data.equals(small.bytes))
})

t.test('what was given up before all was written gets no name', (t) => {
  const folder = temporaryFolder(t)
  const [file, temporary] = [join(folder, 'chunk'), join(folder, 'temporary')]
  const givenUp = new Int32Array(new SharedArrayBuffer(4))
  const { origin, data } = randomChunk(1, LONG_BYTES)
  const task = {
    volume: VOLUME,
    id: 1,
    origin,
    data,
    folder,
    file,
    temporary,
    quarantine: join(folder, 'bad'),
    givenUp,
    places: threadPlaces(1),
  }
  const whileHashed = {
    ...{ ...task, direct: false },
    get temporary(): string {
      givenUp[0] = 1
      return temporary
    },
  }
  givenUp[0] = 0
  t.throws(() => hashAndStoreChunkFile(whileHashed), { code: 'CANCELLED' })
  t.strictSame(readdirSync(folder), [])
  givenUp[0] = 1
  const nowhere = { ...task, temporary: join(folder, 'none', 'temporary'), direct: false }
  t.throws(
    () => hashAndStoreChunkFile(nowhere),
    { code: 'CANCELLED' },
    'nothing is written of what was given up before',
  )
  givenUp[0] = 0
  hashAndStoreChunkFile({ ...task, direct: false })
  t.strictSame(readdirSync(folder), ['chunk'])
  t.end()
})

t.test('data that change once they are given up are not stored', async (t) => {
  const folder = temporaryFolder(t)
  const pool = new GatedPool({ threads: 1 })
  t.teardown(() => pool.close())
  const store = await openStore(folder, pool)
  const chunk = randomChunk(1, LONG_BYTES)
  const signal = new Cancellation()
  const put = failureOf(store.putUnhashed(chunk, chunk.data, { sync: false, signal }))
  await until('it is being written', () => pool.givenUp.length > 0)
  signal.cancel()
  chunk.bytes.fill(0)
  pool.letGo()
  t.equal(await put, 'CANCELLED')
  t.equal(await failureOf(store.read(1, 0, 1)), 'CHUNK_MISSING')
  t.equal(
    await failureOf(store.putUnhashed(chunk, chunk.data, { sync: false, signal })),
    'CANCELLED',
    'nor from the start',
  )
  t.equal(store.chunks, 0)
  t.strictSame(readdirSync(join(folder, 'tmp')), [])
})

t.test('a disk that has failed while it wrote stores nothing of it any more: another one has it', async (t) => {
  const folders = newFolders(t, 2)
  const pools: GatedPool[] = []
  const newPool = (): WorkerPool => {
    const pool = new GatedPool({ threads: 2 })
    pools.push(pool)
    return pool
  }
  const disks = await openDisks(t, poolOf(t), folders, { newPool })
  const chunk = randomChunk(1, LONG_BYTES)
  const put = disks.putUnhashed(chunk, chunk.data, WANTED)
  await until('a disk writes it', () => pools.some(({ givenUp }) => givenUp.length > 0))
  const first = pools.findIndex(({ givenUp }) => givenUp.length > 0)
  rmSync(folders[first] ?? '', { recursive: true })
  await disks.check(true)
  const second = pools[1 - first]
  await until('the other one writes it', () => second !== undefined && second.givenUp.length > 0)
  second?.letGo()
  t.ok((await put).equals(chunk.leaves))
  t.equal(pools[first]?.givenUp[0]?.[0], 1, 'who still writes is told')
  pools[first]?.letGo()
  t.equal((await disks.verify(1)).state, 'good')
})

t.test('only a long chunk, and only where the node in this process is all that gets it', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { calls } = cluster.node('node-0')
  const write = async (client: typeof cluster.client, id: number, size: number): Promise<void> => {
    const bytes = randomBytes(size)
    const ref = await client.write(id, [bytes], originOf(size), { ...QUORUM, sync: id === 1 })
    t.ok((await client.read(ref, 0, size)).equals(bytes))
  }
  const local = cluster.clientWith({ localNode: 'node-0' })
  await write(local, 1, LONG_BYTES)
  await write(local, 2, CHUNK_MAX_BYTES)
  await write(local, 3, 100 * KIB)
  await write(cluster.client, 4, LONG_BYTES)
  t.strictSame(
    calls.filter((call) => call !== 'get'),
    ['putUnhashed', 'putUnhashed', 'put', 'put'],
  )
  const two = await startCluster(t, { nodes: 2, replicas: 2, writeQuorum: 1 })
  await write(two.clientWith({ localNode: 'node-0' }), 0, LONG_BYTES)
  t.notOk(two.node('node-0').calls.includes('putUnhashed'), 'others are to get it, too')
})

t.test('a node that does not manage it is asked as any other, with the hashes of the same data', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { api, calls } = cluster.node('node-0')
  const bytes = randomBytes(LONG_BYTES)
  const write = async (id: number, putUnhashed: NonNullable<ChunkNodeApi['putUnhashed']>): Promise<Buffer> => {
    const client = cluster.clientWith({ localNode: 'node-0', attemptMs: 300, node: () => ({ ...api, putUnhashed }) })
    return (await client.write(id, [bytes], originOf(LONG_BYTES), QUORUM)).root
  }
  const root = rootOf(leafHashes([bytes]))
  t.ok((await write(1, () => Promise.reject(new PosixError('EIO')))).equals(root))
  let isAborted = false
  const hang: NonNullable<ChunkNodeApi['putUnhashed']> = async (_request, _data, { signal }) =>
    await new Promise(() => signal?.addEventListener('abort', () => (isAborted = true)))
  t.ok((await write(2, hang)).equals(root))
  t.ok(isAborted, 'the data are the caller’s again')
  t.strictSame(calls, ['put', 'put'])
  t.equal((await cluster.node('node-0').store.verify(2)).state, 'good')
})

t.test('other contents of the same id: refused; a full node: ENOSPC', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const client = cluster.clientWith({ localNode: 'node-0' })
  const write = (id: number): Promise<unknown> =>
    client.write(id, [randomBytes(LONG_BYTES)], originOf(LONG_BYTES), QUORUM)
  await write(1)
  t.equal(await failureOf(write(1)), 'CHUNK_CONFLICT')
  cluster.node('node-0').faults.putError = new PosixError('ENOSPC')
  t.equal(await failureOf(write(2)), 'ENOSPC')
})

t.test('a node that knows a newer ring tells so, and the owners of today get it', async (t) => {
  const cluster = await startCluster(t, {
    ...{ nodes: 2, replicas: 1, writeQuorum: 1 },
    epochs: () => ({ current: () => 2, onNewer: () => undefined }),
  })
  let known = placementOf(cluster, 1, 0)
  const placement: PlacementSource = {
    current: () => known,
    refresh: async () => (known = await Promise.resolve(placementOf(cluster, 2, 1))),
  }
  const client = cluster.clientWith({ localNode: 'node-0', placement })
  await client.write(0, [randomBytes(LONG_BYTES)], originOf(LONG_BYTES), QUORUM)
  t.strictSame(cluster.node('node-0').calls, ['putUnhashed'])
  t.match(cluster.node('node-1').queue, [{ kind: 'copy', chunk: 0, epoch: 2 }])
})

t.test('a node refuses what is of another volume, or no chunk', async (t) => {
  const cluster = await startCluster(t, { nodes: 1 })
  const { service, folder } = cluster.node('node-0')
  const put = { volume: VOLUME, id: 1, origin: originOf(LONG_BYTES), sync: false }
  const other = { ...put, volume: '00000000-0000-4000-8000-000000000000' }
  t.equal(await failureOf(service.putUnhashed(other, [randomBytes(LONG_BYTES)], CALL)), 'NODE_WRONG_VOLUME')
  t.equal(await failureOf(service.putUnhashed(put, [], CALL)), 'EINVAL')
  t.equal(await failureOf(service.putUnhashed(put, [randomBytes(CHUNK_MAX_BYTES), randomBytes(1)], CALL)), 'EINVAL')
  t.notOk(existsSync(chunkFile(folder, 1)))
})
