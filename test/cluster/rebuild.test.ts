/** Files rebuilt from chunks: a real Redis that loses all or its end, real chunk nodes, written through the VFS. */
import t, { type Test } from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { MIB } from '../../src/base/limits.js'
import { silentLog } from '../../src/base/log.js'
import { fsck, type FsckParts } from '../../src/check/fsck.js'
import { makeAnew } from '../../src/check/rebuild/anew.js'
import { rebuild, type RebuildParts, type RebuildResult } from '../../src/check/rebuild/rebuild.js'
import { unknownOf } from '../../src/check/rebuild/words.js'
import type { ChunkOriginExtent, ChunkRef } from '../../src/chunk/contract.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { ExtentMap } from '../../src/vfs/extent-map.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { bound } from '../helpers/bound-redis.js'
import { VOLUME, chunkFile, failureOf, originOf, startCluster, type TestCluster } from '../helpers/chunks.js'
import { ROOT, bytes, names, touch, until, volumesOn, type MetaVolume, type OpenVolume } from '../helpers/meta.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const CALLER = { uid: 0, gid: 0, pid: 1 }
const O_RDWR = 2
const O_CREAT = 0o100
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const HOUR_S = 3600
const TTL_MS = 1_000

interface Client {
  readonly meta: MetaStore
  readonly vfs: VfsContract
}

interface Bed {
  readonly volume: MetaVolume
  readonly cluster: TestCluster
  readonly keys: VolumeKeys
  readonly parts: Omit<RebuildParts, 'meta'>
  readonly client: (clock?: Clock) => Promise<Client>
  /** Ends all clients; what they wrote is committed. */
  readonly end: () => Promise<void>
  readonly rebuild: (change?: Partial<RebuildParts>) => Promise<RebuildResult>
  readonly fsck: (repair?: boolean) => Promise<string[]>
}

async function bed(t: Test, open: OpenVolume): Promise<Bed> {
  const volume = await open()
  const cluster = await startCluster(t, { nodes: 3 })
  const settings = { ...volume.settings, uuid: VOLUME, replicas: 3 }
  const keys = new VolumeKeys(settings.name, settings.partitions)
  const clients: Client[] = []
  const parts: Bed['parts'] = {
    ...{ store: volume.redis, settings, volume: VOLUME, deep: false, minAgeMs: 900_000 },
    view: () => cluster.placement().view,
    node: (id) => cluster.node(id).api,
    removals: (id) =>
      Promise.resolve(new Set(cluster.node(id).queue.flatMap((task) => (task.kind === 'remove' ? task.chunk : [])))),
    onProgress: () => undefined,
  }
  const end = async (): Promise<void> => {
    for (const { vfs } of clients.splice(0)) await vfs.shutdown()
    await volume.close()
  }
  t.teardown(end)
  return {
    ...{ volume, cluster, keys, parts, end },
    client: async (clock = systemClock) => {
      const meta = await volume.client({ clock })
      const vfs = createVfs({ meta, chunks: cluster.client, clock, log: silentLog })
      clients.push({ meta, vfs })
      return { meta, vfs }
    },
    rebuild: async (change = {}) => {
      const { meta: given } = change
      if (given !== undefined) return await rebuild({ ...parts, ...change, meta: given })
      const meta = await openMeta(volume.redis, volume.settings, { log: silentLog })
      try {
        return await rebuild({ ...parts, meta, ...change })
      } finally {
        await meta.shutdown()
      }
    },
    fsck: async (repair = false) => {
      const check: FsckParts = { ...parts, settings, ring: () => cluster.placement().ring, clock: systemClock }
      const enqueue = (): Promise<void> => Promise.resolve()
      const repairs = { meta: await volume.client(), chunks: cluster.client, enqueue, orphanGraceMs: 0 }
      // On a busy machine an owner may have got its copy through its queue.
      await cluster.drain()
      const { findings } = await fsck({ ...check, ...(repair ? { repair: repairs } : {}) })
      return findings.map(({ kind, text }) => `${kind}: ${text}`)
    },
  }
}

/** `upload`: a chunk of a file that does not name it, of so many seconds ago; answers its order. */
async function uploadsBed(
  t: Test,
  open: OpenVolume,
): Promise<Bed & { readonly upload: (ageS: number) => Promise<number> }> {
  const all = await bed(t, open)
  const meta = await all.volume.client()
  const { ino } = await touch(meta, ROOT, 'file')
  const upload = async (ageS: number): Promise<number> => {
    const order = (systemClock.now().sec - ageS) * 1e6
    const write = { durability: 'all', sync: false } as const
    await all.cluster.client.write(
      await meta.chunkId(),
      [randomBytes(1_000)],
      { ...originOf(1_000, ino), order },
      write,
    )
    return order
  }
  return { ...all, upload }
}

async function create(vfs: VfsContract, name: string, flags = O_RDWR): Promise<{ ino: number; handle: number }> {
  const { attr, handle } = await vfs.create(CALLER, ROOT, bytes(name), 0o644, flags | O_CREAT)
  return { ino: attr.ino, handle }
}

async function writeFile(vfs: VfsContract, name: string, data: Buffer): Promise<number> {
  const { ino, handle } = await create(vfs, name)
  await vfs.write(handle, 0, data)
  await vfs.release(handle)
  return ino
}

async function change(vfs: VfsContract, ino: number, flags: number, offset: number, data: Buffer): Promise<void> {
  const { handle } = await vfs.open(CALLER, ino, O_RDWR | flags)
  await vfs.write(handle, offset, data)
  await vfs.release(handle)
}

async function contents(vfs: VfsContract, ino: number): Promise<Buffer> {
  const { sizeBytes } = await vfs.getattr(CALLER, ino)
  const { handle } = await vfs.open(CALLER, ino, O_RDWR)
  const parts: Buffer[] = []
  for (let at = 0; at < sizeBytes; at += MIB) parts.push(await vfs.read(handle, at, MIB))
  await vfs.release(handle)
  return Buffer.concat(parts)
}

/** Writes what the file shows of its chunks into one, which nobody names; answers which chunks these are. */
async function pack(meta: MetaStore, { client }: TestCluster, ino: number): Promise<number[]> {
  const map = new ExtentMap((await meta.extents(ino, 0)).extents)
  const data: Buffer[] = []
  const extents: ChunkOriginExtent[] = []
  const orders: number[] = []
  const sources = new Set<number>()
  let chunkOffset = 0
  for (const { start, end, chunk, chunkOffset: from } of map.slice(0, map.end)) {
    if (chunk === null) continue
    const lengthBytes = end - start
    data.push(await client.read(chunk, from, lengthBytes))
    extents.push({ fileOffset: start, chunkOffset, lengthBytes })
    orders.push((await client.origin(chunk)).order)
    sources.add(chunk.id)
    chunkOffset += lengthBytes
  }
  // Of a client whose clock is ahead.
  const order = (Date.now() + 60_000) * 1000
  await client.write(await meta.chunkId(), data, { ino, order, extents, orders }, { durability: 'all', sync: true })
  return [...sources]
}

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex')

async function restoredNames(meta: MetaStore): Promise<string[]> {
  return (await names(meta, (await meta.lookup(ROOT, bytes('lost+found'))).ino)).sort()
}

async function inLostAndFound({ vfs, meta }: Client, name: string): Promise<Buffer> {
  const folder = await meta.lookup(ROOT, bytes('lost+found'))
  return await contents(vfs, (await vfs.lookup(CALLER, folder.ino, bytes(name))).ino)
}

async function loseAll(redis: TestRedis): Promise<void> {
  for (let server = 0; server < redis.ports.length; server++) await redis.command(server, 'FLUSHALL')
}

/** What a replica had, which lacks the end. */
async function snapshot(redis: TestRedis, store: RedisStore): Promise<() => Promise<void>> {
  const found = await redis.command(0, 'KEYS', '*')
  const all = Array.isArray(found) ? found.map(String) : []
  const dumps = await Promise.all(all.map((key) => store.call('DUMP', key)))
  return async () => {
    await loseAll(redis)
    for (const [at, dump] of dumps.entries()) {
      if (Buffer.isBuffer(dump)) await store.call('RESTORE', all[at] ?? '', 0, dump)
    }
  }
}

function damage(file: string, at: (length: number) => number): void {
  const damaged = readFileSync(file)
  const place = at(damaged.length)
  damaged.writeUInt8(damaged.readUInt8(place) ^ 1, place)
  // The node has the old one open: another file takes its name.
  rmSync(file)
  writeFileSync(file, damaged)
}

/** A client whose clock is hours ahead: what it makes is younger than all before. */
const later: Clock = {
  now: () => ({ ...systemClock.now(), sec: systemClock.now().sec + HOUR_S }),
  monotonicMs: () => systemClock.monotonicMs(),
  wallMs: () => systemClock.wallMs(),
  sleep: (ms) => systemClock.sleep(ms),
  after: systemClock.after.bind(systemClock),
}

t.test('rebuild', async (t) => {
  const redis = await startRedis(t)
  const open = volumesOn(t, redis)

  t.test('all metadata lost: every file that had chunks is there again, byte for byte, and once', async (t) => {
    const { client, end, rebuild, parts, fsck, keys, volume } = await bed(t, open)
    const [one, two] = [await client(), await client()]
    const expected = new Map<number, string>()
    const large = randomBytes(9 * MIB + 123)
    const largeIno = await writeFile(one.vfs, 'large', large)
    const overwrittenIno = await writeFile(one.vfs, 'overwritten', large.subarray(0, 5 * MIB))
    const piece = randomBytes(300_000)
    await change(two.vfs, overwrittenIno, 0, MIB - 7, piece)
    const tail = randomBytes(40_000)
    await change(one.vfs, overwrittenIno, 0, 5 * MIB - 100, tail)
    const overwritten = Buffer.concat([large.subarray(0, 5 * MIB - 100), tail])
    piece.copy(overwritten, MIB - 7)
    const appendedIno = (await create(one.vfs, 'log', O_RDWR | O_APPEND)).ino
    const lines: Buffer[] = []
    for (let round = 0; round < 6; round++) {
      const line = randomBytes(30_000)
      await change((round % 2 === 0 ? one : two).vfs, appendedIno, O_APPEND, 0, line)
      lines.push(line)
    }
    const sparse = await create(one.vfs, 'sparse')
    await one.vfs.write(sparse.handle, 70 * MIB, large.subarray(0, 100_000))
    await one.vfs.write(sparse.handle, 10, large.subarray(0, 50_000))
    await one.vfs.release(sparse.handle)
    const renamedIno = await writeFile(one.vfs, 'before', large.subarray(7, 70_007))
    await one.vfs.rename(CALLER, ROOT, bytes('before'), ROOT, bytes('after'), {})
    await writeFile(one.vfs, 'inline', Buffer.from('kept with the metadata'))
    const rewrittenIno = await writeFile(one.vfs, 'rewritten', large.subarray(0, 80_000))
    await change(two.vfs, rewrittenIno, O_TRUNC, 0, large.subarray(500_000, 600_000))
    for (const [ino, data] of [
      [largeIno, large],
      [overwrittenIno, overwritten],
      [appendedIno, Buffer.concat(lines)],
      [sparse.ino, await contents(one.vfs, sparse.ino)],
      [renamedIno, large.subarray(7, 70_007)],
      [rewrittenIno, large.subarray(500_000, 600_000)],
    ] as const) {
      expected.set(ino, sha256(data))
    }
    await end()
    const newestChunk = await lastBlock(volume.redis, keys)
    await loseAll(redis)

    await makeAnew({ ...parts, settings: { ...parts.settings, createdMs: Date.now() } }, systemClock)
    const dry = await rebuild({ meta: null, minAgeMs: 0 })
    t.equal(dry.files.length, expected.size, 'a dry run tells of all of them')
    t.strictSame(await volume.redis.call('HEXISTS', keys.of(ROOT).names(ROOT), 'x'), 0)
    const result = await rebuild()
    t.ok(result.isComplete)
    t.strictSame(
      result.files.map(({ name }) => name),
      [...expected.keys()].sort((a, b) => a - b).map((ino) => `inode-${ino}`),
    )
    t.match(
      result.files.find(({ ino }) => ino === sparse.ino),
      { what: 'file', bytes: 150_000, sizeBytes: 70 * MIB + 100_000, gaps: [{ start: 0, end: 10 }, { start: 50_010 }] },
    )
    const told = unknownOf(result, true, 16_384).join('\n')
    t.match(unknownOf(result, false, 16_384).join('\n'), /what it has lost of these is not on the nodes/)
    for (const words of [/names, folders/, /up to 16384 bytes/, /deleted within/, /reflink/]) t.match(told, words)
    const reader = await client()
    for (const [ino, hash] of expected) {
      t.equal(sha256(await inLostAndFound(reader, `inode-${ino}`)), hash, `inode ${ino}`)
    }
    t.strictSame(await fsck(), [], 'and nothing is wrong')

    const again = await rebuild()
    t.strictSame(again.files, [], 'a second run finds nothing')
    t.strictSame(await restoredNames(reader.meta), [...expected.keys()].map((ino) => `inode-${ino}`).sort())
    t.ok((await touch(reader.meta, ROOT, 'new')).ino > Math.max(...expected.keys()), 'numbers are not given out again')
    t.ok((await lastBlock(volume.redis, keys)) > newestChunk)
    t.equal(await volume.redis.call('EXISTS', keys.wide('rebuild')), 0)
    await end()
  })

  t.test(
    'the end of the metadata lost: new files, and what old ones lack, and numbers that were given out twice',
    async (t) => {
      const { client, end, rebuild, volume, fsck } = await bed(t, open)
      const one = await client()
      const base = randomBytes(200_000)
      const keptIno = await writeFile(one.vfs, 'kept', base)
      const deletedIno = await writeFile(one.vfs, 'deleted', base)
      const longIno = await writeFile(one.vfs, 'long', randomBytes(9 * MIB))
      await end()
      const back = await snapshot(redis, volume.redis)
      const two = await client()
      const piece = randomBytes(50_000)
      await change(two.vfs, keptIno, 0, 100_000, piece)
      const more = randomBytes(60_000)
      await change(two.vfs, keptIno, O_APPEND, 0, more)
      const lost = randomBytes(100_000)
      const lostIno = await writeFile(two.vfs, 'lost', lost)
      const otherIno = await writeFile(two.vfs, 'other', lost.subarray(0, 70_000))
      await end()
      await back()
      // Nobody has noticed: the number of the lost file is given out again.
      const three = await client(later)
      const twiceIno = await writeFile(three.vfs, 'twice', base.subarray(0, 90_000))
      t.equal(twiceIno, lostIno, 'this is what the test is about')
      await three.vfs.unlink(CALLER, ROOT, bytes('deleted'))
      await three.vfs.unlink(CALLER, ROOT, bytes('long'))
      await end()

      const result = await rebuild()
      t.strictSame(
        result.files.map(({ name, what, of }) => [name, what, of]),
        [
          [`inode-${keptIno}.pieces`, 'pieces', keptIno],
          [`inode-${lostIno}.former`, 'former', undefined],
          [`inode-${otherIno}`, 'file', undefined],
        ].sort((a, b) => Number(String(a[0]).slice(6).split('.')[0]) - Number(String(b[0]).slice(6).split('.')[0])),
      )
      t.equal(result.deleted, 1 + 3, `what was deleted (${deletedIno}, ${longIno}) is known to be`)
      const reader = await client()
      const pieces = await inLostAndFound(reader, `inode-${keptIno}.pieces`)
      t.equal(pieces.length, 260_000)
      t.ok(pieces.subarray(100_000, 150_000).equals(piece), 'overwritten')
      t.ok(pieces.subarray(200_000).equals(more), 'appended, in its place')
      t.ok(pieces.subarray(0, 100_000).equals(Buffer.alloc(100_000)), 'the rest is holes')
      t.ok((await inLostAndFound(reader, `inode-${lostIno}.former`)).equals(lost))
      t.ok((await inLostAndFound(reader, `inode-${otherIno}`)).equals(lost.subarray(0, 70_000)))
      t.ok((await contents(reader.vfs, keptIno)).equals(base), 'what was there is as it was')
      t.ok((await contents(reader.vfs, twiceIno)).equals(base.subarray(0, 90_000)))
      t.strictSame((await rebuild()).files, [], 'a second run adds nothing')
      t.strictSame(await fsck(), [])
      await end()
    },
  )

  t.test('a packed chunk brings back what the chunks had that it replaced, below what was written since', async (t) => {
    const { client, end, rebuild, parts, fsck, cluster } = await bed(t, open)
    const { vfs, meta } = await client()
    const { ino, handle } = await create(vfs, 'packed')
    const expected = randomBytes(600_000)
    await vfs.write(handle, 0, expected)
    await vfs.fsync(handle, false)
    for (let at = 0; at < 40; at++) {
      const block = randomBytes(4096)
      const offset = ((at * 37) % 70) * 8192
      await vfs.write(handle, offset, block)
      await vfs.fsync(handle, false)
      block.copy(expected, offset)
    }
    const sources = await pack(meta, cluster, ino)
    t.ok(sources.length > 30)
    await cluster.client.remove(sources.slice(0, -2))
    const since = randomBytes(10_000)
    await vfs.write(handle, 300_000, since)
    await vfs.release(handle)
    since.copy(expected, 300_000)
    await end()
    await loseAll(redis)
    await makeAnew({ ...parts, settings: { ...parts.settings, createdMs: Date.now() } }, systemClock)
    const result = await rebuild()
    t.match(result.files, [{ ino, what: 'file', bytes: 600_000, senseless: [], gaps: [] }])
    t.ok((await inLostAndFound(await client(), `inode-${ino}`)).equals(expected))
    t.strictSame(await fsck(), [])
    t.strictSame((await rebuild()).files, [])
    await end()
  })

  t.test('damaged chunks: one good copy is enough; without any it is said, and the rest can be read', async (t) => {
    const { client, end, rebuild, parts, cluster } = await bed(t, open)
    const one = await client()
    const data = randomBytes(400_000)
    const ino = await writeFile(one.vfs, 'file', data)
    const torn = await writeFile(one.vfs, 'torn', data.subarray(0, 150_000))
    const fine = await writeFile(one.vfs, 'fine', data.subarray(0, 160_000))
    const chunkOf = async (of: number): Promise<number> => (await one.meta.extents(of, 0)).extents[0]?.chunk?.id ?? 0
    const [bad, headless, mended] = [await chunkOf(ino), await chunkOf(torn), await chunkOf(fine)]
    await end()
    await until('every owner has its copy', async () => {
      await cluster.drain()
      const chunks = [bad, headless, mended]
      return cluster.nodes.every(({ folder }) => chunks.every((id) => existsSync(chunkFile(folder, id))))
    })
    for (const { folder } of cluster.nodes) {
      damage(chunkFile(folder, bad), (length) => length - 1)
      damage(chunkFile(folder, headless), () => 40)
    }
    damage(chunkFile(cluster.nodes[0]?.folder ?? '', mended), () => 40)
    await loseAll(redis)
    await makeAnew(parts, systemClock)
    const result = await rebuild({ deep: true })
    t.strictSame([...result.headless.keys()], [headless])
    t.strictSame(
      result.files.map((file) => [file.ino, file.damaged]),
      [
        [ino, [bad]],
        [fine, []],
      ].sort((a, b) => Number(a[0]) - Number(b[0])),
    )
    t.match(unknownOf(result, true, 0).join('\n'), new RegExp(`chunk ${headless} on node .* has no readable header`))
    const reader = await client()
    t.ok((await inLostAndFound(reader, `inode-${fine}`)).equals(data.subarray(0, 160_000)))
    const folder = await reader.meta.lookup(ROOT, bytes('lost+found'))
    const file = await reader.vfs.lookup(CALLER, folder.ino, bytes(`inode-${ino}`))
    const { handle } = await reader.vfs.open(CALLER, file.ino, O_RDWR)
    t.ok((await reader.vfs.read(handle, 0, 100_000)).equals(data.subarray(0, 100_000)), 'what is good of it is read')
    await t.rejects(reader.vfs.read(handle, 390_000, 10_000), { code: 'EIO' }, 'never wrong bytes')
    await reader.vfs.release(handle)
    await end()
  })

  t.test('interrupted anywhere it is gone on with: nothing twice, nothing freed', async (t) => {
    const { client, end, rebuild, parts, volume, fsck } = await bed(t, open)
    const one = await client()
    const data = randomBytes(6 * MIB)
    const files = new Map<number, string>()
    for (const name of ['a', 'b', 'c']) {
      const ino = await writeFile(one.vfs, name, data.subarray(0, 5 * MIB))
      await change(one.vfs, ino, 0, 3 * MIB, data.subarray(5 * MIB))
      files.set(ino, sha256(await contents(one.vfs, ino)))
    }
    await end()
    await loseAll(redis)
    await makeAnew(parts, systemClock)
    for (let last = 0, done = false; !done; last++) {
      const meta = await volume.client()
      const dying = dyingAfter(meta, last)
      done = await rebuild({ meta: dying }).then(
        () => true,
        () => false,
      )
      // It is gone, and cleaned up after.
      await volume.close()
      await volume.redis.call('DEL', new VolumeKeys(parts.settings.name, parts.settings.partitions).wide('rebuilder'))
      t.ok(last < 100, 'it comes to an end')
    }
    const reader = await client()
    t.strictSame(await restoredNames(reader.meta), [...files.keys()].map((ino) => `inode-${ino}`).sort())
    for (const [ino, hash] of files) t.equal(sha256(await inLostAndFound(reader, `inode-${ino}`)), hash)
    t.strictSame(await fsck(), [])
    await end()
  })

  t.test(
    'what may be an upload under way, or is on a node that is away, waits; meanwhile no orphan is freed',
    async (t) => {
      const { client, end, rebuild, volume, keys, cluster, fsck } = await bed(t, open)
      const one = await client()
      const id = await one.meta.chunkId()
      const { ino } = await touch(one.meta, ROOT, 'file')
      const origin = { ...originOf(100_000, ino), order: systemClock.now().sec * 1e6 }
      const data = randomBytes(100_000)
      await cluster.client.write(id, [data], origin, { durability: 'all', sync: false })
      const early = await rebuild()
      t.match(early, { files: [], young: 1, isComplete: false })
      t.match(await fsck(true), [/orphans: .*rebuild/], 'nobody takes it for garbage')
      t.equal(await volume.redis.call('EXISTS', keys.wide('rebuild')), 1)
      await end()
      const node = cluster.nodes[1]
      if (node !== undefined) node.faults.killed = true
      const partly = await rebuild()
      t.match(partly, { isComplete: false, files: [{ name: `inode-${ino}.pieces`, bytes: 100_000 }] })
      t.strictSame([...partly.away.keys()], ['node-1'])
      t.equal(await volume.redis.call('EXISTS', keys.wide('rebuild')), 1)
      if (node !== undefined) node.faults.killed = false
      const whole = await rebuild()
      t.match(whole, { isComplete: true, files: [] })
      t.equal(await volume.redis.call('EXISTS', keys.wide('rebuild')), 0)
      await end()
    },
  )

  t.test('of what a file is made nobody commits any more, or nothing is made of it', async (t) => {
    const { end, rebuild, volume, cluster, keys } = await bed(t, open)
    const other = await volume.client()
    const { ino } = await touch(other, ROOT, 'file')
    const sleeper = await volume.client({ sessionTtlMs: TTL_MS })
    const upload = async (): Promise<ChunkRef> => {
      const origin = { ...originOf(1_000, ino), order: (systemClock.now().sec - HOUR_S) * 1e6 }
      const write = { durability: 'all', sync: false } as const
      return await cluster.client.write(await sleeper.chunkId(), [randomBytes(1_000)], origin, write)
    }
    const commit = (chunk: ChunkRef): Promise<unknown> => {
      const extents = [{ fileOffset: 0, lengthBytes: 1_000, chunkOffset: 0, chunk }]
      return sleeper.commit(ino, { extents, mode: 'at', allocatedDeltaBytes: 1_000, mtime: systemClock.now() })
    }
    const late = await upload()
    const store: RedisStore = {
      ...bound(volume.redis),
      run: async (script, ...words) => {
        if (script === SCRIPTS.endBlocks) await commit(late)
        return await volume.redis.run(script, ...words)
      },
    }
    t.strictSame((await rebuild({ store })).files, [], 'committed behind the survey')
    const lost = await upload()
    const session = sleeper.sessionId
    volume.cut(sleeper)
    await systemClock.sleep(1.5 * TTL_MS)
    const early = await rebuild()
    t.strictSame(early.files, [], 'its session may be renewed, or not')
    t.match(early, { young: 1, isComplete: false })
    await volume.client({ sessionTtlMs: TTL_MS })
    await until('others have cleaned up', async () => {
      const score = async (key: 's' | 'dead') => await volume.redis.call('ZSCORE', keys.wide(key), session)
      return (await score('s')) === null && (await score('dead')) === null
    })
    t.match(await rebuild(), { files: [{ chunks: 1 }], isComplete: true })
    volume.mend(sleeper)
    await until('it has another session', () => sleeper.sessionId !== session && sleeper.leased)
    t.equal(await failureOf(commit(lost)), 'EIO', 'or two files would share a chunk unawares')
    await end()
  })

  t.test('uploads that began after the histories of now were first seen keep no rebuild open', async (t) => {
    const { client, end, rebuild, volume, keys, upload } = await uploadsBed(t, open)
    await client()
    const hourAgo = Date.now() - HOUR_S * 1000
    const note = (...words: unknown[]): Promise<unknown> =>
      volume.redis.call('HSET', keys.wide('rebuild'), 'seen', words.join(' '))
    const noted = async (): Promise<string[]> =>
      String(await volume.redis.call('HGET', keys.wide('rebuild'), 'seen')).split(' ')
    const first = await upload(0)
    t.match(await rebuild(), { files: [], young: 1, isComplete: false }, 'it is from before anybody looked')
    const [, digest, newest] = await noted()
    t.equal(Number(newest), first, 'what was there when all had told')
    await upload(2 * HOUR_S)
    await note(hourAgo, 'of-others', 0)
    t.match(await rebuild(), { files: [{ chunks: 1 }], young: 1, isComplete: false }, 'a failover since then')
    await note(hourAgo, digest)
    t.match(await rebuild(), { files: [], young: 1, isComplete: false }, 'not all had told')
    await note(hourAgo, digest, (Date.now() - HOUR_S * 1000) * 1000)
    t.match(await rebuild(), { files: [], young: 0, isComplete: true })
    t.equal(await volume.redis.call('EXISTS', keys.wide('rebuild')), 0)
    await end()
  })

  t.test('what the clients of a master wrote whose clock was ahead is waited for', async (t) => {
    const { client, end, rebuild, upload } = await uploadsBed(t, open)
    await client()
    await upload(-HOUR_S)
    t.match(
      await rebuild(),
      { files: [], young: 1, isComplete: false },
      'of before the failover, by the clock from after it',
    )
    t.match(await rebuild(), { files: [], young: 1, isComplete: false }, 'still')
    await upload(-2 * HOUR_S)
    t.match(await rebuild(), { young: 1 }, 'but no upload that began later')
    await end()
    t.match(await rebuild(), { files: [{ chunks: 2 }], isComplete: true }, 'when nobody writes')
    await end()
  })

  t.test('who comes again by himself makes nothing before the histories have gone on for the least age', async (t) => {
    const { client, end, rebuild, volume, keys, upload } = await uploadsBed(t, open)
    await client()
    await upload(HOUR_S)
    const isPatient = true
    t.match(
      await rebuild({ isPatient }),
      { files: [], young: 1, isComplete: false },
      'old by a clock that was set, perhaps',
    )
    const [sinceMs, ...rest] = String(await volume.redis.call('HGET', keys.wide('rebuild'), 'seen')).split(' ')
    t.match(await rebuild({ isPatient }), { files: [], young: 1, isComplete: false })
    const words = [Number(sinceMs) - HOUR_S * 1000, ...rest]
    await volume.redis.call('HSET', keys.wide('rebuild'), 'seen', words.join(' '))
    t.match(await rebuild({ isPatient }), { files: [{ chunks: 1 }], isComplete: true })
    await end()
  })

  t.test('what a node is still to remove is not brought back, nor older versions', async (t) => {
    const { client, end, rebuild, cluster } = await bed(t, open)
    const one = await client()
    const write = { durability: 'all', sync: false } as const
    const removed = await one.meta.chunkId()
    await cluster.client.write(removed, [randomBytes(100)], originOf(100, 4242), write)
    for (const node of cluster.nodes) node.queue.push({ kind: 'remove', chunk: removed })
    const ino = await writeFile(one.vfs, 'file', randomBytes(100_000))
    const old = await one.meta.chunkId()
    const { extents } = await one.meta.extents(ino, 0)
    t.equal(extents.length, 1)
    const { btime } = await one.meta.getattr(ino)
    await end()
    // Written before what the file has now, however long ago that is.
    const order = btime.sec * 1e6 - 1_000_000
    await cluster.client.write(old, [randomBytes(50)], { ...originOf(50, ino), order }, write)
    t.match(await rebuild(), { files: [], deleted: 1, hidden: 1 })
    await end()
  })

  t.test('two at once: the second is refused', async (t) => {
    const { rebuild, volume, keys, end } = await bed(t, open)
    await volume.redis.call('SET', keys.wide('rebuilder'), 'another')
    await t.rejects(rebuild(), { code: 'ALREADY_RUNNING' })
    t.equal(String(await volume.redis.call('GET', keys.wide('rebuilder'))), 'another', 'and does not take it away')
    await end()
  })
})

async function lastBlock(store: RedisStore, keys: VolumeKeys): Promise<number> {
  return Number(await store.call('HGET', keys.wide('n'), 'chunkBlock'))
}

/** After so many changes every further one fails, and nothing more is sent. */
function dyingAfter(meta: MetaStore, changes: number): MetaStore {
  let left = changes
  const dying = new Set<PropertyKey>(['mkdir', 'create', 'commit', 'sync'])
  return new Proxy(meta, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        if (dying.has(name) && left-- <= 0) return Promise.reject(new Error('killed by the test'))
        return Reflect.apply(value, target, args)
      }
    },
  })
}
