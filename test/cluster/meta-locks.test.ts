/**
 * File locks of MetaStore where more than one thing happens at once.
 *
 * Fault model: replies and requests take their time and overtake each other, a client hears nothing for a while, is cut off
 * until it is taken for dead, Redis has no memory left, or is killed and comes back with its append-only file.
 */
import t, { type Test } from 'tap'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { RingfsError } from '../../src/base/errors.js'
import { LOCK_END, type MetaStore } from '../../src/meta/contract.js'
import type { RedisStore } from '../../src/cluster/contract.js'
import { makeScript } from '../../src/cluster/script.js'
import { listSessions } from '../../src/meta/format.js'
import { VolumeKeys } from '../../src/meta/keys.js'
import { SCRIPTS } from '../../src/meta/scripts.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { Waiting, record, trying, whole } from '../helpers/locks.js'
import { LossyRedis, randomFrom } from '../helpers/lossy-redis.js'
import { ROOT, claim, makeDirIn, outcome, pause, touch, until, volumesOn, type MetaVolume } from '../helpers/meta.js'
import { propertyRun } from '../helpers/property.js'
import { ScriptSpy } from '../helpers/script-spy.js'
import { startRedis } from '../helpers/redis.js'

const LONG_TTL = { sessionTtlMs: 3_600_000 }
const SHORT_TTL = { sessionTtlMs: 2_000 }
const MOMENT_MS = 200
const COURTESY_MS = 500

/** The first lock of the inode, in as many parts as an inode may have locks. */
const MANY_RANGES = makeScript(
  'many-ranges',
  `local state = cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))
local whole, parts = state[1][1], {}
for i = 0, 4095 do
  local part = {}
  for field, value in ipairs(whole) do part[field] = value end
  part[3], part[4] = string.format('%019d', 2 * i), string.format('%019d', 2 * i + 1)
  parts[#parts + 1] = part
end
return redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack({parts, state[2]}))`,
)

const redis = await startRedis(t, { masters: 3 })
const open = volumesOn(t, redis)

async function clients(volume: MetaVolume, count: number, options = {}): Promise<MetaStore[]> {
  const all: MetaStore[] = []
  // One after the other: whoever counts their round trips knows them by their order.
  while (all.length < count) all.push(await volume.client(options))
  await until('all are coherent', () => all.every((one) => one.coherent))
  return all
}

/** Files in so many partitions. */
async function files(meta: MetaStore, count: number): Promise<number[]> {
  const inos: number[] = []
  for (let i = 0; i < count; i++) {
    const dir = await makeDirIn(meta, ROOT, `dir${i}`, { partition: i + 1 })
    inos.push((await touch(meta, dir.ino, 'file')).ino)
  }
  return inos
}

/** Whoever lets others go first does so until it is told that it was long enough (COURTESY_MS in src/meta/locks.ts). */
class Courtesy {
  readonly #ends: (() => void)[] = []
  #isOver = false

  readonly clock: Clock = {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs(),
    wallMs: () => systemClock.wallMs(),
    after: (ms, work) => systemClock.after(ms, work),
    sleep: (ms) =>
      ms !== COURTESY_MS || this.#isOver ? systemClock.sleep(ms) : new Promise((resolve) => this.#ends.push(resolve)),
  }

  get waiting(): number {
    return this.#ends.length
  }

  end(): void {
    this.#isOver = true
    for (const end of this.#ends.splice(0)) end()
  }
}

function at<T>(list: readonly T[], i: number): T {
  const item = list[i]
  if (item === undefined) throw new Error(`there is no ${i}`)
  return item
}

claim(
  t,
  open,
  'a session that has ended waits for nobody: a copy of its request that comes late leaves nothing',
  async (t, volume) => {
    const [a] = await clients(volume, 1)
    const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
    const edge = (session: number): Promise<unknown> =>
      volume.redis.run(SCRIPTS.waitEdge, [keys.wide('w'), keys.wide('h')], [`${session}.1`, 1, 5, '98.1', 10, session])
    const count = (): Promise<unknown> => volume.redis.call('HLEN', keys.wide('w'))
    await edge(99)
    t.equal(await count(), 0)
    const [one] = await listSessions(volume.redis, volume.settings.name)
    await edge(one?.id ?? 0)
    t.equal(await count(), 1, 'one that is there does')
    await a?.shutdown()
    t.equal(await count(), 0, 'until it ends')
  },
)

claim(t, open, 'whoever waits asks nothing of Redis until it is told', async (t) => {
  const stores: CountingRedis[] = []
  const wrap = (store: RedisStore): RedisStore => at(stores, stores.push(new CountingRedis(store)) - 1)
  const volume = await volumesOn(t, redis, wrap)()
  const [a, b] = await clients(volume, 2, { ...LONG_TTL, random: () => 0.6 })
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  t.equal(await trying(a, ino, record('write', '1')), 'ok')
  const waiting = new Waiting(b, ino, record('write', '1'))
  await pause(MOMENT_MS)
  const counting = at(stores, 1)
  t.equal(await counting.during(() => pause(3_000)), 0)
  await a.unlock(ino, record('write', '1'))
  t.equal(await waiting.done, 'ok')
  await b.unlock(ino, record('write', '1'))
})

const spy = new ScriptSpy()

/** Of the next request for a lock, which is carried out. */
function nextAnswerIsLost(): void {
  spy.instead.set('lock', async (send) => {
    spy.instead.clear()
    await send()
    throw new RingfsError('REDIS_UNREACHABLE', 'lost by the test')
  })
}

for (const wait of [true, false]) {
  const how = wait ? 'that waits' : 'that does not wait'
  claim(
    t,
    volumesOn(t, redis, (store) => spy.wrap(store)),
    `a call ${how} whose answer was lost takes no lock away, and leaves none to who had none`,
    async (t, volume) => {
      const [a, b] = await clients(volume, 2, LONG_TTL)
      if (a === undefined || b === undefined) throw new Error('there are two')
      const [{ ino: held }, { ino: free }] = [await touch(a, ROOT, 'held'), await touch(a, ROOT, 'free')]
      const lost = async (ino: number): Promise<void> => {
        nextAnswerIsLost()
        await t.rejects(a.setlk(ino, record('write', '1', [10n, 20n]), { wait }), { code: 'REDIS_UNREACHABLE' })
        spy.take('')
        await until('it was looked at', () => spy.ran.some(({ script }) => script === 'lock-cancel'))
        // Behind all that is owed.
        t.equal(await trying(a, ino, record('read', '1', [0n, 1n])), 'ok')
      }
      t.equal(await trying(a, held, record('write', '1')), 'ok')
      await lost(held)
      t.equal(await trying(b, held, record('read', '2', [10n, 20n])), 'EAGAIN', 'it is held as before')
      await a.unlock(held, record('write', '1'))
      t.equal(await trying(b, held, record('read', '2', [10n, 20n])), 'ok')
      await lost(free)
      t.equal(await trying(b, free, record('write', '2', [10n, 20n])), 'ok', 'nobody holds it')
    },
  )
}

claim(
  t,
  volumesOn(t, redis, (store) => spy.wrap(store)),
  'what is given back for a thread that was not answered is nothing that another one of its process was granted meanwhile',
  async (t, volume) => {
    const [a, b] = await clients(volume, 2, LONG_TTL)
    if (a === undefined || b === undefined) throw new Error('there are two')
    const { ino } = await touch(a, ROOT, 'file')
    let isGranted = false
    spy.take('')
    // The first one is carried out and not answered; the second one is under way by then, and answered late.
    spy.instead.set('lock', async (send) => {
      spy.instead.set('lock', async (sendSecond) => {
        spy.instead.clear()
        const reply = await sendSecond()
        isGranted = true
        await until('the first is looked at', () => spy.ran.some(({ script }) => script === 'lock-cancel'))
        await pause(MOMENT_MS)
        return reply
      })
      await send()
      await until('the second is granted', () => isGranted)
      throw new RingfsError('REDIS_UNREACHABLE', 'lost by the test')
    })
    const first = t.rejects(a.setlk(ino, record('write', '1', [0n, 100n]), { wait: false }), {
      code: 'REDIS_UNREACHABLE',
    })
    const second = trying(a, ino, record('write', '1', [50n, 60n]))
    await first
    t.equal(await second, 'ok')
    // Behind all that is owed.
    t.equal(await trying(a, ino, record('read', '1', [200n, 201n])), 'ok')
    t.equal(await trying(b, ino, record('write', '2', [50n, 60n])), 'EAGAIN', 'it is held')
    await a.unlock(ino, record('write', '1'))
    t.equal(await trying(b, ino, record('write', '2')), 'ok')
  },
)

claim(
  t,
  volumesOn(t, redis, (store) => spy.wrap(store)),
  'a flock that is asked for once more, and not answered, is held as before',
  async (t, volume) => {
    const [a, b] = await clients(volume, 2, LONG_TTL)
    if (a === undefined || b === undefined) throw new Error('there are two')
    const { ino } = await touch(a, ROOT, 'file')
    for (const wait of [true, false]) {
      t.equal(await trying(a, ino, whole('write', '1')), 'ok')
      nextAnswerIsLost()
      spy.take('')
      await t.rejects(a.setlk(ino, whole('write', '1'), { wait }), { code: 'REDIS_UNREACHABLE' })
      await until('it was looked at', () => spy.ran.some(({ script }) => script === 'lock-cancel'))
      // Behind all that is owed.
      t.equal(await trying(a, ino, whole('write', '1')), 'ok')
      t.notOk(
        spy.ran.some(({ script }) => script === 'unlock'),
        'it was never free',
      )
      t.equal(await trying(b, ino, whole('read', '2')), 'EAGAIN')
      await a.unlock(ino, whole('write', '1'))
      t.equal(await trying(b, ino, whole('read', '2')), 'ok')
      await b.unlock(ino, whole('read', '2'))
    }
  },
)

claim(
  t,
  volumesOn(t, redis, (store) => spy.wrap(store)),
  'a lock that was granted, and told to have failed all the same, is given back',
  async (t, volume) => {
    const [a, b] = await clients(volume, 2, LONG_TTL)
    if (a === undefined || b === undefined) throw new Error('there are two')
    const { ino } = await touch(a, ROOT, 'file')
    t.equal(await trying(b, ino, record('write', '2')), 'ok')
    spy.take('')
    const waiting = t.rejects(a.setlk(ino, record('write', '1'), { wait: true }), { code: 'REDIS_UNREACHABLE' })
    await until('it waits', () => spy.ran.some(({ script }) => script === 'lock'))
    spy.instead.set('getattr', () => Promise.reject(new RingfsError('REDIS_UNREACHABLE', 'lost by the test')))
    await b.unlock(ino, record('write', '2'))
    await waiting
    spy.instead.clear()
    await until('it is free', async () => (await trying(b, ino, record('write', '2'))) === 'ok')
  },
)

claim(
  t,
  open,
  'a lock of a session that is over, as a promoted replica brings one back, keeps nobody waiting',
  async (t, volume) => {
    const [b] = await clients(volume, 1, SHORT_TTL)
    if (b === undefined) throw new Error('there is one')
    const { ino } = await touch(b, ROOT, 'file')
    const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
    const { fileLocks } = keys.of(ino)
    const a = await volume.client(LONG_TTL)
    t.equal(await trying(a, ino, record('write', '1')), 'ok')
    const held = await volume.redis.call('HGET', fileLocks, String(ino))
    await a.shutdown()
    await volume.redis.call('HSET', fileLocks, String(ino), Buffer.isBuffer(held) ? held : '')
    t.equal(await trying(b, ino, record('write', '2')), 'EAGAIN')
    const waiting = new Waiting(b, ino, record('write', '2'))
    t.equal(await waiting.done, 'ok')
    await b.unlock(ino, record('write', '2'))
  },
)

claim(
  t,
  open,
  'the locks of a session that ends go, however many there are on each of its files',
  async (t, volume) => {
    const [b] = await clients(volume, 1)
    if (b === undefined) throw new Error('there is one')
    const a = await volume.client(LONG_TTL)
    const keys = new VolumeKeys(volume.settings.name, volume.settings.partitions)
    const inos: number[] = []
    for (const name of ['one', 'two', 'three']) {
      const { ino } = await touch(b, ROOT, name)
      t.equal(await trying(a, ino, record('write', '1')), 'ok')
      await volume.redis.run(MANY_RANGES, [keys.of(ino).fileLocks], [ino])
      t.equal(await trying(b, ino, record('read', '2', [0n, 1n])), 'EAGAIN')
      inos.push(ino)
    }
    await a.shutdown()
    for (const ino of inos) t.equal(await volume.redis.call('HGET', keys.of(ino).fileLocks, String(ino)), null)
  },
)

claim(t, open, 'a place in a queue that is gone unawares is asked for anew', async (t, volume) => {
  const [a, b] = await clients(volume, 2, LONG_TTL)
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  t.equal(await trying(a, ino, record('write', '1')), 'ok')
  const waiting = new Waiting(b, ino, record('write', '2'))
  await pause(MOMENT_MS)
  await volume.redis.call(
    'HDEL',
    new VolumeKeys(volume.settings.name, volume.settings.partitions).of(ino).fileLocks,
    String(ino),
  )
  t.equal(await waiting.done, 'ok')
  await b.unlock(ino, record('write', '2'))
})

claim(t, open, 'a lock, an unlock and an unlock that lets another in are one round trip each', async (t) => {
  const stores: CountingRedis[] = []
  const wrap = (store: RedisStore): RedisStore => at(stores, stores.push(new CountingRedis(store)) - 1)
  const volume = await volumesOn(t, redis, wrap)()
  const [a, b] = await clients(volume, 2, { ...LONG_TTL, random: () => 0.6 })
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  const counting = at(stores, 0)
  t.equal(await counting.during(() => trying(a, ino, record('write', '1'))), 1)
  t.equal(await counting.during(() => a.unlock(ino, record('write', '1'))), 1)
  t.equal(await counting.during(() => trying(a, ino, record('write', '1'))), 1)
  const waiting = new Waiting(b, ino, record('write', '1'))
  await pause(MOMENT_MS)
  t.equal(await counting.during(() => a.unlock(ino, record('write', '1'))), 1)
  t.equal(await waiting.done, 'ok')
  await b.unlock(ino, record('write', '1'))
})

claim(
  t,
  open,
  'a circle of five over five partitions and three clients is found, and one of them is told',
  async (t, volume) => {
    const all = await clients(volume, 3)
    const inos = await files(at(all, 0), 5)
    const who = inos.map((_, i) => ({ meta: at(all, i % 3), owner: `o${i}` }))
    for (const [i, ino] of inos.entries()) t.equal(await trying(at(who, i).meta, ino, record('write', `o${i}`)), 'ok')
    const waits = who.map(({ meta, owner }, i) => new Waiting(meta, at(inos, (i + 1) % 5), record('write', owner)))
    await until('somebody is told', () => waits.some((wait) => wait.result === 'EDEADLK'))
    await pause(MOMENT_MS)
    t.equal(waits.filter((wait) => wait.result === 'ok').length, 0)
    // Who was told gives up what he has; the others follow.
    await until('all are told', async () => {
      for (const [i, wait] of waits.entries()) {
        if (wait.result === undefined) continue
        const { meta, owner } = at(who, i)
        for (const ino of inos) await meta.unlock(ino, record('write', owner))
      }
      return waits.every(({ result }) => result !== undefined)
    })
    for (const wait of waits) t.match(await wait.done, /ok|EDEADLK/)
    for (const { meta, owner } of who) for (const ino of inos) await meta.unlock(ino, record('write', owner))
  },
)

claim(t, open, 'a circle that closes only when another holder goes is found then', async (t, volume) => {
  const [a, b, c] = await clients(volume, 3)
  if (a === undefined || b === undefined || c === undefined) throw new Error('there are three')
  const [x = 0, y = 0] = await files(a, 2)
  t.equal(await trying(b, x, record('read', 'b')), 'ok')
  t.equal(await trying(c, x, record('read', 'c')), 'ok')
  t.equal(await trying(a, y, record('write', 'a')), 'ok')
  const first = new Waiting(a, x, record('write', 'a'))
  await pause(MOMENT_MS)
  const second = new Waiting(c, y, record('write', 'c'))
  await pause(MOMENT_MS)
  await b.unlock(x, record('read', 'b'))
  await until('one is told', () => first.result !== undefined || second.result !== undefined)
  t.strictSame([first.result, second.result].filter(Boolean), ['EDEADLK'])
  await (first.result === undefined ? c : a).unlock(
    first.result === undefined ? x : y,
    record('read', first.result === undefined ? 'c' : 'a'),
  )
  t.strictSame([await first.done, await second.done].sort(), ['EDEADLK', 'ok'])
  for (const meta of [a, c])
    for (const ino of [x, y]) for (const owner of ['a', 'c']) await meta.unlock(ino, record('read', owner))
})

claim(
  t,
  open,
  'a thread that takes a lock while another of its process waits is seen by who looks for circles',
  async (t, volume) => {
    const [a, b] = await clients(volume, 2)
    if (a === undefined || b === undefined) throw new Error('there are two')
    const [x = 0, y = 0] = await files(a, 2)
    t.equal(await trying(b, x, record('write', 'b')), 'ok')
    // It holds nothing yet.
    const first = new Waiting(a, x, record('write', 'a'))
    await pause(MOMENT_MS)
    t.equal(await trying(a, y, record('write', 'a')), 'ok')
    await pause(MOMENT_MS)
    t.equal(await new Waiting(b, y, record('write', 'b')).done, 'EDEADLK')
    await b.unlock(x, record('write', 'b'))
    t.equal(await first.done, 'ok')
    for (const ino of [x, y]) await a.unlock(ino, record('write', 'a'))
  },
)

claim(t, open, 'a writer is not passed over for ever by readers who come one after the other', async (t, volume) => {
  const [a, b] = await clients(volume, 2)
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  let isOver = false
  const reader = async (meta: MetaStore, owner: string): Promise<void> => {
    while (!isOver) {
      await meta.setlk(ino, record('read', owner), { wait: true })
      await pause(30)
      await meta.unlock(ino, record('read', owner))
    }
  }
  const readers = ['r1', 'r2', 'r3', 'r4'].map((owner, i) => reader(i % 2 === 0 ? a : b, owner))
  await pause(MOMENT_MS)
  const writer = new Waiting(b, ino, record('write', 'w'))
  await until('the writer has it', () => writer.result === 'ok')
  isOver = true
  await b.unlock(ino, record('write', 'w'))
  await Promise.all(readers)
  t.equal(writer.result, 'ok')
})

claim(
  t,
  open,
  'a reader who lets a waiting writer go first does not slip in when another reader goes',
  async (t, volume) => {
    const courtesy = new Courtesy()
    const [a, b] = await clients(volume, 2, { clock: courtesy.clock })
    if (a === undefined || b === undefined) throw new Error('there are two')
    const { ino } = await touch(a, ROOT, 'file')
    for (const owner of ['1', '2']) t.equal(await trying(a, ino, record('read', owner)), 'ok')
    const writer = new Waiting(b, ino, record('write', 'w'))
    await pause(MOMENT_MS)
    const polite = new Waiting(b, ino, record('read', 'polite'))
    await until('it is held back', () => courtesy.waiting > 0)
    for (const owner of ['1', '2']) await a.unlock(ino, record('read', owner))
    await Promise.race([writer.done, polite.done])
    t.equal(polite.result, undefined)
    for (const [waiting, owner] of [
      [writer, 'w'],
      [polite, 'polite'],
    ] as const) {
      t.equal(await waiting.done, 'ok')
      await b.unlock(ino, record('read', owner))
    }
    courtesy.end()
  },
)

claim(
  t,
  open,
  'who could have a lock on a local disk has it after a moment, whoever waits before him',
  async (t, volume) => {
    const [a, b] = await clients(volume, 2)
    if (a === undefined || b === undefined) throw new Error('there are two')
    const { ino } = await touch(a, ROOT, 'file')
    t.equal(await trying(a, ino, whole('read', '1')), 'ok')
    const writer = new Waiting(b, ino, whole('write', '1'))
    await pause(MOMENT_MS)
    t.equal(await new Waiting(a, ino, whole('read', '2')).done, 'ok')
    t.equal(writer.result, undefined)
    for (const owner of ['1', '2']) await a.unlock(ino, whole('read', owner))
    t.equal(await writer.done, 'ok')
    await b.unlock(ino, whole('write', '1'))
  },
)

claim(t, open, 'a grant that nobody heard of is found when the messages come again', async (t, volume) => {
  const [a, b] = await clients(volume, 2, LONG_TTL)
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  t.equal(await trying(a, ino, record('write', '1')), 'ok')
  const granted = new Waiting(b, ino, record('write', 'granted', [0n, 10n]))
  const still = new Waiting(b, ino, record('write', 'still', [20n, 30n]))
  await pause(MOMENT_MS)
  volume.cut(b)
  await a.unlock(ino, record('write', '1', [0n, 10n]))
  await pause(MOMENT_MS)
  t.equal(granted.result, undefined)
  volume.mend(b)
  t.equal(await granted.done, 'ok')
  await pause(MOMENT_MS)
  t.equal(still.result, undefined)
  await a.unlock(ino, record('write', '1'))
  t.equal(await still.done, 'ok')
  for (const owner of ['granted', 'still']) await b.unlock(ino, record('write', owner))
})

claim(
  t,
  open,
  'a waiter whose session was taken for dead gets EIO, and its client is told that its locks are lost',
  async (t, volume) => {
    const [a, b] = await clients(volume, 2, SHORT_TTL)
    if (a === undefined || b === undefined) throw new Error('there are two')
    const { ino } = await touch(a, ROOT, 'file')
    t.equal(await trying(a, ino, record('write', '1', [0n, 1n])), 'ok')
    t.equal(await trying(b, ino, record('write', '1', [5n, 6n])), 'ok')
    const kinds: string[] = []
    b.onEvent(({ kind }) => kinds.push(kind))
    const waiting = new Waiting(b, ino, record('write', '1', [0n, 1n]))
    await pause(MOMENT_MS)
    volume.cut(b)
    const successor = new Waiting(a, ino, record('write', '2', [5n, 6n]))
    t.equal(await successor.done, 'ok')
    volume.mend(b)
    t.equal(await waiting.done, 'EIO')
    await until('it is back', () => kinds.includes('back'))
    t.ok(kinds.indexOf('locksLost') >= 0 && kinds.indexOf('locksLost') < kinds.lastIndexOf('back'))
    t.equal(await trying(b, ino, record('write', '1', [5n, 6n])), 'EAGAIN')
    for (const owner of ['1', '2']) await a.unlock(ino, record('write', owner))
  },
)

claim(t, open, 'out of memory is ENOLCK, and unlocking and giving up still work', async (t, volume) => {
  const [a, b] = await clients(volume, 2)
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  t.equal(await trying(a, ino, record('write', '1')), 'ok')
  const [first, second] = [new Waiting(b, ino, record('write', '1')), new Waiting(b, ino, record('write', '2'))]
  await pause(MOMENT_MS)
  const limit = (bytes: string): Promise<unknown> =>
    Promise.all([0, 1, 2].map((server) => redis.command(server, 'CONFIG', 'SET', 'maxmemory', bytes)))
  await limit('1')
  try {
    t.equal(await trying(b, ino, whole('write', '3')), 'ENOLCK')
    second.interrupt()
    t.equal(await second.done, 'EINTR')
    await a.unlock(ino, record('write', '1'))
    t.equal(await first.done, 'ok')
    await b.unlock(ino, record('write', '1'))
  } finally {
    await limit('0')
  }
})

claim(t, open, 'who is refused when he asks again has no lock afterwards', async (t, volume) => {
  const courtesy = new Courtesy()
  const [a, b] = await clients(volume, 2, { clock: courtesy.clock })
  if (a === undefined || b === undefined) throw new Error('there are two')
  const { ino } = await touch(a, ROOT, 'file')
  t.equal(await trying(a, ino, record('write', '1', [0n, 1n])), 'ok')
  const first = new Waiting(b, ino, record('write', '1', [0n, 2n]))
  await pause(MOMENT_MS)
  // Held back by the first out of courtesy: it asks again.
  const second = new Waiting(b, ino, record('write', '2', [1n, 2n]))
  await until('it is held back', () => courtesy.waiting > 0)
  const limit = (bytes: string): Promise<unknown> =>
    Promise.all([0, 1, 2].map((server) => redis.command(server, 'CONFIG', 'SET', 'maxmemory', bytes)))
  await limit('1')
  try {
    courtesy.end()
    t.equal(await second.done, 'ENOLCK')
  } finally {
    await limit('0')
  }
  first.interrupt()
  t.equal(await first.done, 'EINTR')
  await until('nobody has it', async () => (await trying(a, ino, record('write', '1', [1n, 2n]))) === 'ok')
  await a.unlock(ino, record('write', '1'))
})

claim(t, open, 'locks and their queue survive the death of a Redis', async (t, volume) => {
  const [a, b] = await clients(volume, 2, LONG_TTL)
  if (a === undefined || b === undefined) throw new Error('there are two')
  const inos = await files(a, 3)
  for (const ino of inos) t.equal(await trying(a, ino, record('write', '1')), 'ok')
  const waiting = inos.map((ino) => new Waiting(b, ino, record('write', '1')))
  await pause(MOMENT_MS)
  for (const server of [0, 1, 2]) {
    await redis.kill(server)
    await redis.restart(server)
  }
  for (const ino of inos) await a.unlock(ino, record('write', '1'))
  for (const wait of waiting) t.equal(await wait.done, 'ok')
  for (const ino of inos) await b.unlock(ino, record('write', '1'))
})

/**
 * Many owners on three clients take two locks at a time, always in the same order, so that no circle can come about: none may
 * be told of one, no two may hold what conflicts, and all come to their end. Some give up waiting.
 */
async function crowd(t: Test, volume: MetaVolume, seed: number): Promise<void> {
  const all = await clients(volume, 3)
  const inos = await files(at(all, 0), 3)
  const random = randomFrom(seed)
  const held = new Map<string, { writers: number; readers: number }>()
  let overlaps = 0
  let taken = 0
  const enter = (key: string, isWriter: boolean): void => {
    const now = held.get(key) ?? { writers: 0, readers: 0 }
    if (isWriter ? now.writers + now.readers > 0 : now.writers > 0) overlaps++
    if (isWriter) now.writers++
    else now.readers++
    taken++
    held.set(key, now)
  }
  const leave = (key: string, isWriter: boolean): void => {
    const now = held.get(key)
    if (now === undefined) return
    if (isWriter) now.writers--
    else now.readers--
  }
  const one = async (meta: MetaStore, owner: string): Promise<void> => {
    for (let round = 0; round < 8; round++) {
      const first = Math.floor(random() * 2)
      const order = [first, first + 1 + Math.floor(random() * (2 - first))]
      const mine: { ino: number; isWriter: boolean }[] = []
      for (const index of order) {
        const ino = at(inos, index)
        const isWriter = random() < 0.6
        const lock = record(isWriter ? 'write' : 'read', owner, [10n, random() < 0.5 ? 20n : LOCK_END])
        const waiting = new Waiting(meta, ino, lock)
        if (random() < 0.15) setTimeout(() => waiting.interrupt(), random() * 60)
        const result = await waiting.done
        if (result !== 'ok' && result !== 'EINTR') t.fail(`${owner} was told ${result}`)
        if (result !== 'ok') break
        enter(String(ino), isWriter)
        mine.push({ ino, isWriter })
      }
      await pause(random() * 15)
      for (const { ino, isWriter } of mine) {
        leave(String(ino), isWriter)
        await meta.unlock(ino, record('read', owner))
      }
    }
  }
  await Promise.all(Array.from({ length: 9 }, (_, i) => one(at(all, i % 3), `o${i}`)))
  t.equal(overlaps, 0)
  t.ok(taken > 50, `${taken} locks`)
}

const { seed } = propertyRun(t, 1)
claim(t, open, 'a crowd that cannot lock itself out', (t, volume) => crowd(t, volume, seed))
const slow = volumesOn(t, redis, (store) => new LossyRedis(store, { mode: 'slow', seed, delayMaxMs: 20 }))
claim(t, slow, 'the same when all that is sent takes its time', (t, volume) => crowd(t, volume, seed + 1))
const twice = volumesOn(t, redis, (store) => new LossyRedis(store, { mode: 'twice', seed, delayMaxMs: 20 }))
claim(t, twice, 'the same when every reply is lost once', (t, volume) => crowd(t, volume, seed + 2))
const late = volumesOn(t, redis, (store) => new LossyRedis(store, { mode: 'late', seed, delayMaxMs: 20 }))
claim(t, late, 'the same when a copy of each request comes late', (t, volume) => crowd(t, volume, seed + 3))

claim(t, open, 'more waiters than a file may have are ENOLCK', async (t, volume) => {
  const [a] = await clients(volume, 1)
  if (a === undefined) throw new Error('there is one')
  const { ino } = await touch(a, ROOT, 'file')
  t.equal(await trying(a, ino, whole('write', '0')), 'ok')
  const most = 1024
  const waiting = Array.from({ length: most }, (_, i) => new Waiting(a, ino, whole('write', `w${i}`)))
  await pause(MOMENT_MS)
  t.equal(await new Waiting(a, ino, whole('write', 'more')).done, 'ENOLCK')
  for (const wait of waiting) wait.interrupt()
  for (const wait of waiting) await wait.done
  t.equal(await outcome(a.unlock(ino, whole('write', '0'))), 'ok')
})
