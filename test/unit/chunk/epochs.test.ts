/** Who goes by an old ring is told, by whoever meets a newer one, and looks. */
import t from 'tap'
import type { PlacementSource } from '../../../src/chunk/client/placement.js'
import { CALL, originOf, putRequest, randomChunk, placementOf, startCluster } from '../../helpers/chunks.js'

const WRITE = { durability: 'quorum', sync: false } as const
const BYTES = Buffer.alloc(1000, 7)

t.test(
  'a client with an old epoch is told by the reply, looks, and sees to it that the owners of today get it',
  async (t) => {
    const cluster = await startCluster(t, { nodes: 4, epochs: () => ({ current: () => 2, onNewer: () => undefined }) })
    let known = placementOf(cluster, 1, 0)
    let looks = 0
    const placement: PlacementSource = {
      current: () => known,
      refresh: async () => {
        looks++
        known = await Promise.resolve(placementOf(cluster, 2, 1))
      },
    }
    const client = cluster.clientWith({ placement })
    await client.write(0, [BYTES], originOf(1000), WRITE)
    t.equal(looks, 1)
    t.match(cluster.node('node-3').queue, [{ kind: 'copy', chunk: 0, epoch: 2 }], 'an owner by the newer ring alone')
    t.strictSame(cluster.node('node-0').queue, [], 'it was one by the old ring')
    await cluster.drain()
    t.equal((await cluster.node('node-3').store.verify(0)).state, 'good')
    await client.write(4, [BYTES], originOf(1000), { ...WRITE, durability: 'all' })
    t.equal(looks, 1, 'and knows it from then on')
    t.equal((await cluster.node('node-3').store.verify(4)).state, 'good')
    t.equal((await cluster.node('node-0').store.verify(4)).state, 'missing')
  },
)

t.test('a newer ring that cannot be had holds no write up', async (t) => {
  const cluster = await startCluster(t, { nodes: 3, epochs: () => ({ current: () => 2, onNewer: () => undefined }) })
  const placement: PlacementSource = {
    current: () => placementOf(cluster, 1, 0),
    refresh: () => Promise.reject(new Error('Redis is away')),
  }
  t.equal((await cluster.clientWith({ placement }).write(0, [BYTES], originOf(1000), WRITE)).lengthBytes, 1000)
})

t.test('a node with an old epoch is told by what it is asked to store, and looks', async (t) => {
  const told: string[] = []
  const cluster = await startCluster(t, {
    nodes: 3,
    epochs: (id) => ({ current: () => (id === 'node-1' ? 1 : 2), onNewer: () => void told.push(id) }),
  })
  const chunk = randomChunk(0, 1000)
  const put = async (epoch: number): Promise<number | undefined> => {
    const request = putRequest(chunk, { forward: ['node-1', 'node-2'], copies: 3, epoch })
    return (await cluster.node('node-0').api.put(request, chunk.data, CALL)).epoch
  }
  t.equal(await put(1), 2, 'the newest that any of them knows')
  t.strictSame(told, [])
  await put(2)
  t.strictSame(told, ['node-1'], 'it was passed on')
  await put(3)
  t.strictSame(told.sort(), ['node-0', 'node-1', 'node-1', 'node-2'])
})
