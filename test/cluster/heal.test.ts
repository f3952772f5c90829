/** Five real nodes, three replicas, a workload that goes on, and a checker that knows what was acknowledged. */
import t from 'tap'
import { eventually, sleep } from '../helpers/ringfs.js'
import { MEMBERSHIP_TIMES, startCluster } from '../helpers/cluster.js'

t.setTimeout(600_000)

t.test('nodes lost for ever, paused, brought back, drained and joined: nothing acknowledged is lost', async (t) => {
  const cluster = await startCluster(t, 5)
  const { workload } = cluster
  const copied = async (index: number): Promise<number> =>
    (await cluster.member(cluster.node(index)))?.report?.heal.copied ?? 0
  workload.start()
  await eventually(
    'some chunks are written',
    () => workload.acknowledged.length,
    (count) => count > 60,
  )

  t.comment('a node is killed and does not come back; meanwhile another is paused')
  await cluster.node(0).kill()
  cluster.node(1).signal('SIGSTOP')
  await sleep((MEMBERSHIP_TIMES.suspectMs + MEMBERSHIP_TIMES.downMs) / 2)
  cluster.node(1).signal('SIGCONT')
  await eventually(
    'the killed node has lost its place',
    () => cluster.member(cluster.node(0)),
    (member) => member?.isOut === true,
  )
  await workload.stop()
  await cluster.whole('the four that are left have all copies')
  t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')

  t.comment('it comes back after all')
  const owned = workload.acknowledged.length
  await cluster.node(0).start()
  await cluster.whole('it has what was written without it')
  t.strictSame(await cluster.holes(), [])
  t.ok((await copied(0)) < owned, 'it fetched only what was written while it was away')

  t.comment('a node drains while the workload goes on')
  workload.start()
  const drained = await cluster.ringfs('node', 'drain', cluster.node(2).id.slice(0, 8), '--json')
  t.equal(drained.code, 0, drained.stderr)
  t.match(JSON.parse(drained.stdout.trim().split('\n').at(-1) ?? ''), { isDone: true, walked: 1, waiting: 0 })
  await workload.stop()
  await cluster.node(2).kill()
  const refused = await cluster.ringfs('node', 'remove', cluster.node(3).id)
  t.match(refused, { code: 2, stderr: /not drained: drain it first/ })
  t.match(await cluster.ringfs('node', 'remove', cluster.node(2).id), { code: 0, stdout: /is gone/ })
  await cluster.whole('without it all is whole')
  t.strictSame(await cluster.holes(), [])

  t.comment('two of the four are killed at once, and one is new')
  await cluster.node(3).kill()
  workload.start()
  await cluster.add()
  const balanced = await cluster.ringfs('rebalance', '--limit', '200', '--no-wait')
  t.equal(balanced.code, 0, balanced.stderr)
  await sleep(1_000)
  await cluster.node(3).start()
  await workload.stop()
  await cluster.whole('with the new one and the old one')
  t.strictSame(await cluster.holes(), [])
  await workload.checkAll()
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
})
