/** What one process does at a time (src/meta/lease.ts), on a real Redis. */
import t from 'tap'
import type { RedisStore } from '../../src/cluster/contract.js'
import { withLease } from '../../src/meta/lease.js'
import { bound } from '../helpers/bound-redis.js'
import { until } from '../helpers/meta.js'
import { connectPatiently, startRedis } from '../helpers/redis.js'

t.setTimeout(120_000)

const KEY = '{v}:m:some'
const redis = await startRedis(t, { masters: 1 })
const store = await connectPatiently(redis.url('v'))
t.teardown(() => store.close())
t.beforeEach(async () => {
  await store.call('DEL', KEY)
})

/** Does something before each command and script, which are told their names. */
function watched(before: (name: string) => Promise<unknown>): RedisStore {
  return {
    ...bound(store),
    call: async (...args) => {
      await before(args[0])
      return await store.call(...args)
    },
    run: async (...args) => {
      await before(args[0].name)
      return await store.run(...args)
    },
  }
}

t.test('one has it at a time, and the next one when it is done', async (t) => {
  const inner = await withLease(store, KEY, () => withLease(store, KEY, () => Promise.resolve('inner')))
  t.equal(inner, undefined)
  t.equal(await withLease(store, KEY, () => Promise.resolve('next')), 'next')
})

t.test('what was done, and why it failed, is told also if Redis does not answer afterwards', async (t) => {
  let isGone = false
  const going = watched(() => (isGone ? Promise.reject(new Error('no answer')) : Promise.resolve()))
  const result = await withLease(going, KEY, () => {
    isGone = true
    return Promise.resolve('done')
  })
  t.equal(result, 'done')
  isGone = false
  await store.call('DEL', KEY)
  const failing = withLease(going, KEY, () => {
    isGone = true
    return Promise.reject(new Error('the work failed'))
  })
  await t.rejects(failing, { message: 'the work failed' })
})

for (const [what, names] of [
  ['ended', ['DEL', 'lease-drop']],
  ['renewed', ['PEXPIRE', 'lease-renew']],
] as const) {
  t.test(`a lease that ran out just before it was ${what} stays with who took it`, async (t) => {
    let isTaken = false
    const late = watched(async (name) => {
      if (!names.some((one) => one === name)) return
      await store.call('SET', KEY, 'another', 'PX', 20_000)
      isTaken = true
    })
    await withLease(late, KEY, async () => {
      // It is renewed after some seconds.
      if (what === 'renewed') await until('it is renewed', () => isTaken, 60_000)
    })
    t.ok(isTaken)
    t.equal(String(await store.call('GET', KEY)), 'another')
    t.ok(Number(await store.call('PTTL', KEY)) <= 20_000)
  })
}
