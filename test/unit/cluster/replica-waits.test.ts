/** What becomes of a count of replicas that says nothing. */
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { ReplicaWaits, WAIT_SLICE_MS, type AskedLink } from '../../../src/cluster/replica-waits.js'
import { UncountedError } from '../../../src/cluster/redis-errors.js'
import { ManualClock } from '../../helpers/manual-clock.js'

/** A master that answers `replicas` after so long, from this address. */
function asked(replicas: number, tookMs: number, address: () => string): ReplicaWaits {
  const clock = new ManualClock()
  const link = (): AskedLink => ({
    address: address(),
    send: () => Promise.resolve(null),
    sendFenced: async () => {
      await clock.pass(tookMs)
      return replicas
    },
  })
  return new ReplicaWaits({ clock, masterOf: () => 'a:1', route: (_key, _timeoutMs, ask) => ask(link()) })
}

t.test('a server that stood still while it was asked says nothing, and that is an outcome with a code', async (t) => {
  const counts = asked(0, WAIT_SLICE_MS + 1_001, () => 'a:1').count(['{v.0}:i'], 1, 1_000)
  await t.rejects(counts, new UncountedError('a:1 stood still while it was asked about its replicas'))
  await t.rejects(counts, { code: 'REDIS_UNREACHABLE' })
  await counts.catch((error: unknown) => t.ok(error instanceof RingfsError))
})

t.test('one that took long and has all the replicas is believed', async (t) => {
  t.equal(await asked(1, WAIT_SLICE_MS + 1_001, () => 'a:1').count(['{v.0}:i'], 1, 1_000), 1)
})

t.test('slots that move each time that they are asked about say nothing either', async (t) => {
  let turn = 0
  const keys = Array.from({ length: 10 }, (_, p) => `{v.${p}}:i`)
  const counts = asked(1, 1, () => `b:${++turn}`).count(keys, 1, 1_000)
  await t.rejects(counts, { code: 'REDIS_UNREACHABLE', message: /slots move/ })
})
