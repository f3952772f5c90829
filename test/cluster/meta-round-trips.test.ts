/** What an operation costs in round trips to Redis: each is a fraction of a millisecond that somebody waits. */
import t from 'tap'
import type { RedisStore } from '../../src/cluster/contract.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { OPERATIONS, operationGround } from '../helpers/meta-operations.js'
import { ROOT, bytes, volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

/** Renewals of the lease would be counted, too. */
const LONG_TTL_MS = 3_600_000
const RUNS = 3

t.test('each operation takes as many round trips as is said', { timeout: 300_000 }, async (t) => {
  let counting: CountingRedis | undefined
  const wrap = (store: RedisStore): RedisStore => (counting = new CountingRedis(store))
  const volume = await volumesOn(t, await startRedis(t), wrap)()
  const meta = await volume.client({ sessionTtlMs: LONG_TTL_MS, random: () => 0.6 })
  if (counting === undefined) throw new Error('the store is wrapped')
  const ground = await operationGround(meta, 'here')
  // The block of ids comes once in 2^24 chunks.
  await meta.chunkId()
  let id = 0
  for (const { name, roundTrips, before, run } of OPERATIONS) {
    const counts: number[] = []
    for (let i = 0; i < RUNS; i++) {
      id++
      await before?.(ground, id)
      counts.push(await counting.during(() => run(ground, id)))
    }
    t.strictSame(
      counts,
      Array.from({ length: RUNS }, () => roundTrips),
      `${name}: ${roundTrips}`,
    )
  }
})

t.test('what is made ready when a mount begins', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t)
  const sent: string[] = []
  const wrap = (store: RedisStore): RedisStore => {
    const run: RedisStore['run'] = (script, ...rest) => {
      sent.push(script.name)
      return store.run(script, ...rest)
    }
    return Object.assign(new CountingRedis(store), { run })
  }
  const volume = await volumesOn(t, redis, wrap)()
  const meta = await volume.client({ sessionTtlMs: LONG_TTL_MS, numbersAhead: 4 })
  await meta.prepare()
  t.same(sent.splice(0).slice(-1), ['reserve'])
  await meta.prepare()
  t.notOk(sent.includes('reserve'), 'once is enough')
  sent.length = 0
  await meta.mkdir(ROOT, bytes('first'), 0o755, 0, 0)
  t.equal(sent[0], 'mkdir', 'the first directory waits for no number')
})
