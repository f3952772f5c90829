/** A consumer lives as long as its node: months, in which its queue is mostly empty. */
import t from 'tap'
import { silentLog } from '../../../src/base/log.js'
import { ReplicationQueue } from '../../../src/cluster/queue.js'
import { heldBytes } from '../../helpers/held-bytes.js'
import { randomFrom } from '../../helpers/random.js'
import { SimulatedNetwork } from '../../simulation/network.js'
import { SimulatedLink } from '../../simulation/redis-link.js'
import { SimulatedRedis } from '../../simulation/redis.js'
import { Scheduler, SimulatedClock, SimulatedProcess } from '../../simulation/scheduler.js'

const POLL_MS = 500
/** Looks at the queue: a race of promises left behind with each takes 300 bytes, so these 7 MB. */
const LOOKS = 25_000
const MOST_BYTES = 4e6

t.test('a queue that is empty for hours costs no memory', { timeout: 300_000 }, async (t) => {
  const scheduler = new Scheduler()
  const random = randomFrom(1)
  const simulated = new SimulatedProcess(scheduler)
  const network = new SimulatedNetwork(scheduler, random)
  const redis = new SimulatedRedis(() => Math.floor(scheduler.nowMs))
  const store = new SimulatedLink({ scheduler, process: simulated, network, redis, machine: 'n', random })
  const clock = new SimulatedClock(scheduler, simulated)
  const queue = new ReplicationQueue(store, { volume: 'v', log: silentLog, clock, random, pollMs: POLL_MS })
  const stop = new AbortController()
  const handled: number[] = []
  const done = queue.consume('n', 'c', async ({ chunk }) => void handled.push(chunk), { signal: stop.signal })
  const pass = (looks: number): Promise<void> => scheduler.run(scheduler.nowMs + looks * POLL_MS)
  await pass(LOOKS)
  const before = heldBytes()
  const callsBefore = redis.calls
  await pass(LOOKS)
  t.ok(redis.calls - callsBefore > LOOKS / 2, `looked at ${redis.calls - callsBefore} times`)
  const more = heldBytes() - before
  t.ok(more < MOST_BYTES, `${more} bytes more than before`)
  void queue.enqueue('n', [{ kind: 'remove', chunk: 7 }])
  await pass(4)
  t.strictSame(handled, [7], 'and what comes then is done')
  stop.abort()
  // It may be waiting for an answer.
  await pass(4)
  await done
})
