/** Old small files make room for new ones: on a real redis-server and real chunk nodes. */
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { RingfsError } from '../../src/base/errors.js'
import { KIB } from '../../src/base/limits.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import type { MetaStore } from '../../src/meta/contract.js'
import { openMeta } from '../../src/meta/engine.js'
import { formatVolume } from '../../src/meta/format.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import type { VfsContract } from '../../src/vfs/contract.js'
import { createVfs, type Housekeeping } from '../../src/vfs/vfs.js'
import { startCluster, type TestCluster } from '../helpers/chunks.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { checkVolume } from '../helpers/meta-check.js'
import { rebuildAll } from '../helpers/rebuilt.js'
import { connectPatiently, startRedis, type TestRedis } from '../helpers/redis.js'

t.setTimeout(600_000)

const CALLER = { uid: 0, gid: 0, pid: 1 }
const ROOT = 1
const O_RDWR = 2
const O_CREAT = 0o100
const O_TRUNC = 0o1000
const LENGTH = 4 * KIB
const BUDGET = 400 * KIB
const always = (): Promise<boolean> => Promise.resolve(true)

interface Client {
  readonly meta: MetaStore
  readonly vfs: VfsContract & Housekeeping
}

interface Bed {
  readonly redis: TestRedis
  readonly store: RedisStore
  readonly cluster: TestCluster
  readonly settings: Awaited<ReturnType<typeof formatVolume>>
  /** `clock`: of what it writes; `budget`: that it takes for the volume's. */
  readonly client: (clock?: Clock, budget?: number, through?: RedisStore) => Promise<Client>
  readonly end: () => Promise<void>
}

/** An hour ago: what it writes has rested. */
const behind: Clock = {
  now: () => ({ ...systemClock.now(), sec: systemClock.now().sec - 3_600 }),
  monotonicMs: () => systemClock.monotonicMs(),
  wallMs: () => systemClock.wallMs(),
  sleep: (ms) => systemClock.sleep(ms),
  after: systemClock.after.bind(systemClock),
}

async function bed(t: Test): Promise<Bed> {
  const redis = await startRedis(t)
  const store = await connectPatiently(redis.url('v'))
  t.teardown(() => store.close())
  const settings = await formatVolume(store, 'v', { partitions: 4, replicas: 3, inlineBudgetBytes: BUDGET })
  const cluster = await startCluster(t, { nodes: 3, replicas: 3, writeQuorum: 2 })
  const clients: Client[] = []
  const end = async (): Promise<void> => {
    for (const { vfs, meta } of clients.splice(0)) {
      await vfs.shutdown()
      await meta.shutdown()
    }
  }
  t.teardown(end)
  const client: Bed['client'] = async (clock = systemClock, inlineBudgetBytes = BUDGET, through = store) => {
    const options = { log: silentLog, clock, delegations: { enabled: false } }
    const meta = await openMeta(through, { ...settings, inlineBudgetBytes }, options)
    const vfs = createVfs({ meta, chunks: cluster.client, clock, log: silentLog })
    clients.push({ meta, vfs })
    return { meta, vfs }
  }
  return { redis, store, cluster, settings, client, end }
}

/** Counters that are off, and whatever else is wrong. */
async function problemsOf({ settings, store, client, end }: Bed): Promise<string[]> {
  await end()
  const cannot = (): void => undefined
  const open = async (): Promise<MetaStore> => (await client()).meta
  return await checkVolume({ settings, redis: store, client: open, cut: cannot, mend: cannot, close: end })
}

async function write({ vfs }: Client, name: string, data: Buffer): Promise<number> {
  const { attr, handle } = await vfs.create(CALLER, ROOT, Buffer.from(name), 0o644, O_RDWR | O_CREAT)
  await vfs.write(handle, 0, data)
  await vfs.release(handle)
  return attr.ino
}

async function contents({ vfs }: Client, ino: number): Promise<Buffer> {
  const { handle } = await vfs.open(CALLER, ino, 0)
  const data = Buffer.from(await vfs.read(handle, 0, 64 * KIB))
  await vfs.release(handle)
  return data
}

/** Files until there is no room for another: contents by inode. */
async function fill(writer: Client): Promise<Map<number, Buffer>> {
  const files = new Map<number, Buffer>()
  for (let n = 0; ; n++) {
    const data = randomBytes(LENGTH)
    const ino = await write(writer, `old${n}`, data)
    files.set(ino, data)
    if (!(await writer.meta.getattr(ino)).hasBody) return files
  }
}

t.test('where the room is taken old files make some, for whole long ones, too, and read the same', async (t) => {
  const all = await bed(t)
  const { client } = all
  const files = await fill(await client(behind))
  const [mover, other] = [await client(), await client()]
  const late = await write(other, 'late', randomBytes(LENGTH))
  t.match(await other.meta.getattr(late), { hasBody: false }, 'there is none')
  for (const ino of files.keys()) await contents(other, ino)
  t.equal(await mover.vfs.bodyMover.makeRoom(always), 'done')
  t.ok((await other.meta.oldBodies.count()) <= BUDGET / 2)
  for (const reader of [mover, other, await client()]) {
    for (const [ino, data] of files) t.ok((await contents(reader, ino)).equals(data))
  }
  // First: there may be room for one of these only, since what is moved is taken by chance.
  const whole = await write(other, 'whole', randomBytes(40 * KIB))
  t.match(await other.meta.getattr(whole), { hasBody: true, hasExtents: false })
  const early = await write(other, 'early', randomBytes(LENGTH))
  t.match(await other.meta.getattr(early), { hasBody: true, hasExtents: false })
  t.same(await problemsOf(all), [])
})

t.test('others write, cut, remove and rename meanwhile, and every byte is theirs', async (t) => {
  const all = await bed(t)
  const { client, cluster } = all
  const mover = await client(systemClock, 1)
  // What they write has rested at once.
  const others = await Promise.all([client(behind), client(behind)])
  const files = new Map<string, { ino: number; data: Buffer }>()
  const left = new Set(others)
  const change = async (which: number, one: Client): Promise<void> => {
    for (let round = 0; round < 300; round++) {
      // Each has files of its own.
      const name = `${which}.${round % 12}`
      const known = files.get(name)
      if (known === undefined || round % 10 === 9) {
        if (known !== undefined) await one.vfs.unlink(CALLER, ROOT, Buffer.from(name))
        const data = randomBytes(LENGTH)
        files.set(name, { ino: await write(one, name, data), data })
        continue
      }
      const { ino } = known
      let { data } = known
      if (round % 10 === 8) {
        const other = `${name}.moved`
        await one.vfs.rename(CALLER, ROOT, Buffer.from(name), ROOT, Buffer.from(other), {})
        await one.vfs.rename(CALLER, ROOT, Buffer.from(other), ROOT, Buffer.from(name), {})
      } else if (round % 10 === 7) {
        data = data.subarray(0, Math.floor(data.length / 2))
        await one.vfs.setattr(CALLER, ino, { sizeBytes: data.length })
      } else {
        const isWhole = round % 10 < 4
        const piece = randomBytes(isWhole ? LENGTH : 200)
        const { handle } = await one.vfs.open(CALLER, ino, isWhole ? O_RDWR | O_TRUNC : O_RDWR)
        await one.vfs.write(handle, isWhole ? 0 : round, piece)
        await one.vfs.release(handle)
        const before = data
        data = isWhole ? piece : Buffer.alloc(Math.max(before.length, round + piece.length))
        if (!isWhole) {
          before.copy(data)
          piece.copy(data, round)
        }
      }
      files.set(name, { ino, data })
      t.ok((await contents(one, ino)).equals(data), `${name} in round ${round}`)
    }
    left.delete(one)
  }
  const moving = (async (): Promise<void> => {
    while (left.size > 0) {
      let pages = 0
      await mover.vfs.bodyMover.makeRoom(() => Promise.resolve(left.size > 0 && pages++ < 20))
    }
  })()
  await Promise.all(others.map((one, which) => change(which, one)))
  await moving
  t.ok(mover.vfs.bodyMover.moved > 20, `${mover.vfs.bodyMover.moved} were moved`)
  await cluster.drain()
  for (const reader of [mover, ...others, await client()]) {
    for (const { ino, data } of files.values()) t.ok((await contents(reader, ino)).equals(data))
  }
  t.same(await problemsOf(all), [])
})

/** A change of bodies does not come back, whether it was made or not. */
class DyingRedis extends CountingRedis {
  readonly #at: 'before' | 'after'

  constructor(store: RedisStore, at: 'before' | 'after') {
    super(store)
    this.#at = at
  }

  override async run(...call: Parameters<RedisStore['run']>): ReturnType<RedisStore['run']> {
    const isMove = call[0] === SCRIPTS.moveBodies
    if (isMove && this.#at === 'before') throw new RingfsError('CANCELLED', 'for the test')
    const reply = await super.run(...call)
    if (isMove) throw new RingfsError('CANCELLED', 'for the test')
    return reply
  }
}

t.test('a client that dies in the middle leaves files whole, and others go on', async (t) => {
  for (const at of ['before', 'after'] as const) {
    const all = await bed(t)
    const { client, store } = all
    const files = await fill(await client(behind))
    const first = await client(systemClock, BUDGET, new DyingRedis(store, at))
    await t.rejects(first.vfs.bodyMover.makeRoom(always))
    const second = await client(systemClock, 1)
    for (const [ino, data] of files) t.ok((await contents(second, ino)).equals(data), `${at}: ${ino}`)
    for (const [ino, data] of files) t.ok((await contents(first, ino)).equals(data), `${at}, by itself: ${ino}`)
    await store.call('DEL', new VolumeKeys('v', 4).wide('bodies'))
    t.equal(await second.vfs.bodyMover.makeRoom(always), 'done')
    for (const [ino, data] of files) t.ok((await contents(first, ino)).equals(data), `${at}, then: ${ino}`)
    await all.end()
  }
})

t.test('what was moved a rebuild finds, in the order in which it was written', async (t) => {
  const { client, cluster, redis, store, settings, end } = await bed(t)
  const writer = await client(behind)
  const files = await fill(writer)
  // Grown and written over: what lies above is older than the chunk of what is below.
  const [ino = 0] = files.keys()
  const grown = Buffer.concat([files.get(ino) ?? Buffer.alloc(0), randomBytes(90 * KIB)])
  randomBytes(1_000).copy(grown, 500)
  const { handle } = await writer.vfs.open(CALLER, ino, O_RDWR)
  await writer.vfs.write(handle, LENGTH, grown.subarray(LENGTH))
  await writer.vfs.fsync(handle, true)
  await writer.vfs.write(handle, 500, grown.subarray(500, 1_500))
  await writer.vfs.fsync(handle, true)
  await writer.vfs.release(handle)
  t.match(await writer.meta.getattr(ino), { hasBody: true, hasExtents: true })
  const mover = await client(systemClock, 1)
  t.equal(await mover.vfs.bodyMover.makeRoom(always), 'done', 'all are moved')
  const moved: number[] = []
  for (const one of files.keys()) if (!(await mover.meta.getattr(one)).hasBody) moved.push(one)
  await cluster.drain()
  await end()
  for (let server = 0; server < redis.ports.length; server++) await redis.command(server, 'FLUSHALL')

  const made = await rebuildAll(t, { store, settings, cluster }, () => client())
  const folder = await made.meta.lookup(ROOT, Buffer.from('lost+found'))
  for (const one of moved) {
    const file = await made.meta.lookup(folder.ino, Buffer.from(`inode-${one}`))
    const found = Buffer.from(await contents(made, file.ino))
    const expected = (one === ino ? grown : (files.get(one) ?? Buffer.alloc(0))).subarray(0, 64 * KIB)
    t.ok(found.equals(expected), `inode ${one}`)
  }
  t.ok(moved.includes(ino))
})
