/** Files of many small synced writes are packed when they are read: on a real redis-server and real chunk nodes. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { KIB, MIB } from '../../src/base/limits.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { backupVolume } from '../../src/meta/backup/backup.js'
import { restoreVolume } from '../../src/meta/backup/restore.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume } from '../../src/meta/format.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { startCluster, type TestCluster } from '../helpers/chunks.js'
import { until } from '../helpers/deadline.js'
import { rebuildAll } from '../helpers/rebuilt.js'
import { connectPatiently, startRedis, type TestRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const CALLER = { uid: 0, gid: 0, pid: 1 }
const ROOT = 1
const O_RDWR_CREAT = 0o102
const O_APPEND = 0o2000
const BLOCK = 4 * KIB
const BLOCKS = 100
const PARTITIONS = 4

interface Client {
  readonly meta: MetaStore
  readonly vfs: VfsContract
}

interface Bed {
  readonly redis: TestRedis
  readonly store: RedisStore
  readonly cluster: TestCluster
  readonly client: (clock?: Clock) => Promise<Client>
  /** Of the volume that is there now. */
  readonly end: () => Promise<void>
  readonly settings: Awaited<ReturnType<typeof formatVolume>>
}

async function bed(t: Test, masters: 1 | 3 = 1): Promise<Bed> {
  const redis = await startRedis(t, { masters })
  const store = await connectPatiently(redis.url('v'))
  t.teardown(() => store.close())
  const settings = await formatVolume(store, 'v', { partitions: PARTITIONS, replicas: 3 })
  const cluster = await startCluster(t, { nodes: 3, replicas: 3, writeQuorum: 2 })
  const clients: Client[] = []
  const end = async (): Promise<void> => {
    for (const { vfs, meta } of clients.splice(0)) {
      await vfs.shutdown()
      await meta.shutdown()
    }
  }
  t.teardown(end)
  const client = async (clock = systemClock): Promise<Client> => {
    const meta = await openMeta(store, settings, { log: silentLog })
    const vfs = createVfs({ meta, chunks: cluster.client, clock, log: silentLog, limits: { packRestMs: 1 } })
    clients.push({ meta, vfs })
    return { meta, vfs }
  }
  return { redis, store, cluster, client, end, settings }
}

async function loseAll(redis: TestRedis): Promise<void> {
  for (let server = 0; server < redis.ports.length; server++) await redis.command(server, 'FLUSHALL')
}

/** Written at once, and then each block anew, by itself. */
async function blocksFile({ vfs }: Client, name: string): Promise<{ ino: number; model: Buffer }> {
  const { attr, handle } = await vfs.create(CALLER, ROOT, Buffer.from(name), 0o644, O_RDWR_CREAT)
  await vfs.write(handle, 0, randomBytes(BLOCKS * BLOCK))
  await vfs.fsync(handle, true)
  const model = randomBytes(BLOCKS * BLOCK)
  for (let n = 0; n < BLOCKS; n++) {
    const at = ((n * 37) % BLOCKS) * BLOCK
    await vfs.write(handle, at, model.subarray(at, at + BLOCK))
    await vfs.fsync(handle, true)
  }
  await vfs.release(handle)
  return { ino: attr.ino, model }
}

async function contents({ vfs }: Client, ino: number): Promise<Buffer> {
  const { sizeBytes } = await vfs.getattr(CALLER, ino)
  const { handle } = await vfs.open(CALLER, ino, 0)
  const parts: Buffer[] = []
  for (let at = 0; at < sizeBytes; at += MIB) parts.push(Buffer.from(await vfs.read(handle, at, MIB)))
  await vfs.release(handle)
  return Buffer.concat(parts)
}

async function chunksOf({ meta }: Client, ino: number): Promise<Set<number>> {
  const { extents } = await meta.extents(ino, 0)
  return new Set(extents.flatMap(({ chunk }) => chunk?.id ?? []))
}

/** Whoever reads it packs it; it is over then. */
async function packed(reader: Client, ino: number): Promise<void> {
  await until('it is packed', async () => {
    await contents(reader, ino)
    return (await chunksOf(reader, ino)).size === 1
  })
}

async function collect({ cluster }: Bed, { meta }: Client): Promise<number> {
  const freed = await meta.collectGarbage((ids) => cluster.client.remove(ids), 0)
  await cluster.drain()
  return freed
}

/** Its clock is an hour ahead: what it writes is younger than any backup of now. */
const ahead: Clock = {
  now: () => ({ ...systemClock.now(), sec: systemClock.now().sec + 3_600 }),
  monotonicMs: () => systemClock.monotonicMs(),
  wallMs: () => systemClock.wallMs(),
  sleep: (ms) => systemClock.sleep(ms),
  after: systemClock.after.bind(systemClock),
}

t.test(
  'without a backup small chunks are packed and freed, and files made anew of what is there are whole',
  async (t) => {
    const all = await bed(t)
    const { client, cluster, redis, store, end, settings } = all
    const writer = await client()
    const blocks = await blocksFile(writer, 'blocks')
    const log = await writer.vfs.create(CALLER, ROOT, Buffer.from('log'), 0o644, O_RDWR_CREAT | O_APPEND)
    const lines = randomBytes(60 * 3_000)
    // Longer than what the metadata keep, which a rebuild has not.
    await writer.vfs.write(log.handle, 0, lines.subarray(0, 90_000))
    await writer.vfs.fsync(log.handle, true)
    for (let at = 90_000; at < lines.length; at += 3_000) {
      await writer.vfs.write(log.handle, at, lines.subarray(at, at + 3_000))
      if (at < 90_000 + 40 * 3_000) await writer.vfs.fsync(log.handle, true)
    }
    await writer.vfs.release(log.handle)
    const reader = await client()
    const old = await chunksOf(reader, blocks.ino)
    t.ok(old.size >= BLOCKS, 'a chunk for each block')
    await packed(reader, blocks.ino)
    t.ok((await collect(all, reader)) >= BLOCKS)
    t.ok((await contents(await client(), blocks.ino)).equals(blocks.model), 'without the old chunks')
    // Over what was packed, and the rest of it is packed again.
    const { handle } = await writer.vfs.open(CALLER, blocks.ino, O_RDWR_CREAT)
    for (let block = 0; block < 50; block++) {
      randomBytes(BLOCK).copy(blocks.model, block * BLOCK)
      await writer.vfs.write(handle, block * BLOCK, blocks.model.subarray(block * BLOCK, (block + 1) * BLOCK))
      await writer.vfs.fsync(handle, true)
    }
    await writer.vfs.release(handle)
    const again = await client()
    await until('the upper half is packed', async () => {
      await contents(again, blocks.ino)
      return (await chunksOf(again, blocks.ino)).size <= 2
    })
    await contents(again, log.attr.ino)
    t.ok((await contents(again, blocks.ino)).equals(blocks.model))
    t.ok((await contents(again, log.attr.ino)).equals(lines))
    await collect(all, again)
    await end()
    await loseAll(redis)

    const made = await rebuildAll(t, { store, settings, cluster }, () => client())
    const folder = await made.meta.lookup(ROOT, Buffer.from('lost+found'))
    for (const [ino, data] of [
      [blocks.ino, blocks.model],
      [log.attr.ino, lines],
    ] as const) {
      const file = await made.meta.lookup(folder.ino, Buffer.from(`inode-${ino}`))
      t.ok((await contents(made, file.ino)).equals(data), `inode ${ino}`)
    }
  },
)

for (const masters of [1, 3] as const) {
  t.test(`what a backup names is not packed, and is whole when that is restored, ${masters} masters`, async (t) => {
    const all = await bed(t, masters)
    const { client, redis, store, end, settings } = all
    const writer = await client()
    const before = await blocksFile(writer, 'before')
    await collect(all, writer)
    const folder = mkdtempSync(join(tmpdir(), 'ringfs-packing-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const file = join(folder, 'backup')
    const options = { version: '0.0.0', clock: systemClock, maxPauseMs: 60_000, onProgress: () => undefined }
    await backupVolume(store, settings, file, options)
    const behind = await blocksFile(await client(ahead), 'behind')
    const reader = await client(ahead)
    const old = await chunksOf(reader, before.ino)
    t.ok((await contents(reader, before.ino)).equals(before.model))
    // One after the other: what is packed behind it was looked at later.
    await packed(reader, behind.ino)
    t.same(await chunksOf(reader, before.ino), old)
    t.ok((await contents(reader, behind.ino)).equals(behind.model))
    await collect(all, reader)
    await end()
    await loseAll(redis)
    await restoreVolume(store, settings.name, file, () => undefined)
    const restored = await client()
    t.ok((await contents(restored, before.ino)).equals(before.model))
    await collect(all, restored)
    t.ok((await contents(await client(ahead), before.ino)).equals(before.model))
  })
}
