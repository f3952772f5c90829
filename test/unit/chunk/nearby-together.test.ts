/** Small chunks written into the logs of several nodes in one go: acknowledged means on the disk of each, and what cannot be done so is done as ever. */
import t from 'tap'
import { cpSync, existsSync, readlinkSync } from 'node:fs'
import { systemClock } from '../../../src/base/clock.js'
import { InlineGate } from '../../../src/base/inline-gate.js'
import { silentLog } from '../../../src/base/log.js'
import { SMALL_CHUNK_BYTES } from '../../../src/base/limits.js'
import type { ChunkClientImpl } from '../../../src/chunk/client/client.js'
import type { Placement, PlacementSource } from '../../../src/chunk/client/placement.js'
import type { ChunkWriteOptions } from '../../../src/chunk/contract.js'
import { ChunkFiles } from '../../../src/chunk/node/chunk-files.js'
import { seedOf } from '../../../src/chunk/node/disk-choice.js'
import { EpochReader, tellEpochs } from '../../../src/chunk/node/known-epoch.js'
import { leftBehind } from '../../../src/chunk/node/journal-file.js'
import { logWriter, writeLogsOneByOne, type LogWrite, type WriteLogs } from '../../../src/chunk/node/log-writes.js'
import { NearbyJournal } from '../../../src/chunk/node/nearby-journal.js'
import { NearbyTogether } from '../../../src/chunk/node/nearby-together.js'
import { nearbyChunkNode } from '../../../src/chunk/node/nearby.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import {
  VOLUME,
  chunkFile,
  failureOf,
  openStore,
  putRequest,
  randomChunk,
  placementOf,
  startCluster,
  temporaryFolder,
  type TestChunk,
  type TestCluster,
} from '../../helpers/chunks.js'

t.setTimeout(300_000)

const QUORUM: ChunkWriteOptions = { durability: 'quorum', sync: true }
const IDS = ['node-0', 'node-1', 'node-2']

class Ground {
  /** What was written in one go, each time. */
  readonly writes: (readonly LogWrite[])[] = []
  /** Where each went: another log may have the descriptor by now. */
  readonly files = new Map<LogWrite, string>()
  /** In place of what the disk says. */
  failing: (write: LogWrite, index: number) => Error | null = () => null
  /** The disk is quick. */
  isQuick = true
  readonly journals = new Map<string, NearbyJournal>()
  readonly #native: WriteLogs

  constructor(
    readonly cluster: TestCluster,
    native: WriteLogs,
  ) {
    this.#native = native
  }

  readonly write: WriteLogs = (writes) => {
    this.writes.push(writes)
    for (const one of writes) this.files.set(one, readlinkSync(`/proc/self/fd/${one.fd}`))
    const failures = writes.map((one, index) => this.failing(one, index))
    const done = this.#native(writes.filter((_, index) => failures[index] === null))
    let at = 0
    return failures.map((failure) => failure ?? done[at++] ?? null)
  }

  get calls(): string[] {
    return this.cluster.nodes.flatMap(({ calls }) => calls)
  }

  journal(id: string): NearbyJournal {
    const journal = this.journals.get(id)
    if (journal === undefined) throw new Error(`no journal of ${id}`)
    return journal
  }
}

interface Change {
  readonly nodes?: number
  readonly placement?: (cluster: TestCluster) => PlacementSource
}

/** Three nodes, and the client of a process that writes beside all of them; their logs are in use. More nodes are elsewhere. */
async function ground(
  t: Parameters<typeof startCluster>[0],
  native?: WriteLogs,
  { nodes = 3, placement }: Change = {},
) {
  const cluster = await startCluster(t, { nodes, replicas: 3, writeQuorum: 2 })
  const world = new Ground(cluster, native ?? logWriter())
  class TestGate extends InlineGate {
    override allows(bytes: number): boolean {
      return world.isQuick && bytes <= 128 * 1024
    }
  }
  const gate = new TestGate(systemClock, 128 * 1024)
  const together = new NearbyTogether({ gate, write: world.write })
  const apis = new Map(IDS.map((id) => [id, cluster.node(id).api]))
  for (const id of IDS) {
    const { folder, api } = cluster.node(id)
    const shared = { folder, disk: 'd', volume: VOLUME, pool: cluster.pool, clock: systemClock, log: silentLog }
    const journal = new NearbyJournal({ ...shared, gate, node: () => api })
    t.teardown(() => journal.close())
    world.journals.set(id, journal)
    const files = new ChunkFiles({ ...shared, buffers: new SharedBuffers() })
    const nearby = { id, volume: VOLUME, disks: [{ seed: seedOf('d'), weight: 1, files, journal }] }
    apis.set(id, nearbyChunkNode(nearby, api))
    together.add(nearby)
    await journal.start()
  }
  const node: ConstructorParameters<typeof ChunkClientImpl>[0]['node'] = (id) => apis.get(id) ?? cluster.node(id).api
  const client = cluster.clientWith({
    ...{ node, together: () => together },
    ...(placement && { placement: placement(cluster) }),
  })
  await begin(world, client)
  return { world, cluster, client }
}

let nextFirst = 9_000_000

/** Logs are made when they are first wanted, and begun by the first chunk in them; until then nothing is done together. */
async function begin(world: Ground, client: ChunkClientImpl): Promise<void> {
  do {
    world.writes.length = 0
    await put(client, randomChunk(nextFirst++, 9))
  } while (world.writes[0]?.length !== IDS.length)
  world.writes.length = 0
  for (const node of world.cluster.nodes) node.calls.length = 0
}

async function put(client: ChunkClientImpl, chunk: TestChunk, options = QUORUM): Promise<void> {
  const { root } = await client.write(chunk.id, chunk.data, chunk.origin, options)
  t.ok(root.equals(chunk.root))
}

/** Of each node, asked by another client. */
async function holders(cluster: TestCluster, { id, bytes, origin }: TestChunk): Promise<string[]> {
  const found: string[] = []
  for (const node of cluster.nodes) {
    const request = { volume: VOLUME, id, offset: 0, lengthBytes: bytes.length, withOrigin: true }
    const reply = await node.service.get(request).catch(() => null)
    if (reply?.data.equals(bytes) === true && JSON.stringify(reply.origin) === JSON.stringify(origin))
      found.push(node.id)
    reply?.release()
  }
  return found
}

function chunks(first: number, count: number): TestChunk[] {
  return Array.from({ length: count }, (_, i) => randomChunk(first + i, 1 + (((first + i) * 7919) % 9000)))
}

for (const [name, native] of [
  ['the addon', undefined],
  ['Node', writeLogsOneByOne],
] as const) {
  t.test(`with ${name}: what was acknowledged is in the folder of each owner, and no node was asked`, async (t) => {
    const { world, cluster, client } = await ground(t, native)
    const written = [...chunks(1, 30), randomChunk(100, SMALL_CHUNK_BYTES), randomChunk(101, 1)]
    for (const chunk of written) await put(client, chunk)
    t.strictSame(world.calls, [])
    t.equal(world.writes.length, written.length)
    for (const { position, head, body, tail } of world.writes.flat())
      t.equal((position + head.length + body.length + tail.length) % 4096, 0, 'no page is written that is to be read')
    for (const id of IDS) {
      const copy = temporaryFolder(t)
      cpSync(cluster.node(id).folder, copy, { recursive: true })
      const after = await openStore(copy, cluster.pool)
      for (const chunk of written) {
        const read = await after.read(chunk.id, 0, chunk.bytes.length)
        t.ok(read.data.equals(chunk.bytes) && existsSync(chunkFile(copy, chunk.id)), `${id} after a crash`)
        read.release()
      }
      t.equal(after.damage.bad, 0)
    }
    for (const chunk of written) t.same(await holders(cluster, chunk), IDS)
    await Promise.all(IDS.map((id) => world.journal(id).settle()))
    for (const id of IDS)
      t.same(leftBehind({ folder: cluster.node(id).folder, volume: VOLUME, place: 'near' }).logs, [])
    await begin(world, client)
    await put(client, randomChunk(200, 4096))
    t.equal(world.writes.length, 1, 'and again, in the next use of the logs')
  })
}

t.test('what comes in one turn is flushed once; more than a few go as ever', async (t) => {
  const { world, cluster, client } = await ground(t)
  const few = chunks(1, 4)
  await Promise.all(few.map((chunk) => put(client, chunk)))
  t.same(
    world.writes.map((writes) => writes.length),
    [12],
  )
  const many = chunks(10, 40)
  await Promise.all(many.map((chunk) => put(client, chunk)))
  for (const chunk of [...few, ...many]) t.same(await holders(cluster, chunk), IDS)
  t.strictSame(world.calls, [])
})

t.test(
  'a log that cannot be written: that node gets the chunk otherwise, and nothing is written behind it',
  async (t) => {
    const { world, cluster, client } = await ground(t)
    const before = chunks(1, 3)
    for (const chunk of before) await put(client, chunk)
    const { files } = world
    const [last] = world.writes.at(-1) ?? []
    if (last === undefined) throw new Error('nothing was written')
    const bad = files.get(last)
    world.failing = (one) => (files.get(one) === bad ? new Error('EIO') : null)
    const chunk = randomChunk(50, 4096)
    await put(client, chunk, { ...QUORUM, durability: 'all' })
    t.same(await holders(cluster, chunk), IDS)
    const after = chunks(60, 3)
    for (const one of after) await put(client, one)
    for (const one of [...before, ...after]) t.same(await holders(cluster, one), IDS)
    const behind = world.writes.flat().filter((one) => files.get(one) === bad && one.position > last.position)
    t.equal(behind.length, 1, 'the one that failed')
  },
)

t.test('all logs fail: the chunk goes as ever, and nobody is told that it is where it is not', async (t) => {
  const { world, cluster, client } = await ground(t)
  world.failing = () => new Error('EIO')
  const chunk = randomChunk(1, 4096)
  await put(client, chunk)
  t.ok((await holders(cluster, chunk)).length >= 2)
})

t.test(
  'while the disk is slow, the data long, or somebody need not wait for the disk, nothing is done together',
  async (t) => {
    const { world, cluster, client } = await ground(t)
    world.isQuick = false
    const slow = randomChunk(1, 4096)
    await put(client, slow)
    world.isQuick = true
    const long = randomChunk(2, SMALL_CHUNK_BYTES + 1)
    await put(client, long)
    const unsynced = randomChunk(3, 4096)
    await put(client, unsynced, { durability: 'all', sync: false })
    const careless = randomChunk(4, 4096)
    await put(client, careless, { durability: 'async', sync: true })
    t.same(world.writes, [])
    for (const chunk of [slow, long, unsynced]) t.same(await holders(cluster, chunk), IDS)
  },
)

t.test('an owner that is not known to work: as ever', async (t) => {
  const { world, cluster, client } = await ground(t)
  for (const state of ['suspect', 'down'] as const) {
    cluster.node('node-1').faults.state = state
    await put(client, randomChunk(nextFirst++, 100))
  }
  cluster.node('node-1').faults.state = 'up'
  t.same(world.writes, [])
  await put(client, randomChunk(nextFirst++, 100))
  t.equal(world.writes.length, 1)
})

t.test('an id has one content', async (t) => {
  const { world, cluster, client } = await ground(t)
  const [one, other] = [randomChunk(5, 500), randomChunk(5, 500)]
  await put(client, one)
  await put(client, one)
  t.equal(await failureOf(put(client, other)), 'CHUNK_CONFLICT')
  await Promise.all(IDS.map((id) => world.journal(id).settle()))
  await begin(world, client)
  t.equal(await failureOf(put(client, other)), 'CHUNK_CONFLICT', 'where it has a file')
  t.same(await holders(cluster, one), IDS)
  const same = randomChunk(6, 500)
  await Promise.all([put(client, same), put(client, same)])
  t.same(await holders(cluster, same), IDS)
})

t.test('what is removed is removed, and a closed journal takes nothing', async (t) => {
  const { world, cluster, client } = await ground(t)
  const written = chunks(1, 4)
  for (const chunk of written) await put(client, chunk)
  await client.remove([1, 2])
  for (const chunk of written) t.same(await holders(cluster, chunk), chunk.id > 2 ? IDS : [])
  world.writes.length = 0
  world.journal('node-2').close()
  await put(client, randomChunk(50, 100))
  t.equal(world.writes.flat().length, 2, 'the others, still')
  t.ok(cluster.node('node-2').calls.includes('put'))
})

t.test('puts beside a node are refused for another volume', async (t) => {
  const { world } = await ground(t)
  const gate = new InlineGate(systemClock, 1)
  const together = new NearbyTogether({ gate, write: world.write })
  t.equal(together.put(['node-0'], putRequest(randomChunk(1, 9), { sync: true }), []), null, 'none that is known')
})

t.test('what need not be on disk may as well be where all owners are here, work, and have a quick disk', async (t) => {
  const { world, cluster, client } = await ground(t)
  const LONG = SMALL_CHUNK_BYTES + 1
  t.ok(client.syncsAtOnce(1, SMALL_CHUNK_BYTES))
  t.notOk(client.syncsAtOnce(1, LONG), 'long')
  world.isQuick = false
  t.notOk(client.syncsAtOnce(1, 1), 'a slow disk')
  world.isQuick = true
  world.journal('node-1').close()
  t.notOk(client.syncsAtOnce(1, 1), 'a node without logs that can be written')
  const one = cluster.node('node-1')
  const elsewhere = new NearbyTogether({ gate: new InlineGate(systemClock, LONG), write: world.write })
  const mixed = cluster.clientWith({ node: () => one.api, together: () => elsewhere })
  t.notOk(mixed.syncsAtOnce(1, 1), 'owners on other machines')
  t.notOk(cluster.client.syncsAtOnce(1, 1), 'a mount that does not write beside the nodes')
})

/** What a node knows of the ring. */
class KnownRing {
  readonly log = silentLog
  epoch = 1
  #told: () => void = () => undefined

  readonly watcher = {
    current: () => ({ view: { epoch: this.epoch } }),
    onChange: (listener: () => void) => {
      this.#told = listener
      return () => (this.#told = () => undefined)
    },
  }

  change(epoch: number): void {
    this.epoch = epoch
    this.#told()
  }
}

t.test(
  'by an old ring: who writes beside nodes that know a newer one learns of it, and the owners of today get the chunk',
  async (t) => {
    let old: Placement | undefined
    let looks = 0
    const placement = (cluster: TestCluster): PlacementSource => ({
      current: () => (old ??= placementOf(cluster, 1, 0)),
      refresh: () => {
        looks++
        old = placementOf(cluster, 2, 1)
        return Promise.resolve()
      },
    })
    const { world, cluster, client } = await ground(t, undefined, { nodes: 4, placement })
    const rings = IDS.map((id) => {
      const ring = new KnownRing()
      t.teardown(tellEpochs(cluster.node(id).folder, ring))
      return ring
    })
    const away = cluster.node('node-3')
    away.queue.length = 0
    await put(client, randomChunk(400, 100))
    t.strictSame([looks, away.queue], [0, []], 'all know the same ring')
    rings[1]?.change(2)
    await put(client, randomChunk(404, 100))
    t.equal(world.writes.length, 2, 'written together')
    t.equal(looks, 1)
    t.match(away.queue, [{ kind: 'copy', chunk: 404, epoch: 2 }], 'an owner by the newer ring alone')
    old = undefined
    world.isQuick = false
    await put(client, randomChunk(408, 100))
    t.equal(world.writes.length, 2, 'written one by one')
    t.equal(looks, 2)
    t.match(away.queue.slice(1), [{ kind: 'copy', chunk: 408, epoch: 2 }])
    t.strictSame(world.calls, [], 'no node was asked')
  },
)

t.test('what a node knows of the ring is read by who has opened it before, and nothing where it tells nothing', (t) => {
  const folder = temporaryFolder(t)
  const reader = new EpochReader(folder)
  t.equal(reader.read(), 0)
  const ring = new KnownRing()
  const end = tellEpochs(folder, ring)
  t.equal(reader.read(), 1)
  ring.change(2 ** 52)
  t.equal(reader.read(), 2 ** 52)
  end()
  ring.change(3)
  t.equal(reader.read(), 2 ** 52, 'it has ended')
  ring.change(-1)
  t.teardown(tellEpochs(folder, ring))
  t.equal(reader.read(), 0, 'another start that knows none')
  reader.close()
  t.doesNotThrow(tellEpochs(`${folder}/none`, ring), 'a folder that cannot be written')
  t.end()
})
