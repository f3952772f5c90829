/** Scrubbing: rotten copies are found, replaced and set aside; the last copy stays; the place is kept. */
import t, { type Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../../src/base/clock.js'
import { PosixError } from '../../../src/base/errno.js'
import { silentLog } from '../../../src/base/log.js'
import { Gate } from '../../../src/chunk/deadline.js'
import type { ChunkNodeApi, ScrubState } from '../../../src/chunk/contract.js'
import { Scrubber } from '../../../src/chunk/node/scrub.js'
import type { ChunkDisk } from '../../../src/chunk/node/disk.js'
import {
  CALL,
  VOLUME,
  chunkFile,
  failureOf,
  originOf,
  randomChunk,
  startCluster,
  temporaryFolder,
  type TestNode,
} from '../../helpers/chunks.js'
import { ManualClock } from '../../helpers/manual-clock.js'
import { until } from '../../helpers/meta.js'

t.setTimeout(300_000)

const DAY_MS = 86_400_000

function rot(folder: string, chunk: number, at = 1): void {
  const file = chunkFile(folder, chunk)
  const bytes = readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(bytes.length - at) ^ 1, bytes.length - at)
  // Whoever has the old one open keeps it.
  rmSync(file)
  writeFileSync(file, bytes)
}

/** Two nodes with a copy each of chunk 5, that of `node` rotten. */
async function rottenOnOne(t: Test): Promise<{ readonly node: TestNode; readonly other: TestNode }> {
  const cluster = await startCluster(t, { nodes: 2, replicas: 2, writeQuorum: 1 })
  const [node, other] = cluster.nodes
  if (node === undefined || other === undefined) throw new Error('no nodes')
  t.teardown(() => node.service.scrubber.stop())
  await cluster.client.write(5, [Buffer.alloc(50_000, 1)], originOf(50_000), { durability: 'all', sync: false })
  rot(node.folder, 5)
  return { node, other }
}

async function round(api: ChunkNodeApi): Promise<ScrubState> {
  let state = await api.scrub({ volume: VOLUME, action: 'start', bytesPerSecond: 2 ** 30 }, CALL)
  await until('the round is over', async () => {
    state = await api.scrub({ volume: VOLUME, action: 'status', bytesPerSecond: 0 }, CALL)
    return !state.isHasty
  })
  return state
}

t.test('a rotten copy is replaced by a good one and set aside; the last copy stays as it is', async (t) => {
  const cluster = await startCluster(t, { nodes: 3 })
  const [node] = cluster.nodes
  if (node === undefined) throw new Error('no node')
  t.teardown(() => node.service.scrubber.stop())
  const write = { durability: 'all', sync: false } as const
  const data = Buffer.alloc(100_000, 7)
  for (const id of [1, 2, 3, 2 ** 40]) await cluster.client.write(id, [data], originOf(data.length), write)
  t.match(await round(node.api), { checked: 4, checkedBytes: 400_000, bad: 0, replaced: 0 })
  rot(node.folder, 2)
  rot(node.folder, 3)
  for (const other of cluster.nodes.slice(1)) await other.service.remove(VOLUME, [3])
  t.match(await round(node.api), { checked: 4, bad: 2, replaced: 1 })
  t.equal((await node.store.verify(2)).state, 'good')
  t.equal(readdirSync(join(node.folder, 'quarantine')).length, 1)
  const left = await node.api.get({ volume: VOLUME, id: 3, offset: 0, lengthBytes: 100 }, CALL)
  t.ok(left.data.subarray(0, 100).equals(data.subarray(0, 100)), 'its other leaves can be read still')
})

t.test('a bad copy stays while nobody who may have a good one answers, and is replaced then', async (t) => {
  const { node, other } = await rottenOnOne(t)
  other.faults.killed = true
  t.match(await round(node.api), { bad: 1, replaced: 0 })
  t.equal((await node.store.verify(5)).state, 'bad', 'it is there still')
  other.faults.killed = false
  t.match(await round(node.api), { bad: 1, replaced: 1 })
})

t.test('of copies that are rotten in different places whole ones are made again; all can be read before', async (t) => {
  const cluster = await startCluster(t, { nodes: 2, replicas: 2, writeQuorum: 2 })
  for (const lengthBytes of [50_000, 500_000]) {
    const data = randomBytes(lengthBytes)
    const options = { durability: 'all', sync: true } as const
    const ref = await cluster.client.write(lengthBytes, [data], originOf(lengthBytes), options)
    for (const [index, { folder, store }] of cluster.nodes.entries()) {
      await store.settle()
      rot(folder, ref.id, index === 0 ? 1 : lengthBytes)
    }
    for (const { faults } of cluster.nodes) faults.unreported = true
    t.ok((await cluster.client.read(ref, 0, lengthBytes)).equals(data), `${lengthBytes} bytes in one read`)
    t.ok((await cluster.client.read(ref, 10_000, 30_000)).equals(data.subarray(10_000, 40_000)), 'and a part')
    for (const { faults, store } of cluster.nodes) {
      faults.unreported = false
      t.equal((await store.verify(ref.id)).state, 'bad')
    }
    for (const { api, service, store } of cluster.nodes) {
      t.teardown(() => service.scrubber.stop())
      await round(api)
      t.equal((await store.verify(ref.id)).state, 'good')
    }
  }
})

t.test('what is rotten in the same place stays where it is, and all else of it can be read', async (t) => {
  const cluster = await startCluster(t, { nodes: 2, replicas: 2, writeQuorum: 2 })
  const data = randomBytes(500_000)
  const ref = await cluster.client.write(7, [data], originOf(data.length), { durability: 'all', sync: true })
  rot(cluster.node('node-0').folder, 7, 1)
  rot(cluster.node('node-1').folder, 7, 1)
  rot(cluster.node('node-1').folder, 7, data.length)
  for (const { api, service } of cluster.nodes) {
    t.teardown(() => service.scrubber.stop())
    t.match(await round(api), { replaced: 0 })
  }
  t.ok((await cluster.client.read(ref, 0, 400_000)).equals(data.subarray(0, 400_000)))
  t.equal(await failureOf(cluster.client.read(ref, 0, data.length)), 'CHUNK_CORRUPT')
  for (const { store } of cluster.nodes) t.equal((await store.verify(7)).state, 'bad')
})

t.test('what is deleted while a good copy of it is fetched counts as no bad one', async (t) => {
  const { node, other } = await rottenOnOne(t)
  const gate = new Gate()
  other.faults.before = gate.opened
  other.calls.length = 0
  const scrubbed = round(node.api)
  await until('it is fetched', () => Promise.resolve(other.calls.length > 0))
  await node.service.remove(VOLUME, [5])
  gate.open()
  t.match(await scrubbed, { checked: 1, bad: 0, replaced: 0 })
  t.equal((await node.store.verify(5)).state, 'missing')
})

t.test('who looks does not begin the next round, nor take the figures of the last one away', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { service, store } = cluster.node('node-0')
  const chunk = randomChunk(5, 100)
  await store.put(chunk, chunk.data)
  await round(service)
  for (let look = 0; look < 5; look++) {
    t.match(await service.scrub({ volume: VOLUME, action: 'status', bytesPerSecond: 0 }), {
      bucket: 0,
      checked: 1,
      checkedBytes: 100,
    })
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  await service.scrubber.stop()
})

/** The store as a disk that notes where each look begins. */
function watched(store: TestNode['store'], walked: number[]): ChunkDisk {
  return {
    put: (chunk, data, sync) => store.put(chunk, data, sync),
    sync: (ids) => store.sync(ids),
    read: (id, offset, lengthBytes) => store.read(id, offset, lengthBytes),
    readNow: () => null,
    readLeaves: (places) => store.readLeaves(places),
    verify: (id) => store.verify(id),
    list: async (request) => {
      walked.push(request.fromBucket)
      return await store.list(request)
    },
    quarantine: (id) => store.quarantine(id),
    isRetiring: (id) => store.isRetiring(id),
    lacks: (...args) => store.lacks(...args),
    retire: (...args) => store.retire(...args),
    remove: (ids) => store.remove(ids),
    space: () => store.space(),
    chunks: 0,
  }
}

t.test('a chunk that cannot be looked at is looked at once more, and holds nothing up', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { service, store } = cluster.node('node-0')
  const [passing, lasting, ...well] = [5, 2 ** 20, 2 ** 30, 2 ** 40]
  for (const id of [passing, lasting, ...well]) {
    const chunk = randomChunk(id, 100)
    await store.put(chunk, chunk.data)
  }
  const looks: number[] = []
  const verify: ChunkDisk['verify'] = async (id) => {
    looks.push(id)
    const isFirst = looks.filter((one) => one === id).length === 1
    if (id === lasting || (id === passing && isFirst)) throw new PosixError('EMFILE', 'too many open files')
    return await store.verify(id)
  }
  const clock = new ManualClock()
  const scrubber = new Scrubber(
    { volume: VOLUME, disk: { ...watched(store, []), verify }, clock, log: silentLog },
    service.repairer,
  )
  t.teardown(() => scrubber.stop())
  const control = (action: 'start' | 'status') => scrubber.control({ volume: VOLUME, action, bytesPerSecond: 2 ** 30 })
  control('start')
  await until('the round is over', async () => {
    await clock.pass(1_000)
    return !control('status').isHasty
  })
  t.match(control('status'), { checked: 3, bad: 0, unread: 1, unlisted: 0 })
  t.strictSame(
    [...looks].sort((a, b) => a - b),
    [passing, passing, lasting, lasting, ...well],
  )
})

t.test('it ends at once also while what it looks at fails', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { service, store } = cluster.node('node-0')
  const clock = new ManualClock()
  const gate = new Gate()
  let isAsked = false
  const list: ChunkDisk['list'] = async () => {
    isAsked = true
    await gate.opened
    throw new PosixError('EIO', 'no disk works')
  }
  const disk = { ...watched(store, []), list }
  const scrubber = new Scrubber({ volume: VOLUME, disk, clock, log: silentLog }, service.repairer)
  scrubber.control({ volume: VOLUME, action: 'start', bytesPerSecond: 1 })
  await until('it lists', () => Promise.resolve(isAsked))
  const stopped = scrubber.stop()
  gate.open()
  await stopped
  t.pass('no time has passed')
})

t.test('who hastens looks at several folders at a time', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { service, store } = cluster.node('node-0')
  const ids = [5, 2 ** 20, 2 ** 30, 2 ** 40]
  for (const chunk of ids.map((id) => randomChunk(id, 100))) await store.put(chunk, chunk.data)
  const walked: number[] = []
  const options = { volume: VOLUME, disk: watched(store, walked), clock: systemClock, log: silentLog }
  const scrubber = new Scrubber(options, service.repairer)
  t.teardown(() => scrubber.stop())
  const control = (action: 'start' | 'status') => scrubber.control({ volume: VOLUME, action, bytesPerSecond: 2 ** 30 })
  control('start')
  await until('the round is over', () => Promise.resolve(!control('status').isHasty))
  t.match(control('status'), { checked: ids.length, bad: 0 })
  t.equal(walked.length, 4096 / 16)
})

t.test('a round takes as long as it is told, also when that is changed while it runs', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const { service, store } = cluster.node('node-0')
  const walked: number[] = []
  const clock = new ManualClock()
  let days = 7
  // Empty, and nothing of it takes any time but that of the clock.
  const list: ChunkDisk['list'] = async ({ fromBucket }) => {
    walked.push(fromBucket)
    return await Promise.resolve({ chunks: [], next: null })
  }
  const options = { volume: VOLUME, disk: { ...watched(store, walked), list }, clock, log: silentLog }
  const scrubber = new Scrubber({ ...options, scrubPeriodMs: () => days * DAY_MS }, service.repairer)
  const walkedIn = async (hours: number): Promise<number> => {
    const before = walked.length
    for (let minute = 0; minute < 60 * hours; minute++) await clock.pass(60_000)
    return walked.length - before
  }
  scrubber.start()
  const inAWeek = await walkedIn(4)
  t.ok(inAWeek > 80 && inAWeek < 100, `${inAWeek} folders in four hours: 4096 in a week`)
  days = 70
  const inTen = await walkedIn(4)
  t.ok(inTen > 5 && inTen < 12, `${inTen}: 4096 in ten weeks`)
  days = 3.5
  const inAHalf = await walkedIn(4)
  t.ok(inAHalf > 160 && inAHalf < 200, `${inAHalf}: 4096 in half a week`)
  const stopped = scrubber.stop()
  await clock.pass(1_000)
  await stopped
})

t.test('a restart goes on where it was; a place that cannot be read begins anew', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, replicas: 1, writeQuorum: 1 })
  const [node] = cluster.nodes
  if (node === undefined) throw new Error('no node')
  const scrubFile = join(temporaryFolder(t), 'scrub.json')
  const walked: number[] = []
  const { store } = node
  const disk = watched(store, walked)
  const options = { volume: VOLUME, disk, clock: systemClock, log: silentLog, scrubFile: () => scrubFile }
  const kept = { bucket: 4000, startedMs: 5, finishedMs: 3, checked: 9, checkedBytes: 99, bad: 1, replaced: 1 }
  writeFileSync(scrubFile, JSON.stringify(kept))
  const first = new Scrubber({ ...options, scrubPeriodMs: () => 4096 }, node.service.repairer)
  const status = { volume: VOLUME, action: 'status', bytesPerSecond: 0 } as const
  t.match(first.control(status), kept)
  first.start()
  await until('the round ends', () => first.control(status).finishedMs > 3)
  await first.stop()
  t.strictSame(walked.slice(0, 3), [4000, 4001, 4002])
  t.ok(walked.length < 200, 'and not all of it')
  t.ok(new Scrubber(options, node.service.repairer).control(status).finishedMs > 3)
  writeFileSync(scrubFile, '{')
  t.match(new Scrubber(options, node.service.repairer).control(status), { bucket: 0, checked: 0 })
})
