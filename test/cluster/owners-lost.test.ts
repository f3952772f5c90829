/**
 * As many owners of chunks as the fault model has lost for ever, with their disks, right after fsync has acknowledged these: one less than
 * the write quorum.
 */
import { rm } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { startCluster, type ClusterNode, type TestCluster } from '../helpers/cluster.js'
import { eventually } from '../helpers/ringfs.js'

const NODES = 5
const SOME = 40

t.setTimeout(600_000)

async function more({ workload }: TestCluster): Promise<void> {
  const before = workload.acknowledged.length
  await eventually(
    'the workload goes on',
    () => workload.acknowledged.length,
    (count) => count > before + SOME || workload.faults.length > 0,
  )
}

/** Owners of the chunk that was acknowledged last: those whom its writer asks first, and who have said that they have it. */
function ownersOfNewest({ workload, volume, nodes }: TestCluster, count: number): readonly ClusterNode[] {
  const newest = workload.acknowledged.findLast(({ isSynced }) => isSynced)
  if (newest === undefined) throw new Error('nothing was acknowledged')
  const owners = volume.watcher.current().ring.owners(newest.ref.id, count)
  return nodes.filter(({ id }) => owners.includes(id))
}

async function loseForEver(lost: readonly ClusterNode[]): Promise<void> {
  await Promise.all(lost.map((node) => node.kill()))
  await Promise.all(lost.map(({ folder }) => rm(folder, { recursive: true, force: true })))
}

async function ownersLost(t: Test, writeQuorum: number): Promise<void> {
  const cluster = await startCluster(t, NODES, { writeQuorum })
  const { workload } = cluster
  workload.start()
  await more(cluster)
  const lost = ownersOfNewest(cluster, writeQuorum - 1)
  t.equal(lost.length, writeQuorum - 1)
  const acknowledged = [...workload.acknowledged]
  await loseForEver(lost)
  t.comment(`${acknowledged.length} chunks were acknowledged`)
  await more(cluster)
  for (const { id } of lost) {
    const removed = await cluster.ringfs('node', 'remove', id, '--lost', '--force', '--no-wait')
    t.equal(removed.code, 0, removed.stderr)
  }
  await more(cluster)
  await workload.stop()
  await cluster.whole('all chunks are on their owners')
  t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')
  await workload.checkAll()
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
}

for (const writeQuorum of [2, 3]) {
  const lost = writeQuorum === 2 ? 'one owner' : 'two owners'
  t.test(`three replicas, a write quorum of ${writeQuorum}: ${lost} of what was just acknowledged lost for ever`, (t) =>
    ownersLost(t, writeQuorum),
  )
}
