/** Small chunks written beside a node: acknowledged means on its disk, wherever it is asked for, and whoever dies. */
import t from 'tap'
import { closeSync, cpSync, existsSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { systemClock } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { RingfsError, messageOf } from '../../../src/base/errors.js'
import { SMALL_CHUNK_BYTES } from '../../../src/base/limits.js'
import { silentLog } from '../../../src/base/log.js'
import { CHUNK_BUCKETS, type ChunkNodeApi, type ListReply } from '../../../src/chunk/contract.js'
import { Gate } from '../../../src/chunk/deadline.js'
import { ChunkFiles } from '../../../src/chunk/node/chunk-files.js'
import { seedOf } from '../../../src/chunk/node/disk-choice.js'
import { leftBehind, logFile } from '../../../src/chunk/node/journal-file.js'
import { JOURNAL_START } from '../../../src/chunk/node/journal-format.js'
import { NearLogs } from '../../../src/chunk/node/near-logs.js'
import { NearbyJournal } from '../../../src/chunk/node/nearby-journal.js'
import { nearbyChunkNode } from '../../../src/chunk/node/nearby.js'
import type { WorkerPool } from '../../../src/chunk/pool.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import {
  CALL,
  LATER_NEVER,
  VOLUME,
  chunkFile,
  failureOf,
  openStore,
  putRequest,
  randomChunk,
  startCluster,
  temporaryFolder,
  type Teardown,
  type TestChunk,
  type TestCluster,
  type TestNode,
} from '../../helpers/chunks.js'
import { newFolders, openDisks } from '../../helpers/disks.js'
import { logsInUse } from '../../helpers/journal.js'
import { until } from '../../helpers/meta.js'

t.setTimeout(300_000)

const SYNCED = { sync: true }
const LEFT = { volume: VOLUME, place: 'near' } as const

let nextFirst = 9_000_000

interface Beside {
  readonly journal: NearbyJournal
  readonly api: ChunkNodeApi
}

/** As a process beside the node has it. The logs are made when they are first wanted, and chunks go through the node until then. */
async function beside(t: Teardown, cluster: TestCluster, node: TestNode): Promise<Beside> {
  const { folder, id } = node
  const shared = { folder, disk: 'd', volume: VOLUME, pool: cluster.pool, clock: LATER_NEVER, log: silentLog }
  const journal = new NearbyJournal({ ...shared, node: () => node.api })
  // Else files may be made in a folder that is being removed.
  t.teardown(() => journal.close())
  const files = new ChunkFiles({ ...shared, buffers: new SharedBuffers() })
  const api = nearbyChunkNode(
    { id, volume: VOLUME, disks: [{ seed: seedOf('d'), weight: 1, files, journal }] },
    node.api,
  )
  await journal.start()
  do {
    node.calls.length = 0
    const first = randomChunk(nextFirst++, 9)
    await api.put(putRequest(first, SYNCED), first.data, CALL)
  } while (node.calls.length > 0)
  await journal.settle()
  node.calls.length = 0
  return { journal, api }
}

async function ground(t: Parameters<typeof startCluster>[0]) {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const node = cluster.node('node-0')
  return { cluster, node, ...(await beside(t, cluster, node)) }
}

async function put(api: ChunkNodeApi, chunk: TestChunk): Promise<void> {
  t.same(await api.put(putRequest(chunk, SYNCED), chunk.data, CALL), { stored: ['node-0'], queued: [], missing: [] })
}

async function isIn(api: ChunkNodeApi, { id, bytes, root, origin }: TestChunk): Promise<boolean> {
  const lengthBytes = bytes.length
  const all = await api.get({ volume: VOLUME, id, offset: 0, lengthBytes, withOrigin: true }, CALL)
  const same = all.data.equals(bytes) && JSON.stringify(all.origin) === JSON.stringify(origin)
  all.release()
  const now = api.getNow?.({ volume: VOLUME, id, offset: 0, lengthBytes })
  const sameNow = now === undefined || now === null || now.data.equals(bytes)
  now?.release()
  return same && sameNow && root.length === 32
}

async function holds(api: ChunkNodeApi, id: number): Promise<boolean> {
  return (await failureOf(api.get({ volume: VOLUME, id, offset: 0, lengthBytes: 1 }, CALL))) === ''
}

async function listedIn({ store }: TestNode): Promise<number[]> {
  const ids: number[] = []
  let from: { readonly bucket: number; readonly id: number } | null = { bucket: 0, id: 0 }
  while (from !== null) {
    const range = { fromBucket: from.bucket, toBucket: CHUNK_BUCKETS, fromId: from.id }
    const page: ListReply = await store.list({ volume: VOLUME, ...range, limit: 1000, headers: true })
    ids.push(...page.chunks.map(({ id }) => id))
    from = page.next
  }
  return ids
}

function chunks(first: number, count: number): TestChunk[] {
  return Array.from({ length: count }, (_, i) => randomChunk(first + i, 1 + (((first + i) * 7919) % SMALL_CHUNK_BYTES)))
}

t.test(
  'a node that is asked to store what lies in such a log makes a file of it: its writer may have failed to flush',
  async (t) => {
    const { node, api } = await ground(t)
    const chunk = randomChunk(1, 5000)
    await put(api, chunk)
    t.notOk(existsSync(chunkFile(node.folder, 1)))
    t.same(await node.service.put(putRequest(chunk, SYNCED), chunk.data, CALL), {
      stored: ['node-0'],
      queued: [],
      missing: [],
    })
    t.ok(existsSync(chunkFile(node.folder, 1)))
    t.ok(await isIn(node.service, chunk))
  },
)

t.test('the node is not asked for a small synced write, and has the chunk whoever asks it', async (t) => {
  const { node, api } = await ground(t)
  const written = chunks(1, 30)
  for (const chunk of written) await put(api, chunk)
  for (const chunk of written) t.ok(await isIn(api, chunk))
  t.strictSame(node.calls, [])
  for (const chunk of written) t.ok(await isIn(node.service, chunk), 'another client')
  t.same(await node.store.verify(7), { state: 'good', root: written[6]?.root })
  const ids = (await listedIn(node)).filter((id) => id < 1000)
  t.same(new Set(ids), new Set(written.map(({ id }) => id)))
  t.equal(ids.length, written.length, 'each once')
})

t.test('what was acknowledged is there after a crash of the machine, in files', async (t) => {
  const { cluster, node, api } = await ground(t)
  const written = chunks(1, 20)
  for (const chunk of written) await put(api, chunk)
  const copy = temporaryFolder(t)
  cpSync(node.folder, copy, { recursive: true })
  const after = await openStore(copy, cluster.pool)
  for (const { id, bytes } of written) {
    const read = await after.read(id, 0, bytes.length)
    t.ok(read.data.equals(bytes) && existsSync(chunkFile(copy, id)))
    read.release()
  }
  const counted = after.chunks
  t.same(await after.sync(written.map(({ id }) => id)), [])
  t.equal(after.chunks, counted, 'none is counted twice')
})

t.test('chunks get files by and by, and a log is used again when they have', async (t) => {
  const { node, journal, api } = await ground(t)
  const before = node.store.chunks
  for (let round = 0; round < 5; round++) {
    const written = chunks(1 + round * 100, 10)
    for (const chunk of written) await put(api, chunk)
    await journal.settle()
    for (const chunk of written) t.ok(existsSync(chunkFile(node.folder, chunk.id)) && (await isIn(api, chunk)))
    t.equal(journal.get(1 + round * 100), undefined)
    t.same(leftBehind({ ...LEFT, folder: node.folder }).logs, [])
    for (const chunk of written) t.ok(await isIn(node.service, chunk))
  }
  t.equal(node.store.chunks, before + 50)
})

t.test('a node that ends while it makes the files is asked again when it is back', async (t) => {
  const { cluster, node, journal: before } = await ground(t)
  before.close()
  let ends = 0
  const ending: ChunkNodeApi = {
    ...node.api,
    sync: async (volume, ids, options) => {
      if (ends-- > 0) throw new RingfsError('CANCELLED', 'the worker pool is closed')
      return await node.api.sync(volume, ids, options)
    },
  }
  const { journal, api } = await beside(t, cluster, { ...node, api: ending })
  const written = chunks(1, 3)
  for (const chunk of written) await put(api, chunk)
  ends = 1
  await journal.settle()
  for (const { id } of written) {
    t.equal(journal.get(id), undefined)
    t.ok(existsSync(chunkFile(node.folder, id)))
  }
  t.strictSame(logsInUse(node.folder, 'near'), [])
})

t.test('more than fits goes through the node', async (t) => {
  const { node, api } = await ground(t)
  // Until then the node gives nothing in the logs a file.
  const gate = new Gate()
  node.faults.before = gate.opened
  const written = Array.from({ length: 300 }, (_, i) => randomChunk(i + 1, SMALL_CHUNK_BYTES))
  const all = Promise.all(written.map((chunk) => put(api, chunk)))
  await until('the node is asked to', () => node.calls.includes('put')).finally(gate.open)
  await all
  t.ok(node.calls.includes('put'))
  for (const chunk of written) t.ok(await isIn(node.service, chunk))
})

t.test('other writes are the node’s', async (t) => {
  const { node, api } = await ground(t)
  const small = randomChunk(1, 100)
  const large = randomChunk(2, SMALL_CHUNK_BYTES + 1)
  await api.put(putRequest(small), small.data, CALL)
  await api.put(putRequest(large, SYNCED), large.data, CALL)
  const other = randomChunk(3, 100)
  await api.put(putRequest(other, { ...SYNCED, absent: ['node-7'] }), other.data, CALL).catch(() => undefined)
  t.strictSame(node.calls, ['put', 'put', 'put'])
  t.equal(
    await failureOf(api.put({ ...putRequest(other, SYNCED), volume: 'other' }, other.data, CALL)),
    'NODE_WRONG_VOLUME',
  )
})

t.test('a chunk that was removed does not come back, whoever removed it', async (t) => {
  const { cluster, node, journal, api } = await ground(t)
  const written = chunks(1, 20)
  for (const chunk of written) await put(api, chunk)
  await api.remove(VOLUME, [1, 2], CALL)
  t.ok(await isIn(node.service, written[3] ?? randomChunk(0, 1)), 'the node has looked')
  await node.store.remove([3])
  t.strictSame([await holds(api, 1), await holds(node.service, 2), await holds(node.service, 3)], [false, false, false])
  const copy = temporaryFolder(t)
  cpSync(node.folder, copy, { recursive: true })
  const after = await openStore(copy, cluster.pool)
  t.strictSame([await failureOf(after.read(1, 0, 1)), await failureOf(after.read(4, 0, 1))], ['CHUNK_MISSING', ''])
  const settling = journal.settle()
  await Promise.all([api.remove(VOLUME, [5, 6], CALL), settling])
  await api.remove(VOLUME, [7], CALL)
  for (const { id } of written) t.equal(await holds(node.service, id), id > 7 || id === 4, `chunk ${id}`)
})

t.test('the logs are there before anybody wants them, but not of one that was closed', async (t) => {
  const cluster = await startCluster(t, { nodes: 2, replicas: 1, writeQuorum: 1 })
  const journals = cluster.nodes.map(({ folder, api }) => {
    const shared = { folder, disk: 'd', volume: VOLUME, pool: cluster.pool, clock: systemClock, log: silentLog }
    return new NearbyJournal({ ...shared, node: () => api })
  })
  t.teardown(() => journals.forEach((journal) => journal.close()))
  const [closed, open] = journals
  // In the same turn: its timer has not rung.
  await closed?.start().then(() => closed.close())
  await open?.start()
  const [first, second] = cluster.nodes
  await until('there are logs', () => existsSync(logFile(second?.folder ?? '', 1, 'near')))
  t.notOk(existsSync(logFile(first?.folder ?? '', 0, 'near')))
  const chunk = randomChunk(1, 100)
  const put = async (): Promise<boolean> => (await open?.put(putRequest(chunk, SYNCED), chunk.data)) === true
  await until('they are ready', put)
  t.strictSame(second?.calls, [])
})

t.test('the next process has files made of what the last one left, and goes on', async (t) => {
  const { cluster, node, journal, api } = await ground(t)
  const written = chunks(1, 20)
  for (const chunk of written) await put(api, chunk)
  journal.close()
  await put(api, randomChunk(500, 10))
  t.same(node.calls, ['put'], 'who has closed it writes nothing more')
  const next = await beside(t, cluster, node)
  for (const chunk of written) t.ok(existsSync(chunkFile(node.folder, chunk.id)))
  t.same(leftBehind({ ...LEFT, folder: node.folder }).logs, [])
  const more = chunks(100, 20)
  for (const chunk of more) await put(next.api, chunk)
  t.strictSame(node.calls, [])
  for (const chunk of [...written, ...more]) t.ok(await isIn(node.service, chunk))
})

t.test('without a node that answers nothing is written beside it, and what was left stays', async (t) => {
  const { cluster, node, journal, api } = await ground(t)
  const written = chunks(1, 5)
  for (const chunk of written) await put(api, chunk)
  journal.close()
  const lost = new RingfsError('CONNECTION_LOST', 'it is away')
  const deaf: ChunkNodeApi = { ...node.api, sync: () => Promise.reject(lost) }
  const shared = {
    folder: node.folder,
    disk: 'd',
    volume: VOLUME,
    pool: cluster.pool,
    clock: LATER_NEVER,
    log: silentLog,
  }
  const next = new NearbyJournal({ ...shared, node: () => deaf })
  t.teardown(() => next.close())
  await next.start()
  t.equal(await next.put(putRequest(randomChunk(50, 10), SYNCED), [Buffer.alloc(10)]), false)
  t.equal(leftBehind({ ...LEFT, folder: node.folder }).logs[0]?.ids.length, 5)
  for (const chunk of written) t.ok(await isIn(node.service, chunk))
})

t.test('healing counts what is beside a node, and what is given up is given up there, too', async (t) => {
  const { node, journal, api } = await ground(t)
  const written = chunks(1, 8)
  for (const chunk of written) await put(api, chunk)
  t.same(await node.store.lacks([1, 2, 77], false), [77])
  const given = await node.store.retire([1, 2], async () => {
    // Another node that gives up the same chunk asks while this one holds its locks.
    t.same(await node.store.lacks([1, 2, 3], true), [1, 2])
    return [1]
  })
  t.equal(given, 1)
  t.same(await node.store.lacks([1, 2, 3, 77], true), [1, 77])
  await journal.settle()
  t.same(await node.store.lacks([1, 2, 3], true), [1])
})

t.test('an id has one content, beside the node as at it', async (t) => {
  const { node, api, journal } = await ground(t)
  const [one, other] = [randomChunk(5, 500), randomChunk(5, 500)]
  await put(api, one)
  await put(api, one)
  t.equal(await failureOf(put(api, other)), 'CHUNK_CONFLICT')
  t.equal(await failureOf(node.api.put(putRequest(other), other.data, CALL)), 'CHUNK_CONFLICT')
  await journal.settle()
  await put(api, one)
  t.equal(await failureOf(put(api, other)), 'CHUNK_CONFLICT')
  t.ok(await isIn(node.service, one))
})

t.test('a record that is being written is none yet', async (t) => {
  const { node, api, cluster } = await ground(t)
  const [one, two] = [randomChunk(1, 3000), randomChunk(2, 3000)]
  await put(api, one)
  const log = [0, 1]
    .map((at) => logFile(node.folder, at, 'near'))
    .find((file) => readFileSync(file).includes(one.bytes))
  const file = log ?? ''
  const end = readFileSync(file).indexOf(one.bytes) + one.bytes.length
  await put(api, two)
  const whole = readFileSync(file)
  const from = Math.ceil(end / 8) * 8
  // On this thread, and in another one.
  const [near, far] = [true, false].map((isInline) => {
    return new NearLogs(node.folder, { pool: cluster.pool, isInline })
  })
  for (const cut of [10, 60, 200, 2000]) {
    const torn = Buffer.from(whole)
    torn.fill(0, from + cut)
    write(file, torn)
    for (const logs of [near, far]) {
      t.equal(await logs?.get(2), undefined, `after ${cut} bytes`)
      t.ok((await logs?.get(1))?.file.includes(one.bytes))
    }
  }
  write(file, whole)
  for (const logs of [near, far]) t.ok((await logs?.get(2))?.file.includes(two.bytes))
  t.ok(from > JOURNAL_START)
})

t.test('a record that goes bad beside the node is given to it, and those behind it are found', async (t) => {
  const { node, api, journal, cluster } = await ground(t)
  const written = chunks(1, 6)
  for (const chunk of written) await put(api, chunk)
  const [log] = logsInUse(node.folder, 'near')
  const crashed = temporaryFolder(t)
  const bad = log?.chunks[1] ?? Buffer.alloc(1)
  bad.writeUInt8(bad.readUInt8(bad.length - 1) ^ 1, bad.length - 1)
  write(log?.file ?? '', log?.bytes ?? Buffer.alloc(0))
  cpSync(node.folder, crashed, { recursive: true })
  await journal.settle()
  // The bad one may be in the node's own journal.
  for (const { id } of written) t.ok(id === 2 || existsSync(chunkFile(node.folder, id)), `chunk ${id}`)
  for (const chunk of written) t.ok(await isIn(node.service, chunk))
  t.equal(node.store.damage.bad, 1)

  const after = await openStore(crashed, cluster.pool)
  t.strictSame(
    await after.lacks(
      written.map(({ id }) => id),
      true,
    ),
    [2],
    'when its writer has gone, too, it is missing, and the others are not',
  )
  t.match(after.damage, { bad: 1, ids: [2] })
})

t.test(
  'what is deleted while it is given to the node, as it has gone bad beside it, does not stay there',
  async (t) => {
    const { node, api, journal, cluster } = await ground(t)
    for (const chunk of chunks(1, 3)) await put(api, chunk)
    const [log] = logsInUse(node.folder, 'near')
    for (const bad of log?.chunks.slice(0, 2) ?? []) bad.writeUInt8(bad.readUInt8(bad.length - 1) ^ 1, bad.length - 1)
    write(log?.file ?? '', log?.bytes ?? Buffer.alloc(0))
    const given: number[] = []
    cluster.node('node-0').api.put = async (request, data, options) => {
      given.push(request.id)
      // Both: the one that is on its way, and the one that is not yet.
      if (given.length === 1) await api.remove(VOLUME, [1, 2], CALL)
      return await node.service.put(request, data, options)
    }
    await journal.settle()
    t.strictSame(given, [1])
    t.strictSame([await holds(node.service, 1), await holds(node.service, 2)], [false, false])
    t.ok(await holds(node.service, 3))
  },
)

t.test('three nodes of one machine: a client beside them asks none, and one that is not finds all', async (t) => {
  const cluster = await startCluster(t, { nodes: 3 })
  const apis = new Map<string, ChunkNodeApi>()
  for (const node of cluster.nodes) apis.set(node.id, (await beside(t, cluster, node)).api)
  const client = cluster.clientWith({ node: (id) => apis.get(id) ?? cluster.node(id).api })
  const written = chunks(3000, 20)
  const refs = []
  for (const { id, data, origin } of written) {
    refs.push(await client.write(id, data, origin, { durability: 'quorum', sync: true }))
  }
  for (const node of cluster.nodes) t.strictSame(node.calls, [])
  for (const [at, ref] of refs.entries()) {
    t.ok((await client.read(ref, 0, ref.lengthBytes)).equals(written[at]?.bytes ?? Buffer.alloc(0)))
    t.ok((await cluster.client.read(ref, 0, ref.lengthBytes)).equals(written[at]?.bytes ?? Buffer.alloc(0)))
    for (const node of cluster.nodes) t.ok(await holds(node.service, ref.id))
  }
})

/** A node of one disk, of which only what the journal beside it asks for is there. */
async function nodeOf(folder: string, pool: WorkerPool) {
  const ends: (() => Promise<void>)[] = []
  const teardown = (end: () => unknown): void => {
    ends.push(async () => {
      await end()
    })
  }
  const disks = await openDisks({ teardown }, pool, [folder])
  const end = async (): Promise<void> => {
    for (const one of ends) await one()
  }
  return { disks, end }
}

t.test(
  'what the node cannot tell was not removed: its disks have failed, or it was started again meanwhile',
  async (t) => {
    const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
    const { pool } = cluster
    const inner = cluster.node('node-0').api
    const [folder = ''] = newFolders(t, 1)
    let { disks, end } = await nodeOf(folder, pool)
    const disk = disks.live[0]?.disk ?? ''
    const syncs: string[] = []
    let lie = 0
    const api: ChunkNodeApi = {
      ...inner,
      sync: async (_volume, ids) => {
        // As a node that loses the disk in the middle of it, and has it again before it is asked which disks it has.
        if (lie-- > 0) return { missing: ids }
        const missing = await disks.sync(ids).catch((error: unknown) => {
          syncs.push(messageOf(error))
          throw error
        })
        return { missing }
      },
      info: async () => ({ ...(await inner.info(CALL)), disks: disks.live.map((one) => one.disk) }),
      put: () => Promise.reject(new PosixError('EIO', 'no disk')),
    }
    const shared = { folder, disk, volume: VOLUME, pool, clock: LATER_NEVER, log: silentLog }
    const journal = new NearbyJournal({ ...shared, node: () => api })
    t.teardown(() => journal.close())
    await journal.start()
    let id = 100
    await until('the logs are made', () => {
      const first = randomChunk(id++, 9)
      return journal.put(putRequest(first, SYNCED), first.data)
    })
    await journal.settle()
    const chunk = randomChunk(5000, 900)
    t.ok(await journal.put(putRequest(chunk, SYNCED), chunk.data))
    renameSync(`${folder}/tmp`, `${folder}/tmp.away`)
    await disks.check(true)
    t.same(disks.live, [])
    const settled = journal.settle()
    await until('the node was asked', () => syncs.length > 0)
    t.same(leftBehind({ ...LEFT, folder }).logs[0]?.ids, [5000], 'the log is kept')
    t.ok(journal.get(5000) !== undefined)
    await end()
    renameSync(`${folder}/tmp.away`, `${folder}/tmp`)
    ;({ disks, end } = await nodeOf(folder, pool))
    t.teardown(end)
    await settled
    t.same(await disks.lacks([5000], true), [])
    t.ok(existsSync(chunkFile(folder, 5000)))
    const last = randomChunk(6000, 900)
    await until('it is written beside the node', () => journal.put(putRequest(last, SYNCED), last.data))
    lie = 1
    await journal.settle()
    t.ok(existsSync(chunkFile(folder, 6000)), 'what is said once is not believed')
  },
)

function write(file: string, bytes: Buffer): void {
  const fd = openSync(file, 'r+')
  writeSync(fd, bytes, 0, bytes.length, 0)
  closeSync(fd)
}
