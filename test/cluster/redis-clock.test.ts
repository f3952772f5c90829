/**
 * The clock of Redis is set by hours, or a replica with another clock is promoted: leases are counted by it. Who lives must not be taken for dead
 * by those who notice first.
 */
import t from 'tap'
import type { RedisArg, RedisStore } from '../../src/cluster/contract.js'
import { listSessions } from '../../src/meta/format.js'
import { temporaryFolder } from '../helpers/chunks.js'
import { ShiftedClock } from '../helpers/clock-shift.js'
import { CountingRedis } from '../helpers/counting-redis.js'
import { until, volumesOn } from '../helpers/meta.js'
import { startRedis } from '../helpers/redis.js'

const TTL_MS = 3_000
/** Two clients look twice each in the time of a lease, and judge nobody before they have lived for one and a half. */
const LOOKS = 7
const HOUR_S = 3600
const HOURS_S = 10 * HOUR_S

t.setTimeout(120_000)

t.test('when the clock of Redis steps, no session that lives is ended, and a dead one is', async (t) => {
  const folder = temporaryFolder(t)
  const clock = await ShiftedClock.in(folder, 'redis', await ShiftedClock.library(folder))
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
