import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import t, { type Test } from 'tap'
import { KIB, LEAF_BYTES, MIB } from '../../../src/base/limits.js'
import { CHUNK_BUCKETS, ORIGIN_ORDERS_MAX, type ChunkOrigin } from '../../../src/chunk/contract.js'
import { VOLUME, chunkFile, startCluster, type TestNode } from '../../helpers/chunks.js'

t.setTimeout(300_000)

function packed(lengthBytes: number, count: number): ChunkOrigin {
  const indices = Array.from({ length: count }, (_, index) => index)
  return {
    ...{ ino: 42, order: 1_700_000_000_000_000 },
    extents: indices.map((index) => ({
      fileOffset: 3 * MIB - index,
      chunkOffset: index % lengthBytes,
      lengthBytes: 1,
    })),
    orders: indices.map((index) => 1_600_000_000_000_000 - index),
    appends: indices.filter((index) => index % 3 === 0),
  }
}

/** As a reader gets it, and as a rebuild does. */
async function checkOrigin(t: Test, node: TestNode, id: number, origin: ChunkOrigin): Promise<void> {
  const request = { volume: VOLUME, id, offset: 0, lengthBytes: 1, withOrigin: true }
  const reply = await node.service.get(request)
  reply.release()
  t.strictSame(reply.origin, origin, `chunk ${id} of ${node.id}`)
  const range = { fromBucket: 0, toBucket: CHUNK_BUCKETS, fromId: 0, limit: 1000, headers: true }
  for (let next: { bucket: number; id: number } | null = { bucket: 0, id: 0 }; next !== null;) {
    const page = await node.service.list({ volume: VOLUME, ...range, fromBucket: next.bucket, fromId: next.id })
    const found = page.chunks.find((chunk) => chunk.id === id)
    if (found !== undefined) t.strictSame(found.header?.origin, origin, `chunk ${id}, listed by ${node.id}`)
    if (found !== undefined) return
    next = page.next
  }
  t.fail(`chunk ${id} is not listed by ${node.id}`)
}

t.test(
  'every copy of a packed chunk has its orders: written, healed, and made in the place of a bad one',
  async (t) => {
    const cluster = await startCluster(t, { nodes: 3 })
    const [first, second, third] = cluster.nodes
    if (first === undefined || second === undefined || third === undefined) throw new Error('three nodes')
    const sizes = [10, 4 * KIB, LEAF_BYTES + 1, 100 * KIB, MIB]
    const options = { durability: 'quorum' } as const
    for (const [id, size] of sizes.entries()) {
      const origin = packed(size, id % 2 === 0 ? ORIGIN_ORDERS_MAX : 5)
      third.faults.killed = true
      third.faults.state = 'down'
      const ref = await cluster.client.write(id, [randomBytes(size)], origin, { ...options, sync: id % 2 === 0 })
      await checkOrigin(t, first, id, origin)
      await checkOrigin(t, second, id, origin)
      third.faults.killed = false
      third.faults.state = 'up'
      await cluster.drain()
      await checkOrigin(t, third, id, origin)
      await first.store.remove([id])
      rmSync(chunkFile(first.folder, id), { force: true })
      await first.service.repairer.ensure(id, ref.root, [third.id])
      await checkOrigin(t, first, id, origin)
    }
  },
)
