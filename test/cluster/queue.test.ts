import t, { type Test } from 'tap'
import { silentLog } from '../../src/base/log.js'
import { ClusterKeys } from '../../src/cluster/keys.js'
import { RETRY, ReplicationQueue, type ReplicationTask } from '../../src/cluster/queue.js'
import { numberOf, textOf } from '../../src/cluster/reply.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'
import { PATIENCE_MS, until } from '../helpers/deadline.js'

const log = silentLog
const copy = (chunk: number): ReplicationTask => ({
  kind: 'copy',
  chunk,
  root: Buffer.alloc(32, chunk),
  sources: ['n1', 'n2'],
})

t.setTimeout(600_000)

/** Ends consumers however the test ends: one that goes on would keep the process. */
function stopOf(t: Pick<Test, 'teardown'>): AbortController {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  return stop
}

t.test('replication queue', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t)
  // What is sent again, as no reply came, may stand in the queue twice: for that no machine is slow enough.
  const store = await connectPatiently(redis.url('v'), { log, replyTimeoutMs: PATIENCE_MS })
  t.teardown(() => store.close())
  const queue = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 400, firstPauseMs: 20, pollMs: 30 })

  t.test('tasks arrive whole, once when all goes well, and leave the queue', async (t) => {
    const tasks: ReplicationTask[] = [
      copy(1),
      { kind: 'remove', chunk: 2 ** 52 },
      { kind: 'copy', chunk: 3, root: null, sources: [] },
    ]
    await queue.enqueue('a', tasks)
    t.equal(await queue.length('a'), 3)
    const stop = stopOf(t)
    const got: ReplicationTask[] = []
    const done = queue.consume('a', 'c', async (task) => void got.push(task), { signal: stop.signal })
    await until('all are done', async () => (await queue.length('a')) === 0)
    await queue.enqueue('a', [copy(4)])
    await until('a later one is done', async () => (await queue.length('a')) === 0)
    stop.abort()
    await done
    t.strictSame(got, [...tasks, copy(4)])
    t.equal(await queue.length('nobody'), 0)
  })

  t.test('a failed task comes again after a pause, and does not hold up the others', async (t) => {
    await queue.enqueue('b', [copy(1), copy(2)])
    const stop = stopOf(t)
    const got: number[] = []
    const handler = async (task: ReplicationTask): Promise<void> => {
      got.push(task.chunk)
      if (task.chunk === 1 && got.filter((chunk) => chunk === 1).length < 4) throw new Error('not now')
    }
    const done = queue.consume('b', 'c', handler, { signal: stop.signal })
    await until('all are done', async () => (await queue.length('b')) === 0)
    stop.abort()
    await done
    t.strictSame(got.slice(0, 2).sort(), [1, 2])
    t.equal(got.filter((chunk) => chunk === 1).length, 4)
  })

  t.test('the pause doubles with each failure, up to the takeover time, with jitter of half of it', async (t) => {
    const key = new ClusterKeys('v').queue('g')
    const entry = textOf(await store.call('XADD', key, '*', 't', 'a task'), 'XADD')
    await store.call('XGROUP', 'CREATE', key, 'r', '0')
    await store.call('XREADGROUP', 'GROUP', 'r', 'c', 'STREAMS', key, '>')
    const pauseWith = async (jitter: number): Promise<number> => {
      return numberOf(await store.run(RETRY, [key], ['c', entry, 10_000, 1_000, jitter]), 'queue-retry')
    }
    const pauses: (readonly [number, number, number])[] = []
    for (let deliveries = 1; deliveries <= 6; deliveries++) {
      pauses.push([await pauseWith(0), await pauseWith(0.5), await pauseWith(1)])
      await store.call('XCLAIM', key, 'r', 'c', 0, entry)
    }
    t.strictSame(pauses, [
      [500, 750, 1_000],
      [1_000, 1_500, 2_000],
      [2_000, 3_000, 4_000],
      [4_000, 6_000, 8_000],
      [5_000, 7_500, 10_000],
      [5_000, 7_500, 10_000],
    ])
    await queue.drop('g')
  })

  t.test('many tasks that fail again and again do not keep new ones waiting', async (t) => {
    // Those that fail take so long together that of some the pause is always over.
    const failing = Array.from({ length: 40 }, (_, index) => copy(index + 1))
    const busy = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 20, firstPauseMs: 1, pollMs: 30 })
    await busy.enqueue('f', failing)
    const stop = stopOf(t)
    let failures = 0
    const done = new Set<number>()
    const handler = async (task: ReplicationTask): Promise<void> => {
      if (task.chunk > failing.length) return void done.add(task.chunk)
      await new Promise((resolve) => setTimeout(resolve, 20))
      failures++
      throw new Error('its source does not answer')
    }
    const consumed = busy.consume('f', 'c', handler, { signal: stop.signal, concurrency: 2 })
    await until('all have failed', () => failures > 2 * failing.length)
    await busy.enqueue('f', [copy(100), copy(101), copy(102)])
    const before = failures
    await until('the new ones are done', () => done.size === 3)
    t.ok(failures - before <= failing.length, `${failures - before} others were tried meanwhile`)
    stop.abort()
    await consumed
    await busy.drop('f')
  })

  t.test('what a crashed consumer had in work is done by the next one', async (t) => {
    await queue.enqueue('c', [copy(1), copy(2), copy(3)])
    // A consumer that crashes never settles what it took: its store is closed in the middle of the work.
    const crashing = await connectPatiently(redis.url('v'), { log })
    const stop = stopOf(t)
    let taken = 0
    const hang = async (): Promise<void> => {
      taken++
      await until('it has crashed', () => stop.signal.aborted)
    }
    const crashed = new ReplicationQueue(crashing, { volume: 'v', log, takeoverMs: 400, pollMs: 30 })
    const gone = crashed.consume('c', 'one', hang, { signal: stop.signal, concurrency: 2 })
    await until('it works', () => taken === 2)
    await crashing.close()
    stop.abort()
    await gone
    t.equal(await queue.length('c'), 3)
    const again = stopOf(t)
    const got: number[] = []
    const done = queue.consume('c', 'two', async (task) => void got.push(task.chunk), { signal: again.signal })
    await until('all are done', async () => (await queue.length('c')) === 0)
    again.abort()
    await done
    t.strictSame(got.sort(), [1, 2, 3])
  })

  t.test('a successor takes at once what its predecessor left', async (t) => {
    await queue.enqueue('h', [copy(1), copy(2), copy(3), copy(4), copy(5)])
    const patient = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 3_600_000, pollMs: 30 })
    // It does not look again, and say that it is at work.
    const seldom = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 3_600_000, pollMs: 10_000 })
    const left = stopOf(t)
    let taken = 0
    const never = async (): Promise<void> => {
      taken++
      await until('the test ends', () => left.signal.aborted)
      throw new Error('it was killed')
    }
    const dead = seldom.consume('h', 'one', never, { signal: left.signal })
    await until('it has all that it works on at once', () => taken === 4)
    const stop = stopOf(t)
    const got: number[] = []
    const handler = async (task: ReplicationTask): Promise<void> => void got.push(task.chunk)
    // Its predecessor keeps what it has: as if it were dead it must not say so again.
    const done = patient.consume('h', 'two', handler, { signal: stop.signal, inherits: true })
    await until('all was carried out', () => new Set(got).size === 5)
    left.abort()
    stop.abort()
    await Promise.all([dead, done])
    t.equal(await queue.length('h'), 0)
  })

  t.test(
    'a successor takes at once what its predecessor left, also where that is more than one script looks at',
    async (t) => {
      const count = 1_200
      const tasks = Array.from({ length: count }, (_, i) => copy(i))
      await queue.enqueue('i', tasks)
      const key = new ClusterKeys('v').queue('i')
      await store.call('XGROUP', 'CREATE', key, 'r', '0')
      await store.call('XREADGROUP', 'GROUP', 'r', 'dead', 'COUNT', count, 'STREAMS', key, '>')
      const patient = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 3_600_000, pollMs: 30 })
      const stop = stopOf(t)
      const got = new Set<number>()
      const handler = async (task: ReplicationTask): Promise<void> => void got.add(task.chunk)
      const done = patient.consume('i', 'two', handler, { signal: stop.signal, inherits: true, concurrency: 100 })
      await until('all was carried out', async () => (await queue.length('i')) === 0)
      stop.abort()
      await done
      t.equal(got.size, count)
    },
  )

  t.test(
    'a task that takes longer than the takeover time is not given to another, and no more than allowed run',
    async (t) => {
      const tasks = Array.from({ length: 6 }, (_, i) => copy(i))
      await queue.enqueue('d', tasks)
      const stop = stopOf(t)
      const got: number[] = []
      let running = 0
      let most = 0
      const slow = async (task: ReplicationTask): Promise<void> => {
        got.push(task.chunk)
        most = Math.max(most, ++running)
        await new Promise((resolve) => setTimeout(resolve, 5_000))
        running--
      }
      // Both say that they are at work every 30 ms; a machine that lets nobody do so for seconds is no reason to take over.
      const patient = new ReplicationQueue(store, { volume: 'v', log, takeoverMs: 4_000, pollMs: 30 })
      const both = ['one', 'two'].map((name) =>
        patient.consume('d', name, slow, { signal: stop.signal, concurrency: 2 }),
      )
      await until('all are done', async () => (await queue.length('d')) === 0)
      stop.abort()
      await Promise.all(both)
      t.strictSame(got.sort(), [0, 1, 2, 3, 4, 5])
      t.ok(most <= 4)
    },
  )

  t.test('consumers outlast a Redis that is killed and restarted', async (t) => {
    const stop = stopOf(t)
    const got = new Set<number>()
    const done = queue.consume('e', 'c', async (task) => void got.add(task.chunk), { signal: stop.signal })
    await queue.enqueue('e', [copy(1)])
    await until('the first is done', () => got.has(1))
    await redis.kill(0)
    const later = queue.enqueue('e', [copy(2)])
    await redis.restart(0)
    await later
    await until('the second is done', () => got.has(2))
    stop.abort()
    await done
    t.pass()
  })

  t.test('what is no task is dropped, and a full Redis refuses new ones but finishes the old', async (t) => {
    const key = new ClusterKeys('v').queue('f')
    await store.call('XADD', key, '*', 't', 'rubbish')
    await store.call('XADD', key, '*', 't', '{"k":"copy","c":1,"r":"00"}')
    await queue.enqueue('f', [copy(9)])
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 1)
    await t.rejects(queue.enqueue('f', [copy(10)]), { code: 'ENOSPC' })
    const stop = stopOf(t)
    const got: number[] = []
    const done = queue.consume('f', 'c', async (task) => void got.push(task.chunk), { signal: stop.signal })
    await until('the queue is empty', async () => (await queue.length('f')) === 0)
    stop.abort()
    await done
    await redis.command(0, 'CONFIG', 'SET', 'maxmemory', 0)
    t.strictSame(got, [9])
    await queue.enqueue('f', [copy(10)])
    await queue.drop('f')
    t.equal(await queue.length('f'), 0)
  })
})
