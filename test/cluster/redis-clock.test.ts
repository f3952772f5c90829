/**
 * The clock of Redis is set by hours, or a replica with another clock is promoted: leases are counted by it. Who lives must not be taken for dead
 * by those who notice first.
 */
import t from 'tap'
import { silentLog as log } from '../../src/base/log.js'
import type { RedisArg, RedisStore } from '../../src/cluster/contract.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { ReplicationQueue, type ReplicationTask } from '../../src/cluster/queue.js'
import { listSessions } from '../../src/meta/format.js'
import { temporaryFolder } from '../helpers/chunks.js'
import { ShiftedClock } from '../helpers/clock-shift.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { until, volumesOn } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

const TTL_MS = 3_000
/** Two clients look twice each in the time of a lease, and judge nobody before they have lived for one and a half. */
const LOOKS = 7
const HOUR_S = 3600
const HOURS_S = 10 * HOUR_S
const IN_WORK = 1_200

t.setTimeout(600_000)

t.test('when the clock of Redis steps, no session that lives is ended, and a dead one is', async (t) => {
  const folder = temporaryFolder(t)
  const clock = await ShiftedClock.in(folder, 'redis', await ShiftedClock.library())
  const redis = await startRedis(t, { env: clock.env })
  let looks = 0
  const counted = (store: RedisStore): RedisStore => {
    const counting = new CountingRedis(store)
    const run = counting.run.bind(counting)
    counting.run = (script, keys, args: readonly RedisArg[], options) => {
      if (script.name === 'session-expired') looks++
      return run(script, keys, args, options)
    }
    return counting
  }
  const more = (count: number): Promise<void> => {
    const target = looks + count
    return until('others are looked at', () => Promise.resolve(looks >= target))
  }
  const volume = await volumesOn(t, redis, counted)()
  const witness = await volume.client({ sessionTtlMs: TTL_MS })
  const other = await volume.client({ sessionTtlMs: TTL_MS })
  const sessions = async (): Promise<readonly number[]> =>
    (await listSessions(volume.redis, volume.settings.name)).map(({ id }) => id)
  const before = await sessions()
  t.equal(before.length, 2)

  await more(LOOKS)
  for (const seconds of [HOURS_S, 0]) {
    volume.cut(other)
    await clock.set(seconds)
    const now = Number.parseInt(String(await redis.command(0, 'TIME')))
    t.ok(Math.abs(now - Date.now() / 1000 - seconds) < 60, 'it is')
    // The witness looks before the other has had time to renew.
    await more(1)
    volume.mend(other)
    await more(LOOKS)
    t.strictSame(await sessions(), before, `the clock is now ${seconds / 3600} hours off`)
  }

  // One that dies while the clock is ahead, by which its lease ends in ten hours.
  await clock.set(HOURS_S)
  await more(LOOKS)
  volume.cut(other)
  await clock.set(0)
  await more(LOOKS)
  t.strictSame(await sessions(), before, 'its lease may be one of an hour')
  await clock.set(HOUR_S + 60)
  await until('the dead one is cleaned up', async () => (await sessions()).length === 1, 60_000)
  t.strictSame(await sessions(), [witness.sessionId])
})

t.test('when the clock of Redis is set back, tasks in pauses, of the dead and new ones are done', async (t) => {
  const folder = temporaryFolder(t)
  const clock = await ShiftedClock.in(folder, 'redis', await ShiftedClock.library())
  const redis = await startRedis(t, { env: clock.env })
  const [store, cut] = [
    await connectPatiently(redis.url('v'), { log }),
    await connectPatiently(redis.url('v'), { log }),
  ]
  t.teardown(() => store.close())
  const times = { takeoverMs: 1_000, firstPauseMs: 20, pollMs: 30 }
  const queue = new ReplicationQueue(store, { volume: 'v', log, ...times })
  const tasks = [1, 2, 3, 4].map((chunk) => ({ kind: 'remove', chunk }) as const)
  await queue.enqueue('n', tasks.slice(0, 2))

  const stop = new AbortController()
  const died = new AbortController()
  // Consumers that go on would keep the process.
  t.teardown(() => [stop, died].map((one) => one.abort()))
  let taken = 0
  const never = async (): Promise<void> => {
    taken++
    await until('the test ends', async () => Promise.resolve(stop.signal.aborted), 100_000)
  }
  const dead = new ReplicationQueue(cut, { volume: 'v', log, ...times }).consume('n', 'dead', never, {
    signal: died.signal,
  })
  await until('one is at work', async () => Promise.resolve(taken === 2))
  await cut.close()
  died.abort()

  const failed = new Set<number>()
  const got = new Set<number>()
  let isGood = false
  const handler = async ({ chunk }: ReplicationTask): Promise<void> => {
    if (!isGood) failed.add(chunk)
    await Promise.resolve()
    if (!isGood) throw new Error('not yet')
    got.add(chunk)
  }
  await queue.enqueue('n', tasks.slice(2, 3))
  const done = queue.consume('n', 'c', handler, { signal: stop.signal })
  await until('one has failed', async () => Promise.resolve(failed.has(3)))
  await clock.set(-HOURS_S)
  isGood = true
  await queue.enqueue('n', tasks.slice(3))
  await until('all are done', async () => (await queue.length('n')) === 0)
  t.strictSame([...got].sort(), [1, 2, 3, 4])
  stop.abort()
  await Promise.all([done, dead])
})

t.test('who begins after the clock of Redis was set back does what others had in work before', async (t) => {
  const folder = temporaryFolder(t)
  const clock = await ShiftedClock.in(folder, 'redis', await ShiftedClock.library())
  const redis = await startRedis(t, { env: clock.env })
  const store = await connectPatiently(redis.url('v'), { log })
  t.teardown(() => store.close())
  const queue = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 1_000, firstPauseMs: 20, pollMs: 30 })
  // One at which its consumer tries again later, and more than one script looks at that another one has in work.
  const key = new ClusterKeys('v').queue('n')
  await queue.enqueue(
    'n',
    Array.from({ length: IN_WORK }, (_, chunk) => ({ kind: 'remove', chunk }) as const),
  )
  await store.call('XGROUP', 'CREATE', key, 'r', '0')
  await store.call('XREADGROUP', 'GROUP', 'r', 'gone', 'COUNT', IN_WORK, 'STREAMS', key, '>')
  await queue.enqueue('n', [{ kind: 'remove', chunk: IN_WORK }])
  const died = new AbortController()
  const fails = async (): Promise<void> => {
    died.abort()
    return await Promise.reject(new Error('not yet'))
  }
  await queue.consume('n', 'dead', fails, { signal: died.signal })
  await clock.set(-HOURS_S)
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const done = queue.consume('n', 'c', () => Promise.resolve(), { signal: stop.signal, concurrency: 100 })
  await until('it is done', async () => (await queue.length('n')) === 0)
  stop.abort()
  await done
})
