/** What dead writers leave on the nodes is freed by itself; what anybody could still commit never is. */
import t, { type Test } from 'tap'
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sweepOrphans } from '../../src/check/sweep.js'
import { systemClock } from '../../src/base/clock.js'
import { RingfsError } from '../../src/base/errors.js'
import type { ChunkRef } from '../../src/chunk/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import type { ClusterView, RedisStore, RedisValue } from '../../src/cluster/contract.js'
import { NOTHING_HEALED } from '../../src/cluster/report.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { VOLUME, chunkFile, startCluster, type TestCluster } from '../helpers/chunks.js'
import { ROOT, bytes, outcome, touch, until, volumesOn, type MetaVolume, type OpenVolume } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const TTL_MS = 1_000
const BYTES = 70_000

/** Does not tell whose blocks are whose. */
class MuteRedis extends CountingRedis {
  readonly #mute: { readonly isMute: boolean }
  constructor(store: RedisStore, mute: { readonly isMute: boolean }) {
    super(store)
    this.#mute = mute
  }

  override run(...words: Parameters<RedisStore['run']>): Promise<RedisValue> {
    const isRefused = this.#mute.isMute && words[0] === SCRIPTS.ownBlocks
    return isRefused ? Promise.reject(new RingfsError('REDIS_UNREACHABLE', 'mute')) : super.run(...words)
  }
}

interface Bed {
  readonly volume: MetaVolume
  readonly cluster: TestCluster
  readonly keys: VolumeKeys
  readonly writer: () => Promise<MetaStore>
  readonly sweep: (graceMs?: number) => Promise<number>
  /** What node-0 reports of its disk from now on. */
  readonly reports: (state: 'up' | 'failed') => void
  readonly upload: (meta: MetaStore, ino: number) => Promise<ChunkRef>
  readonly commit: (meta: MetaStore, ino: number, chunk: ChunkRef) => Promise<unknown>
  readonly isThere: (chunk: ChunkRef) => boolean
  /** Others have cleaned up after the session. */
  readonly isGone: (session: number) => Promise<void>
}

async function bed(t: Test, open: OpenVolume): Promise<Bed> {
  const volume = await open()
  const cluster = await startCluster(t, { nodes: 3 })
  const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
  let state: 'up' | 'failed' = 'up'
  const parts = {
    ...{ store: volume.redis, keys, volume: VOLUME, chunks: cluster.client },
    view: () => withDisk(cluster.placement().view, state),
    node: (id: string) => cluster.node(id).api,
  }
  const scoreOf = async (key: 's' | 'dead', session: number) => volume.redis.call('ZSCORE', keys.wide(key), session)
  return {
    ...{ volume, cluster, keys },
    reports: (now) => void (state = now),
    writer: () => volume.client({ sessionTtlMs: TTL_MS }),
    // The first one notes who is gone, the second one finds that it was a grace period ago.
    sweep: async (graceMs = 0) =>
      (await sweepOrphans({ ...parts, graceMs })) + (await sweepOrphans({ ...parts, graceMs })),
    upload: async (meta, ino) => {
      const id = await meta.chunkId()
      const order = Math.floor(systemClock.now().sec * 1e6)
      const origin = { ino, order, extents: [{ fileOffset: 0, chunkOffset: 0, lengthBytes: BYTES }] }
      const written = await cluster.client.write(id, [Buffer.alloc(BYTES, id)], origin, {
        durability: 'all',
        sync: false,
      })
      await cluster.drain()
      return written
    },
    commit: (meta, ino, chunk) => {
      const extent = { fileOffset: 0, lengthBytes: BYTES, chunkOffset: 0, chunk }
      const change = { extents: [extent], mode: 'at', allocatedDeltaBytes: BYTES, mtime: systemClock.now() } as const
      return meta.commit(ino, change)
    },
    isThere: ({ id }) => cluster.nodes.every(({ folder }) => existsSync(chunkFile(folder, id))),
    isGone: (session) =>
      until('others have cleaned up', async () => {
        return (await scoreOf('s', session)) === null && (await scoreOf('dead', session)) === null
      }),
  }
}

/** One of the names that folders of chunks have. */
function unusedIn(folder: string): string {
  const used = new Set(readdirSync(join(folder, 'chunks')))
  const names = Array.from({ length: 256 }, (_, name) => name.toString(16).padStart(2, '0'))
  return names.find((name) => !used.has(name)) ?? ''
}

/** The first node reports of a second disk. */
function withDisk(view: ClusterView, state: 'up' | 'failed'): ClusterView {
  const disk = {
    disk: 'd',
    folder: '/d2',
    state,
    why: 'EIO',
    totalBytes: 0,
    freeBytes: 0,
    chunks: 0,
    damaged: 0,
    waiting: 0,
    unlisted: 0,
    unlistedWhy: '',
    leaving: 'no' as const,
  }
  const heal = { ...NOTHING_HEALED, isDone: true }
  const report = { clockOffsetMs: 0, unreachable: [], heal, disks: [disk] }
  return { ...view, members: view.members.map((one) => (one.id === 'node-0' ? { ...one, report } : one)) }
}

t.test('orphans of dead writers', async (t) => {
  const redis = await startRedis(t)
  const open = volumesOn(t, redis)

  t.test('a killed client: what it had not committed goes after its grace, and nothing else', async (t) => {
    const { volume, keys, writer, sweep, upload, commit, isThere, isGone } = await bed(t, open)
    const [dying, living] = [await writer(), await writer()]
    const { ino } = await touch(dying, ROOT, 'file')
    const kept = await upload(dying, ino)
    await commit(dying, ino, kept)
    const lost = await upload(dying, ino)
    const deletedIno = (await touch(dying, ROOT, 'deleted')).ino
    const deleted = await upload(dying, deletedIno)
    await commit(dying, deletedIno, deleted)
    const underWay = await upload(living, ino)
    t.equal(await sweep(), 0, 'all of them live')
    volume.cut(dying)
    await isGone(dying.sessionId)
    await living.unlink(ROOT, bytes('deleted'))
    t.equal(await sweep(1e9), 0, 'its grace is not over')
    t.ok(isThere(lost))
    await volume.redis.call('HSET', keys.wide('rebuild'), 'begun', 1)
    t.equal(await sweep(), 0, 'a rebuild is not complete')
    await volume.redis.call('DEL', keys.wide('rebuild'))
    await volume.redis.call('SET', keys.wide('rebuilder'), 'another')
    t.equal(await sweep(), 0, 'a rebuild is under way')
    await volume.redis.call('DEL', keys.wide('rebuilder'))
    const inodes = keys.of(ino).inodes
    const record = await volume.redis.call('HGET', inodes, ino)
    if (!Buffer.isBuffer(record)) throw new Error('it has a record')
    await volume.redis.call('HSET', inodes, ino, Buffer.concat([record, Buffer.from([1])]))
    t.equal(await sweep(), 0, 'what the file names cannot be read')
    t.ok(isThere(kept) && isThere(lost))
    await volume.redis.call('HSET', inodes, ino, record)
    t.equal(await sweep(), 1)
    t.notOk(isThere(lost))
    t.ok(isThere(kept) && isThere(underWay))
    t.ok(isThere(deleted), 'the janitor has its own grace')
    t.equal(await living.collectGarbage(() => Promise.resolve(), 0), 1)
    await commit(living, ino, underWay)
    t.equal(await volume.redis.call('HLEN', keys.wide('blocks')), 1, 'what is done is forgotten')
    await volume.close()
    t.equal(await sweep(), 0, 'of one that ended in order nothing is left')
    t.equal(await volume.redis.call('HLEN', keys.wide('blocks')), 0)
    t.ok(isThere(underWay))
  })

  t.test(
    'a client that was only away goes on; one that was away for too long commits nothing that may be freed',
    async (t) => {
      const { volume, writer, sweep, upload, commit, isThere, isGone } = await bed(t, open)
      const [sleeper, other] = [await writer(), await writer()]
      const { ino } = await touch(other, ROOT, 'file')
      const first = await upload(sleeper, ino)
      const session = sleeper.sessionId
      volume.cut(sleeper)
      await isGone(session)
      t.equal(await sweep(1e9), 0)
      volume.mend(sleeper)
      await until('it has another session', () => sleeper.sessionId !== session && sleeper.leased)
      await until('its chunk is committed', async () => (await outcome(commit(sleeper, ino, first))) === 'ok')
      t.equal(await sweep(), 0)
      t.ok(isThere(first), 'its block is its next session’s')

      const second = await upload(sleeper, ino)
      const again = sleeper.sessionId
      volume.cut(sleeper)
      await isGone(again)
      t.equal(await sweep(), 1)
      volume.mend(sleeper)
      await until('it has another session', () => sleeper.sessionId !== again && sleeper.leased)
      t.equal(await outcome(commit(sleeper, ino, second)), 'EIO', 'never a name of a chunk that is gone')
      const old = await other.extents(ino, 0)
      const packed = old.extents.map((extent) => ({ ...extent, chunk: second }))
      t.equal(
        await outcome(sleeper.compact(ino, old, packed, old.extents, 0, Date.now() * 1000)),
        'EIO',
        'nor by a packing',
      )
      t.equal(await outcome(sleeper.compact(ino, old, old.extents, [], 0)), 'ok', 'what is named may be compacted')
      const third = await upload(sleeper, ino)
      await commit(sleeper, ino, third)
      t.ok(isThere(third) && isThere(first), 'it goes on with a new block')
      await volume.close()
    },
  )

  t.test(
    'when Redis does not tell whose chunk ids they are, commits fail in their time, and a shutdown ends',
    async (t) => {
      const mute = { isMute: false }
      const volume = await volumesOn(t, redis, (store) => new MuteRedis(store, mute))()
      const [away, other] = [
        await volume.client({ sessionTtlMs: TTL_MS, operationDeadlineMs: 5_000 }),
        await volume.client({ sessionTtlMs: TTL_MS }),
      ]
      const { ino } = await touch(other, ROOT, 'file')
      const chunk = { id: await away.chunkId(), lengthBytes: BYTES, root: Buffer.alloc(32) }
      const session = away.sessionId
      volume.cut(away)
      await until('others have ended it', async () => {
        const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
        return (await volume.redis.call('ZSCORE', keys.wide('s'), session)) === null
      })
      mute.isMute = true
      volume.mend(away)
      await until('it has another session', () => away.sessionId !== session)
      const extent = { fileOffset: 0, lengthBytes: BYTES, chunkOffset: 0, chunk }
      const change = { extents: [extent], mode: 'at', allocatedDeltaBytes: BYTES, mtime: systemClock.now() } as const
      t.equal(await outcome(away.commit(ino, change)), 'EIO')
      await volume.close()
    },
  )

  t.test('a node that is away is asked again: its block is not forgotten', async (t) => {
    const { volume, cluster, keys, writer, sweep, upload, isThere, isGone, reports } = await bed(t, open)
    const [dying, other] = [await writer(), await writer()]
    const lost = await upload(dying, (await touch(other, ROOT, 'file')).ino)
    volume.cut(dying)
    await isGone(dying.sessionId)
    const node = cluster.nodes[0]
    if (node !== undefined) node.faults.killed = true
    t.equal(await sweep(), 1, 'on the nodes that answer; the other has it in its queue')
    t.equal(await volume.redis.call('HLEN', keys.wide('blocks')), 1)
    if (node !== undefined) node.faults.killed = false
    await cluster.drain()
    reports('failed')
    await sweep()
    t.equal(await volume.redis.call('HLEN', keys.wide('blocks')), 1, 'one of its disks is away')
    reports('up')
    // In the place of a folder: what is in there cannot be listed.
    const place = join(node?.folder ?? '', 'chunks', unusedIn(node?.folder ?? ''))
    writeFileSync(place, '')
    await sweep()
    t.equal(await volume.redis.call('HLEN', keys.wide('blocks')), 1, 'one of its folders cannot be listed')
    rmSync(place)
    await sweep()
    t.notOk(isThere(lost))
    t.equal(await volume.redis.call('HLEN', keys.wide('blocks')), 0)
    await volume.close()
  })
})
