/** Reading from several owners at once. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { systemClock } from '../../../src/base/clock.js'
import { silentLog } from '../../../src/base/log.js'
import { HedgeTimer } from '../../../src/chunk/client/latency.js'
import { LeafCache } from '../../../src/chunk/client/leaf-cache.js'
import { ChunkCounts } from '../../../src/chunk/client/options.js'
import { ChunkRead } from '../../../src/chunk/client/reader.js'
import type { ChunkNodeApi } from '../../../src/chunk/contract.js'
import { Gate } from '../../../src/chunk/deadline.js'
import { Hasher } from '../../../src/chunk/jobs.js'
import { NodeHealth } from '../../../src/chunk/node-health.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import { VOLUME, originOf, startCluster } from '../../helpers/chunks.js'
import { eventually } from '../../helpers/ringfs.js'

t.setTimeout(300_000)

/** Is slow with these bytes, and says when it has come to them. */
class SlowHasher extends Hasher {
  readonly gate = new Gate()
  readonly reached = new Gate()
  slowWith: Uint8Array | undefined

  override async check(...words: Parameters<Hasher['check']>): Promise<number> {
    if (words[0].some((piece) => piece === this.slowWith)) {
      this.reached.open()
      await this.gate.opened
    }
    return await super.check(...words)
  }
}

t.test('a bad copy is reported also if another one was faster', async (t) => {
  const cluster = await startCluster(t, { nodes: 3 })
  const data = randomBytes(1000)
  const ref = await cluster.client.write(0, [data], originOf(data.length), { durability: 'all', sync: false })
  const hasher = new SlowHasher(cluster.pool, new SharedBuffers())
  const bad: ChunkNodeApi = {
    ...cluster.node('node-0').api,
    get: async (request, options) => {
      const {
        chunkLengthBytes,
        firstLeaf,
        leaves,
        data: good,
        release,
      } = await cluster.node('node-0').api.get(request, options)
      const flipped = Buffer.from(good)
      flipped[0] = (flipped[0] ?? 0) ^ 1
      hasher.slowWith = flipped
      return { chunkLengthBytes, firstLeaf, leaves, release, data: flipped }
    },
  }
  const counts = new ChunkCounts()
  const node = (id: string): ChunkNodeApi => {
    if (id === 'node-0') return bad
    const { api } = cluster.node(id)
    // Else the bad copy may come too late to be looked at.
    return { ...api, get: (...words) => hasher.reached.opened.then(() => api.get(...words)) }
  }
  const read = new ChunkRead(
    {
      ...{ volume: VOLUME, replicas: 3, writeQuorum: 2, placement: { current: () => cluster.placement() }, node },
      ...{ localNode: undefined, hasher, health: new NodeHealth(systemClock), enqueue: () => Promise.resolve() },
      ...{ clock: systemClock, counts, log: silentLog, attemptMs: 20_000, deadlineMs: 20_000 },
      ...{ leafCache: new LeafCache(), hedge: new HedgeTimer(), together: () => undefined },
    },
    ref,
    0,
    data.length,
    {},
  )
  const { bytes, release } = await read.run()
  t.ok(bytes.equals(data), 'of another owner')
  release()
  t.equal(counts.bad, 0, 'nobody knows yet')
  hasher.gate.open()
  const calls = () => Promise.resolve(cluster.node('node-0').calls)
  await eventually('its node is told', calls, (all) => all.includes('reportBad'))
  t.equal(counts.bad, 1)
})
