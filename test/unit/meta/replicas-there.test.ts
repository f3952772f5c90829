/** What `ringfs format` learns of replicas by itself. */
import t from 'tap'
import { RingfsError } from '../../../src/base/errors.js'
import { UncountedError } from '../../../src/cluster/redis-errors.js'
import { replicasThere } from '../../../src/meta/format.js'

/** Fails with these, one after the other, and then counts two. */
function counting(...errors: Error[]) {
  return {
    waitReplicas: async () => {
      const error = errors.shift()
      if (error !== undefined) throw error
      return 2
    },
  }
}

t.test('a server that stood still while it was asked is asked again', async (t) => {
  const still = new UncountedError('stood still')
  t.equal(await replicasThere(counting(still, still), 'v'), 1)
  await t.rejects(replicasThere(counting(...Array.from({ length: 100 }, () => still)), 'v'), still, 'not without end')
})

t.test('other errors are told at once', async (t) => {
  const away = new RingfsError('REDIS_UNREACHABLE', 'away')
  await t.rejects(replicasThere(counting(away), 'v'), { code: 'REDIS_UNREACHABLE' })
})
