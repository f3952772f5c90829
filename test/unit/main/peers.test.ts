import t, { type Test } from 'tap'
import { serveChunkNode } from '../../../src/chunk/node/server.js'
import { SharedBuffers } from '../../../src/chunk/shared-buffer.js'
import { ClockOffset } from '../../../src/cluster/clock-offset.js'
import type { ClusterWatcher } from '../../../src/cluster/watcher.js'
import { buildRing } from '../../../src/cluster/ring.js'
import { Peers } from '../../../src/main/peers.js'
import { RpcServer } from '../../../src/rpc/server.js'
import { CALL, VOLUME, randomChunk, putRequest, startCluster } from '../../helpers/chunks.js'

t.setTimeout(300_000)

const [ONE, OTHER] = ['node-0', 'node-1']

/** Two owners of every chunk, of which membership says that both are where node-0 listens. */
async function bothAtOne(t: Test) {
  const cluster = await startCluster(t, { nodes: 2, replicas: 2, writeQuorum: 2 })
  // Nor does node-0 reach it: what it is given to pass on goes nowhere.
  cluster.node(OTHER).faults.killed = true
  const server = new RpcServer()
  serveChunkNode(cluster.node(ONE).service, server)
  const address = await server.listen('127.0.0.1:0')
  const ring = buildRing([])
  const watcher: ClusterWatcher = {
    current: () => {
      const { epoch, members } = cluster.placement().view
      return { view: { epoch, members: members.map((member) => ({ ...member, address })) }, ring, former: ring }
    },
    clockOffset: new ClockOffset(),
    refresh: () => Promise.reject(new Error('not asked')),
    onChange: () => () => undefined,
    close: () => undefined,
  }
  const peers = new Peers(watcher, new SharedBuffers(), undefined)
  t.teardown(async () => {
    await peers.close()
    await server.close()
  })
  return { cluster, peers }
}

t.test('a node that answers at the address of another is not taken for it: one copy is not two', async (t) => {
  const { cluster, peers } = await bothAtOne(t)
  const client = cluster.clientWith({ node: (id) => peers.get(id), attemptMs: 500, deadlineMs: 1_500 })
  const { id, data, origin } = randomChunk(7, 100_000)
  for (const sync of [false, true]) {
    await t.rejects(client.write(id, data, origin, { durability: 'quorum', sync }), { code: 'NO_QUORUM' })
  }
  await t.rejects(client.sync([id]), { code: 'NO_QUORUM' })
  t.equal((await cluster.node(ONE).store.verify(id)).state, 'good')
  t.equal((await cluster.node(OTHER).store.verify(id)).state, 'missing')
})

t.test('nor is it passed on to, or believed to have anything', async (t) => {
  const { cluster, peers } = await bothAtOne(t)
  const chunk = randomChunk(8, 1_000)
  const why = { code: 'NODE_UNREACHABLE', message: /answers node node-0: a wrong advertised address/ }
  await t.rejects(peers.get(OTHER).put(putRequest(chunk), chunk.data, CALL), why)
  t.equal((await cluster.node(ONE).store.verify(8)).state, 'missing')
  await peers.get(ONE).put(putRequest(chunk), chunk.data, CALL)
  t.strictSame(await peers.get(ONE).lacks({ volume: VOLUME, ids: [8], verify: true }, CALL), [])
  await t.rejects(peers.get(OTHER).lacks({ volume: VOLUME, ids: [8], verify: true }, CALL), why)
  await t.rejects(peers.get(OTHER).remove(VOLUME, [8], CALL), why)
  t.equal((await cluster.node(ONE).store.verify(8)).state, 'good')
})
