/** Nodes on hosts of their own: cables taken out, packets lost one way, a wrong address. The workload is on another host. */
import t from 'tap'
import { RingfsError } from '../../src/base/errors.js'
import { sightProblems } from '../../src/cluster/sight.js'
import { startCluster, type ClusterNode, type TestCluster } from '../helpers/cluster.js'
import { Network, losePackets } from '../helpers/network.js'
import { eventually } from '../helpers/ringfs.js'

t.setTimeout(600_000)

async function problems({ volume }: TestCluster): Promise<string> {
  return sightProblems(await volume.watcher.refresh()).join('\n')
}

/** `without`: who is not named, but for a moment on a busy machine. */
function named(cluster: TestCluster, pattern: RegExp, without?: string): Promise<string> {
  return eventually(
    `named: ${pattern}`,
    () => problems(cluster),
    (text) => pattern.test(text) && (without === undefined || !text.includes(without)),
  )
}

function codeOf(error: unknown): string {
  return error instanceof RingfsError ? error.code : String(error)
}

t.test('hosts cut off, one way too, and badly addressed are named, and nothing acknowledged is lost', async (t) => {
  const network = await Network.of(t)
  const cluster = await startCluster(t, 4, { network })
  const { workload } = cluster
  const [a, b, c] = [cluster.node(0), cluster.node(1), cluster.node(2)]
  if (a.host === undefined || b.host === undefined || c.host === undefined) throw new Error('no hosts')
  const goesOn = (): Promise<void> => workload.goesOn(10)
  const isUp = (node: ClusterNode): Promise<unknown> =>
    eventually(
      'it is up',
      () => cluster.member(node),
      (member) => member?.state === 'up',
    )
  workload.start()

  await t.test('what one host sends to another is lost', async (t) => {
    await a.host?.loseTo(b.host ?? a.host)
    await named(cluster, new RegExp(`${a.id} does not reach ${b.id}`), c.id)
    await isUp(a)
    t.pass('both reach Redis: neither is dead')
    t.match((await cluster.ringfs('status')).stdout, `${a.id} does not reach ${b.id}`)
    await a.host?.reachAgain(b.host ?? a.host)
    await eventually(
      'they reach each other again',
      () => problems(cluster),
      (text) => text === '',
    )
  })

  await t.test('what a client sends to a node is lost, or what the node sends to it; both reach Redis', async (t) => {
    const port = (await cluster.member(b))?.address.split(':').at(-1) ?? ''
    for (const rule of [
      ['INPUT', '-p', 'tcp', '-s', network.address, '--dport', port],
      ['OUTPUT', '-p', 'tcp', '-d', network.address, '--sport', port],
    ]) {
      const mend = await losePackets(b.host?.words ?? [], rule)
      await goesOn()
      await isUp(b)
      await mend()
    }
    t.pass('both reach Redis: it is not dead')
  })

  await t.test('what a client sends to a master of Redis is lost, or what the master sends to it', async (t) => {
    const [master] = await cluster.volume.redis.masters()
    const port = master?.address.split(':').at(-1) ?? ''
    for (const end of ['--dport', '--sport']) {
      // Both are in this process's namespace; the nodes come over the bridge, and go on.
      const mend = await losePackets([], ['INPUT', '-i', 'lo', '-p', 'tcp', end, port])
      const before = workload.faults.length
      const asked = cluster.volume.watcher.refresh().then(() => '', codeOf)
      await goesOn()
      await mend()
      // Either it waits until it can be answered, or it ends at its deadline and says why.
      t.match(await asked, /^(REDIS_UNREACHABLE)?$/)
      t.ok((await cluster.volume.watcher.refresh()).epoch > 0, 'it answers again')
      // What needs Redis to be done (an owner did not answer in time, and is to get its copy later) ends in the same way.
      const unexcused = workload.faults.splice(before).filter((fault) => !fault.includes('Redis at '))
      workload.faults.push(...unexcused)
    }
  })

  await t.test('a host is cut off for longer than a node may be silent, and is back', async (t) => {
    await c.host?.cutOff()
    await eventually(
      'it has lost its place',
      () => cluster.member(c),
      (member) => member?.isOut === true,
    )
    const before = workload.acknowledged.length
    await eventually(
      'writes go on',
      () => workload.acknowledged.length,
      (count) => count > before + 10,
    )
    await c.host?.plugIn()
    await isUp(c)
    t.pass('it is back')
  })

  await t.test('a node that advertises an address at which nobody is', async (t) => {
    const lost = await cluster.add('--advertise', `${network.address}9:7400`)
    t.ok(await named(cluster, new RegExp(`no node reaches ${lost.id} .*is its --advertise address right`)))
    lost.signal('SIGTERM')
    const removed = await cluster.ringfs('node', 'remove', lost.id, '--lost', '--force', '--no-wait')
    t.equal(removed.code, 0, removed.stderr)
  })

  await workload.stop()
  await cluster.whole('all chunks are on their owners')
  t.strictSame(await cluster.holes(), [])
  await workload.checkAll()
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
})
