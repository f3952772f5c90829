/**
 * A replica takes its master's place without the last of what that master had acknowledged.
 *
 * Fault model: the connection between the two breaks, changes are made that the master alone knows of, and the master dies. No
 * number given then may be given again, and whoever has something of it open is told.
 */
import t, { type Test } from 'tap'
import { RingfsError } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaEvent, MetaStore } from '../../src/meta/contract.js'
import { LOCK_END } from '../../src/meta/contract.js'
import { listSessions } from '../../src/meta/format.js'
import { createVfs } from '../../src/vfs/vfs.js'
import { MemoryChunks } from '../helpers/memory-chunks.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { bound } from '../helpers/bound-redis.js'
import { PATIENCE_MS } from '../helpers/deadline.js'
import { checkVolume } from '../helpers/meta-check.js'
import {
  ROOT,
  bytes,
  makeDirIn,
  names,
  outcome,
  touch,
  until,
  volumesOn,
  writeAt,
  type MetaVolume,
} from '../helpers/meta.js'
import { startRedis, type TestRedis } from '../helpers/redis.js'
import { CALLER, O_RDWR, codeOf } from '../helpers/vfs-fixture.js'

t.setTimeout(600_000)

const [MASTER, REPLICA] = [0, 1]
const whole = (owner: string) => ({ kind: 'flock', type: 'write', owner, start: 0n, end: LOCK_END, pid: 1 }) as const

/** From now on the replica gets nothing. */
async function cutReplication(redis: TestRedis): Promise<void> {
  await redis.command(REPLICA, 'CONFIG', 'SET', 'masterauth', 'wrong')
  await until('replication is cut', async () => {
    await redis.command(MASTER, 'CLIENT', 'KILL', 'TYPE', 'replica')
    return String(await redis.command(MASTER, 'INFO', 'replication')).includes('connected_slaves:0')
  })
}

/** The old master comes back as a replica. */
async function failOver(redis: TestRedis): Promise<void> {
  await redis.kill(MASTER)
  await redis.command(REPLICA, 'CLUSTER', 'FAILOVER', 'TAKEOVER')
  await until('the replica is the master', () => redis.isMaster(REPLICA))
  await redis.restart(MASTER)
  await until('the old master follows', async () => {
    return String(await redis.command(MASTER, 'INFO', 'replication')).includes('master_link_status:up')
  })
}

function listen(meta: MetaStore): MetaEvent[] {
  const events: MetaEvent[] = []
  meta.onEvent((event) => events.push(event))
  return events
}

async function start(t: Test): Promise<{ redis: TestRedis; open: ReturnType<typeof volumesOn> }> {
  const redis = await startRedis(t, { masters: 1, replicas: 1 })
  return { redis, open: volumesOn(t, redis) }
}

t.test('numbers that a lost server gave are not given again; who holds what was lost is told', async (t) => {
  const { redis, open } = await start(t)
  const volume = await open(8, 1)
  const ann = await volume.client()
  const home = await makeDirIn(ann, ROOT, 'home', { partition: 3 })
  const kept = await touch(ann, home.ino, 'kept')
  const away = await makeDirIn(ann, ROOT, 'away', { partition: 5 })
  await ann.sync()
  const events = listen(ann)

  await cutReplication(redis)
  const lost = await touch(ann, home.ino, 'lost')
  const lostDir = await ann.mkdir(home.ino, bytes('lost-dir'), 0o755, 0, 0)
  await ann.setlk(kept.ino, whole('a1'), { wait: false })
  const bob = await volume.client({ sessionTtlMs: 4_000 })
  const gave = { session: bob.sessionId, chunk: await bob.chunkId() }
  await failOver(redis)

  await until('the clients have found the new master', () => ann.coherent && bob.coherent, 60_000)
  const has = (kind: MetaEvent['kind'], ino: number): boolean =>
    events.some((event) => event.kind === kind && 'of' in event && event.of(ino))
  await until('it is told what was lost', () => has('tailLost', home.ino) && has('locksLost', kept.ino))
  t.notOk(has('tailLost', away.ino), 'and nothing else')
  t.strictSame(await names(ann, home.ino), ['kept'], 'what the replica never had')

  const cleo = await volume.client()
  await until('who has a lost session begins a new one', () => bob.coherent && bob.sessionId !== gave.session, 60_000)
  t.equal(new Set([ann.sessionId, bob.sessionId, cleo.sessionId, gave.session]).size, 4, 'sessions')
  t.ok(Math.floor((await cleo.chunkId()) / 2 ** 24) > Math.floor(gave.chunk / 2 ** 24), 'blocks of chunk ids')
  for (const client of [ann, cleo]) {
    const again = await touch(client, home.ino, `again${client.sessionId}`)
    t.ok(again.ino > lost.ino, 'inode numbers')
    const dir = await client.mkdir(home.ino, bytes(`dir${client.sessionId}`), 0o755, 0, 0)
    t.not(dir.ino, lostDir.ino, 'numbers of directories')
  }
  t.ok(await cleo.setlk(kept.ino, whole('c1'), { wait: false }), 'the lock is free: its holder was told')
  t.equal(await outcome(ann.setlk(kept.ino, whole('a1'), { wait: false })), 'EAGAIN')
  await ann.sync()
  await volume.close()
  t.strictSame(await checkVolume(volume), [])
  await volume.close()
})

t.test('a change that a lost server made is made again by its successor before anybody is told', async (t) => {
  const { redis, open } = await start(t)
  const volume = await open(8, 1)
  const ann = await volume.client({ replicasMs: PATIENCE_MS })
  const home = await makeDirIn(ann, ROOT, 'home', { partition: 3 })
  const away = await makeDirIn(ann, ROOT, 'away', { partition: 5 })
  const [moved, linked, removed] = await Promise.all(['moved', 'linked', 'removed'].map((n) => touch(ann, home.ino, n)))
  await ann.sync()
  const events = listen(ann)

  await cutReplication(redis)
  const { inodes, counters } = new VolumeKeys(volume.settings.name, 8).of(home.ino)
  const inodesBefore = Number(await volume.redis.call('HGET', counters, 'inodes'))
  const isTold: string[] = []
  const told = async <T>(what: string, change: Promise<T>): Promise<T> => change.finally(() => isTold.push(what))
  const files = ['a', 'b', 'c'].map((name) => told(name, touch(ann, home.ino, name)))
  const rest = [
    told('dir', ann.mkdir(home.ino, bytes('dir'), 0o755, 0, 0)),
    told('rename', ann.rename(home.ino, bytes('moved'), away.ino, bytes('moved'), {})),
    told('link', ann.link(linked?.ino ?? 0, away.ino, bytes('link'))),
    told('unlink', ann.unlink(home.ino, bytes('removed'))),
    told('chmod', ann.setattr(away.ino, { mode: 0o700 })),
  ]
  await until('the master has made the files, and removed one', async () => {
    return Number(await volume.redis.call('HGET', counters, 'inodes')) === inodesBefore + files.length - 1
  })
  t.strictSame(isTold, [], 'nobody is told what one server alone knows')
  await failOver(redis)

  const made = await Promise.all(files)
  await Promise.all(rest)
  const cleo = await volume.client()
  t.strictSame((await names(cleo, home.ino)).toSorted(), ['a', 'b', 'c', 'dir', 'linked'])
  t.strictSame((await names(cleo, away.ino)).toSorted(), ['link', 'moved'])
  for (const [index, name] of ['a', 'b', 'c'].entries()) {
    t.equal((await cleo.lookup(home.ino, bytes(name))).ino, made[index]?.ino, `${name} is the file that was answered`)
  }
  t.equal((await cleo.lookup(away.ino, bytes('moved'))).ino, moved?.ino)
  t.equal((await cleo.getattr(linked?.ino ?? 0)).nlink, 2)
  t.equal((await cleo.getattr(away.ino)).mode & 0o777, 0o700)
  t.equal(await volume.redis.call('HEXISTS', inodes, String(removed?.ino)), 0)
  await ann.sync()
  t.notOk(
    events.some(({ kind }) => kind === 'tailLost'),
    'nothing is lost that anybody was told of',
  )
  await volume.close()
  t.strictSame(await checkVolume(volume), [])
  await volume.close()
})

t.test('a master that stands still before it says what its replicas have is no master without replicas', async (t) => {
  const redis = await startRedis(t, { masters: 1, replicas: 1 })
  let [gate, failed] = [Promise.resolve(), 0]
  const open = volumesOn(t, redis, (store) => ({
    ...bound(store),
    waitReplicas: async (...args) => {
      await gate
      return store.waitReplicas(...args).catch((error: unknown) => {
        failed++
        throw error
      })
    },
  }))
  const volume = await open(8, 1)
  const ann = await volume.client()
  const home = await makeDirIn(ann, ROOT, 'home', { partition: 3 })
  await cutReplication(redis)
  let release = (): void => undefined
  gate = new Promise((resolve) => (release = resolve))
  const { counters } = new VolumeKeys(volume.settings.name, 8).of(home.ino)
  const count = async (): Promise<number> => Number(await volume.redis.call('HGET', counters, 'inodes'))
  const before = await count()
  let isTold = false
  const making = touch(ann, home.ino, 'file').finally(() => (isTold = true))
  await until('the master has made it', async () => (await count()) > before)
  redis.pause(MASTER)
  release()
  await until('it does not answer', () => failed > 0)
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  t.notOk(isTold)
  await failOver(redis)
  const made = await making
  t.equal((await ann.lookup(home.ino, bytes('file'))).ino, made.ino)
  await volume.close()
  t.strictSame(await checkVolume(volume), [])
  await volume.close()
})

t.test('an fsync says so also if the session has ended meanwhile, and only if something was lost', async (t) => {
  const { redis, open } = await start(t)
  const volume = await open(8, 1)
  const ann = await volume.client({ sessionTtlMs: 1_000 })
  const home = await makeDirIn(ann, ROOT, 'home', { partition: 3 })
  const away = await makeDirIn(ann, ROOT, 'away', { partition: 5 })
  const [lost, kept] = [await touch(ann, home.ino, 'lost'), await touch(ann, away.ino, 'kept')]
  const meta = await volume.client({ sessionTtlMs: 1_000 })
  const vfs = createVfs({ meta, chunks: new MemoryChunks(), log: silentLog })
  const session = meta.sessionId
  const write = async ({ ino }: { readonly ino: number }): Promise<number> => {
    const { handle } = await vfs.open(CALLER, ino, O_RDWR)
    await vfs.write(handle, 0, Buffer.from('text'))
    await vfs.flush(handle)
    return handle
  }
  const quiet = await write(kept)
  await ann.sync()
  await cutReplication(redis)
  const busy = await write(lost)
  volume.cut(meta)
  await failOver(redis)
  const isKnown = async (): Promise<boolean> =>
    (await listSessions(volume.redis, volume.settings.name)).some(({ id }) => id === session)
  await until('it is cleaned up after', async () => !(await isKnown()), 60_000)
  volume.mend(meta)
  await until('a new session has begun', () => meta.coherent && meta.sessionId !== session, 60_000)
  t.equal(await codeOf(vfs.fsync(busy, false)), 'EIO')
  t.equal(await codeOf(vfs.fsync(busy, false)), 'ok', 'told once')
  t.equal(await codeOf(vfs.fsync(quiet, false)), 'ok', 'nothing of it was lost')
  for (const handle of [busy, quiet]) await vfs.release(handle)
  await vfs.shutdown()
  await volume.close()
})

t.test('an fsync says that what it was to make durable is lost, once, also if it was closed meanwhile', async (t) => {
  const { redis, open } = await start(t)
  const volume = await open(8, 1)
  const meta = await volume.client()
  const home = await makeDirIn(meta, ROOT, 'home', { partition: 3 })
  const vfs = createVfs({ meta, chunks: new MemoryChunks(), log: silentLog })
  t.teardown(() => vfs.shutdown())
  const make = async (name: string) => {
    const { handle } = await vfs.create(CALLER, home.ino, bytes(name), 0o644, O_RDWR)
    return handle
  }
  const [quiet, busy, closed] = [await make('quiet'), await make('busy'), await make('closed')]
  for (const handle of [quiet, busy, closed]) {
    await vfs.write(handle, 0, Buffer.from('synced'))
    await vfs.fsync(handle, false)
  }
  await cutReplication(redis)
  await vfs.write(busy, 0, Buffer.from('unsynced'))
  await vfs.flush(busy)
  const { ino } = await vfs.setattr(CALLER, (await vfs.lookup(CALLER, home.ino, bytes('closed'))).ino, { mode: 0o600 })
  await vfs.release(closed)
  await vfs.mkdir(CALLER, home.ino, bytes('dir'), 0o755)
  await failOver(redis)
  t.equal(await codeOf(vfs.fsync(busy, false)), 'EIO', 'what it wrote last is lost')
  t.equal(await codeOf(vfs.fsync(busy, false)), 'ok', 'told once')
  t.equal(await codeOf(vfs.fsync(quiet, false)), 'ok', 'had nothing to lose')
  const again = (await vfs.open(CALLER, ino, O_RDWR)).handle
  t.equal(await codeOf(vfs.fsync(again, false)), 'EIO', 'nobody had it open')
  t.equal(await codeOf(vfs.fsync(again, false)), 'ok', 'told once')
  const directory = await vfs.opendir(CALLER, home.ino)
  t.equal(await codeOf(vfs.fsyncdir(directory)), 'EIO', 'names, too')
  t.equal(await codeOf(vfs.fsyncdir(directory)), 'ok', 'told once')
  vfs.releasedir(directory)
  const text = async (handle: number) => (await vfs.read(handle, 0, 100)).toString()
  t.equal(await text(busy), 'synced', 'what was acknowledged')
  await vfs.write(busy, 0, Buffer.from('again!'))
  t.equal(await codeOf(vfs.fsync(busy, false)), 'ok')
  t.equal(await text(busy), 'again!')
  for (const handle of [quiet, busy, again]) await vfs.release(handle)
  await vfs.shutdown()
  await volume.close()
  t.strictSame(await checkVolume(volume), [])
  await volume.close()
})

t.test('who cleans up after a client that was killed has lost nothing by it', async (t) => {
  const { redis, open } = await start(t)
  const volume = await open(8, 1)
  const ann = await volume.client({ sessionTtlMs: 1_000 })
  const bob = await volume.client({ sessionTtlMs: 1_000 })
  const home = await makeDirIn(ann, ROOT, 'home', { partition: 3 })
  const [file, his] = [await touch(ann, home.ino, 'file'), await touch(bob, home.ino, 'his')]
  await bob.setlk(his.ino, whole('b1'), { wait: false })
  volume.cut(bob)
  const isFree = async (): Promise<boolean> =>
    (await outcome(ann.setlk(his.ino, whole('a1'), { wait: false }))) === 'ok'
  await until('it is cleaned up after', isFree, 60_000)
  await ann.setlk(file.ino, whole('a1'), { wait: false })
  const events = listen(ann)
  for (let i = 0; i < 100; i++) await touch(ann, home.ino, `more${i}`)
  await ann.sync()
  // Everywhere is looked over then.
  await redis.command(MASTER, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
  await until('it has noticed', () => events.some(({ kind }) => kind === 'lost'))
  await until('it hears of changes again', () => ann.coherent, 60_000)
  t.strictSame(
    events.filter(({ kind }) => kind === 'tailLost' || kind === 'locksLost'),
    [],
  )
  await volume.close()
})

async function collected(meta: MetaStore): Promise<readonly number[]> {
  const removed: number[] = []
  await meta.collectGarbage((ids) => Promise.resolve(void removed.push(...ids)), 0)
  return removed
}

t.test('what a lost change has freed is there still', async (t) => {
  const { redis, open } = await start(t)
  const volume = await open(8, 1)
  const ann = await volume.client()
  const { ino } = await touch(ann, ROOT, 'file')
  const { chunk } = await writeAt(ann, ino, 0, 4096)
  await ann.sync()

  await cutReplication(redis)
  await ann.unlink(ROOT, bytes('file'))
  await t.rejects(collected(ann), { code: 'EIO' }, 'nothing is deleted that the replica names')
  await failOver(redis)
  await until('the client has found the new master', () => ann.coherent, 60_000)
  t.equal((await ann.lookup(ROOT, bytes('file'))).ino, ino, 'the file is there')
  t.equal((await ann.extents(ino, 0)).extents[0]?.chunk?.id, chunk?.id)

  await ann.unlink(ROOT, bytes('file'))
  t.strictSame(await collected(ann), [chunk?.id], 'and now it may go')
  await volume.close()
})

/** A private Redis whose file can be put on disk, or not, as the test says. */
async function startPrivate(t: Test): Promise<{ volume: MetaVolume; file: { isStuck: boolean } }> {
  const file = { isStuck: false }
  const wrap = (store: RedisStore): RedisStore => ({
    ...bound(store),
    syncLocal: () =>
      file.isStuck ? Promise.reject(new RingfsError('METADATA_NOT_SYNCED', 'by the test')) : Promise.resolve(true),
  })
  return { volume: await volumesOn(t, await startRedis(t), wrap)(), file }
}

t.test('no chunk has an id that a private Redis could give again after a loss of power', async (t) => {
  const { volume, file } = await startPrivate(t)
  const ann = await volume.client()
  file.isStuck = true
  await t.rejects(ann.chunkId(), { code: 'METADATA_NOT_SYNCED' })
  file.isStuck = false
  const first = await ann.chunkId()
  file.isStuck = true
  t.equal(await ann.chunkId(), first + 1, 'the block is on disk')
  file.isStuck = false
  await volume.close()
})

t.test('nothing is deleted before a private Redis has on disk that it is not used any more', async (t) => {
  const { volume, file } = await startPrivate(t)
  const ann = await volume.client()
  const { ino } = await touch(ann, ROOT, 'file')
  const { chunk } = await writeAt(ann, ino, 0, 4096)
  await ann.unlink(ROOT, bytes('file'))
  file.isStuck = true
  await t.rejects(collected(ann), { code: 'METADATA_NOT_SYNCED' })
  file.isStuck = false
  t.strictSame(await collected(ann), [chunk?.id])
  await volume.close()
})
