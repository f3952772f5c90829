import t from 'tap'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PosixError } from '../../../src/base/errno.js'
import type { ChunkDisk } from '../../../src/chunk/node/disk.js'
import { RemovedLately } from '../../../src/chunk/node/removed-lately.js'
import type { ChunkStore } from '../../../src/chunk/node/store.js'
import { chunkNodeSuite } from '../../conformance/chunk-node.js'
import {
  CALL,
  VOLUME,
  chunkFile,
  failureOf,
  putRequest,
  randomChunk,
  startCluster,
  type TestNode,
} from '../../helpers/chunks.js'
import { ManualClock } from '../../helpers/manual-clock.js'

t.setTimeout(300_000)

t.test('ChunkService is a chunk node', async (t) => {
  chunkNodeSuite(t, async (t) => {
    const [node] = (await startCluster(t, { nodes: 1 })).nodes
    if (node === undefined) throw new Error('no node')
    return { api: node.service, nodeId: node.id }
  })
})

async function has(node: TestNode, id: number): Promise<boolean> {
  return (await node.store.verify(id)).state === 'good'
}

t.test('the first owner passes a chunk on to the others, and says who has it', async (t) => {
  const cluster = await startCluster(t, { nodes: 3 })
  const chunk = randomChunk(0, 300_000)
  const request = putRequest(chunk, { forward: ['node-1', 'node-2'], copies: 2, sync: true })
  const reply = await cluster.node('node-0').api.put(request, chunk.data, CALL)
  t.strictSame(new Set(reply.stored), new Set(['node-0', 'node-1', 'node-2']))
  t.strictSame([reply.queued, reply.missing], [[], []])
  for (const node of cluster.nodes) t.ok(await has(node, 0))
})

t.test('who does not confirm in its grace, or is absent, is queued before the reply', async (t) => {
  const cluster = await startCluster(t, { nodes: 4, graceMs: 30 })
  cluster.node('node-1').faults.hung = true
  const chunk = randomChunk(0, 1000)
  const request = putRequest(chunk, { forward: ['node-1', 'node-2'], absent: ['node-3'], copies: 2 })
  const reply = await cluster.node('node-0').api.put(request, chunk.data, CALL)
  t.strictSame(new Set(reply.stored), new Set(['node-0', 'node-2']))
  t.strictSame(new Set(reply.queued), new Set(['node-1', 'node-3']))
  for (const id of ['node-1', 'node-3']) {
    t.match(
      cluster.node(id).queue,
      [{ kind: 'copy', chunk: 0, sources: new Set(['node-0', 'node-2']) }].map((task) => ({ ...task, sources: Array })),
    )
  }
  cluster.node('node-1').faults.hung = false
  await cluster.drain()
  for (const node of cluster.nodes) t.ok(await has(node, 0), node.id)
})

t.test('who can be reached neither way is missing', async (t) => {
  const cluster = await startCluster(t, { nodes: 3 })
  cluster.node('node-1').faults.killed = true
  cluster.queueWorks = false
  const chunk = randomChunk(0, 1000)
  const request = putRequest(chunk, { forward: ['node-1', 'node-2'], copies: 2 })
  const reply = await cluster.node('node-0').api.put(request, chunk.data, CALL)
  t.strictSame(reply.missing, ['node-1'])
  t.strictSame(new Set(reply.stored), new Set(['node-0', 'node-2']))
})

function fullDisk(store: ChunkStore, full: Error): ChunkDisk {
  return {
    put: () => Promise.reject(full),
    sync: (ids) => store.sync(ids),
    read: (id, offset, lengthBytes) => store.read(id, offset, lengthBytes),
    readNow: () => null,
    readLeaves: (places) => store.readLeaves(places),
    verify: (id) => store.verify(id),
    list: async () => ({ chunks: [], next: null }),
    isRetiring: (id) => store.isRetiring(id),
    lacks: (ids, verify) => store.lacks(ids, verify),
    retire: (ids, confirm) => store.retire(ids, confirm),
    quarantine: (id) => store.quarantine(id),
    remove: (ids) => store.remove(ids),
    space: () => store.space(),
    chunks: 0,
  }
}

t.test('a full first owner still passes on; with enough copies elsewhere that is success, else ENOSPC', async (t) => {
  const full = new PosixError('ENOSPC', 'full')
  const cluster = await startCluster(t, {
    nodes: 3,
    disk: (store, id) => (id === 'node-0' ? fullDisk(store, full) : store),
  })
  const chunk = randomChunk(0, 1000)
  const enough = putRequest(chunk, { forward: ['node-1', 'node-2'], copies: 2 })
  const reply = await cluster.node('node-0').api.put(enough, chunk.data, CALL)
  t.strictSame(new Set(reply.stored), new Set(['node-1', 'node-2']))
  t.strictSame(reply.queued, ['node-0'])
  const alone = randomChunk(1, 1000)
  t.equal(await failureOf(cluster.node('node-0').api.put(putRequest(alone), alone.data, CALL)), 'ENOSPC')
})

t.test('a reported bad copy is set aside and fetched from another owner, origin and all', async (t) => {
  const cluster = await startCluster(t, { nodes: 3 })
  const chunk = randomChunk(0, 200_000)
  const [first, second] = [cluster.node('node-0'), cluster.node('node-1')]
  await first.api.put(putRequest(chunk, { forward: ['node-1'], copies: 2 }), chunk.data, CALL)
  for (const damage of [
    (file: Buffer) => file.fill(0, 0, 200),
    (file: Buffer) => file.subarray(0, 10_000),
    (file: Buffer) => file.fill(1, 90_000, 90_001),
  ]) {
    const file = chunkFile(first.folder, 0)
    writeFileSync(file, damage(readFileSync(file)))
    await first.api.reportBad(VOLUME, 0, CALL)
    t.ok(await has(first, 0))
    t.ok(readFileSync(file).equals(readFileSync(chunkFile(second.folder, 0))))
  }
  t.equal(readdirSync(join(first.folder, 'quarantine')).length, 3)
})

t.test('a bad copy that nobody can replace now is queued for later', async (t) => {
  const cluster = await startCluster(t, { nodes: 2 })
  const chunk = randomChunk(0, 1000)
  const [first, second] = [cluster.node('node-0'), cluster.node('node-1')]
  await first.api.put(putRequest(chunk, { forward: ['node-1'], copies: 2 }), chunk.data, CALL)
  writeFileSync(chunkFile(first.folder, 0), 'rubbish')
  second.faults.killed = true
  await first.api.reportBad(VOLUME, 0, CALL)
  t.match(first.queue, [{ kind: 'copy', chunk: 0 }])
  await t.rejects(first.service.repairer.handle({ kind: 'copy', chunk: 0, root: null, sources: [] }))
  second.faults.killed = false
  await cluster.drain()
  t.ok(await has(first, 0))
})

t.test('however often a bad copy is reported, it stands in the queue once until it is good', async (t) => {
  const cluster = await startCluster(t, { nodes: 2 })
  const chunk = randomChunk(0, 1000)
  const [first, second] = [cluster.node('node-0'), cluster.node('node-1')]
  await first.api.put(putRequest(chunk, { forward: ['node-1'], copies: 2 }), chunk.data, CALL)
  // By a failover that lost the deletion of its file it is read again.
  await first.api.remove(VOLUME, [0], CALL)
  for (let reads = 0; reads < 5; reads++) await first.api.reportBad(VOLUME, 0, CALL)
  t.match(first.queue, [{ kind: 'copy', chunk: 0 }])
  t.equal(first.queue.length, 1)
  await first.api.put(putRequest(chunk), chunk.data, CALL)
  await cluster.drain()
  for (const node of [first, second]) writeFileSync(chunkFile(node.folder, 0), 'rubbish')
  await first.api.reportBad(VOLUME, 0, CALL)
  t.equal(first.queue.length, 1, 'and once more when it has gone bad again')
})

t.test('queue tasks: a copy with another root is refused, what nobody has is done, remove removes', async (t) => {
  const cluster = await startCluster(t, { nodes: 2 })
  const chunk = randomChunk(0, 1000)
  const [first, second] = [cluster.node('node-0'), cluster.node('node-1')]
  await second.api.put(putRequest(chunk), chunk.data, CALL)
  const { handle } = { handle: first.service.repairer.handle.bind(first.service.repairer) }
  const wrong = handle({ kind: 'copy', chunk: 0, root: Buffer.alloc(32), sources: ['node-1'] })
  t.equal(await failureOf(wrong), 'CHUNK_CORRUPT')
  t.notOk(await has(first, 0))
  await handle({ kind: 'copy', chunk: 0, root: chunk.root, sources: ['node-1'] })
  await handle({ kind: 'copy', chunk: 0, root: chunk.root, sources: ['node-1'] })
  t.ok(await has(first, 0))
  await handle({ kind: 'copy', chunk: 55, root: null, sources: ['node-1'] })
  await handle({ kind: 'remove', chunk: 0 })
  await handle({ kind: 'remove', chunk: 0 })
  t.notOk(await has(first, 0))
})

t.test(
  'a chunk that is deleted while it is copied, or before, does not come back from who has not heard of it',
  async (t) => {
    let beforePut = async (): Promise<void> => Promise.resolve()
    const slow = (store: ChunkStore): ChunkDisk => ({
      ...fullDisk(store, new PosixError('ENOSPC', 'full')),
      put: async (...words) => {
        await beforePut()
        await store.put(...words)
      },
    })
    const disk = (store: ChunkStore, id: string): ChunkDisk => (id === 'node-0' ? slow(store) : store)
    const cluster = await startCluster(t, { nodes: 2, disk })
    const chunk = randomChunk(0, 1000)
    const [first, second] = [cluster.node('node-0'), cluster.node('node-1')]
    const copy = { kind: 'copy', chunk: 0, root: chunk.root, sources: ['node-1'] } as const
    await second.api.put(putRequest(chunk), chunk.data, CALL)
    beforePut = () => first.api.remove(VOLUME, [0], CALL)
    t.equal(await failureOf(first.service.repairer.handle(copy)), 'CHUNK_MISSING')
    t.notOk(await has(first, 0), 'deleted in the middle')
    beforePut = () => Promise.resolve()
    t.equal(
      await failureOf(first.service.repairer.handle(copy)),
      'CHUNK_MISSING',
      'somebody has it: to be looked at again',
    )
    t.notOk(await has(first, 0), 'deleted before')
    await second.api.remove(VOLUME, [0], CALL)
    await first.service.repairer.handle(copy)
    t.notOk(await has(first, 0))
    // An id may be given out again, when the metadata have lost their end: who puts it has another chunk.
    await second.api.put(putRequest(chunk), chunk.data, CALL)
    await first.api.put(putRequest(chunk), chunk.data, CALL)
    await first.store.remove([0])
    await first.service.repairer.handle(copy)
    t.ok(await has(first, 0))
  },
)

t.test('what was removed lately is known for a while, and so many at most', async (t) => {
  const clock = new ManualClock()
  const removed = new RemovedLately(clock)
  removed.note([1, 2])
  await clock.pass(599_000)
  t.strictSame([removed.has(1), removed.has(3)], [true, false])
  await clock.pass(2_000)
  t.notOk(removed.has(1))
  removed.note([7])
  removed.note(Array.from({ length: 100_000 }, (_, index) => 100 + index))
  t.strictSame([removed.has(7), removed.has(100), removed.has(100_099)], [false, true, true])
})
