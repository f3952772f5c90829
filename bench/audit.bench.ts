/**
 * What an audit costs: all nodes compare all that they have with each other, by digests and, as nodes did before, by lists of ids.
 * Messages and bytes are counted, not timed; the disks are lists in memory.
 */
import { AuditCluster, REPLICAS, type Asked } from '../test/helpers/audit-cluster.js'
import { ListDisk } from '../test/helpers/list-disk.js'
import { buildRing } from '../src/cluster/ring.js'

const NODES = 5
const BLOCK = 2 ** 24

async function auditOf(chunks: number, lost: number, hasDigests: boolean): Promise<Asked> {
  const names = Array.from({ length: NODES }, (_, index) => `node-${index}`)
  const ring = buildRing(names.map((id) => ({ id, weight: 1, zone: '' })))
  const held = new Map(names.map((name) => [name, new Array<number>()]))
  for (let index = 0; index < chunks; index++) {
    const id = BLOCK + index
    for (const owner of ring.owners(id, REPLICAS)) held.get(owner)?.push(id)
  }
  const disks = new Map([...held].map(([name, ids]) => [name, new ListDisk(ids)]))
  for (let index = 0; index < lost; index++) {
    const id = BLOCK + Math.floor((chunks / lost) * index)
    await disks.get(ring.owners(id, REPLICAS)[0] ?? '')?.remove([id])
  }
  const ends: (() => unknown)[] = []
  const cluster = new AuditCluster({ teardown: (end) => ends.push(end) }, { disks, hasDigests, graceMs: 1 })
  const asked = await cluster.audit()
  for (const end of ends) await end()
  return asked
}

for (const chunks of [1_000, 100_000, 1_000_000]) {
  for (const lost of [0, 1, 100]) {
    for (const hasDigests of [false, true]) {
      const { messages, bytes, digests, ids } = await auditOf(chunks, lost, hasDigests)
      const kind = hasDigests ? 'digests' : 'lists'
      process.stdout.write(
        `${chunks} chunks, ${lost} copies lost, ${kind}: ${JSON.stringify({ messages, bytes, digests, ids })}\n`,
      )
    }
  }
}
