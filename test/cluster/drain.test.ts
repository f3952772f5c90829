/** What `ringfs node drain`, `remove`, `rebalance` and `status` say where there are too few nodes, or some are lost: nothing may be lost by doing as they say. */
import t from 'tap'
import { changeState, setMembershipTimes } from '../../src/cluster/membership.js'
import { MEMBERSHIP_TIMES, startCluster } from '../helpers/cluster.js'
import { eventually } from '../helpers/ringfs.js'

const MINUTE_MS = 60_000

t.setTimeout(600_000)

t.test('what has nowhere to go is not drained, and is said', async (t) => {
  const cluster = await startCluster(t, 0)
  const { volume } = cluster
  t.match(await cluster.ringfs('rebalance'), { code: 2, stderr: /the volume has no nodes/ })
  t.match(await cluster.ringfs('status'), { code: 0, stdout: /^chunks no nodes$/m })
  t.match(await cluster.ringfs('node', 'settings', '--suspect', '0.5'), { code: 2, stderr: /at least 2/ })
  t.match(await cluster.ringfs('node', 'settings', '--scrub', '0.1'), { code: 2, stderr: /at least 0.5/ })
  t.match(await cluster.ringfs('node', 'settings', '--limit', '2.5'), {
    stdout: /^limit of healing: 2\.5 MB\/s for each/m,
  })
  t.match(await cluster.ringfs('node', 'settings', '--limit', '0'), { stdout: /^limit of healing: none$/m })
  t.match(await cluster.ringfs('node', 'settings', '--scrub', '30'), {
    code: 0,
    stdout: /hashed again every 30 days$/m,
  })

  const [one, two] = [await cluster.add(), await cluster.add()]
  const { stdout } = await cluster.ringfs('status')
  t.match(stdout, /! 2 nodes have a place on the ring: each chunk has 2 of its 3 copies at most: add nodes/)
  t.match(await cluster.ringfs('node', 'drain', one.id), {
    code: 2,
    stderr: /there are 1 nodes, and a write needs 2: add one first/,
  })
  t.match((await cluster.member(one))?.state, /^(up|suspect)$/, 'nothing has changed')

  const third = await cluster.add()
  await eventually(
    'nothing is wrong',
    async () => (await cluster.ringfs('status')).stdout,
    (text) => !/^!/m.test(text),
  )
  const drained = await cluster.ringfs('node', 'drain', one.id)
  t.match(drained, { code: 0, stdout: /is drained: stop it/, stderr: /there are 2 copies of each chunk, not 3/ })
  t.match(await cluster.ringfs('node', 'drain', one.id, '--cancel'), { code: 0, stdout: /has its place back/ })

  await third.kill()
  await eventually(
    'it is down',
    () => cluster.member(third),
    (member) => member?.state === 'down',
  )
  t.match(await cluster.ringfs('node', 'drain', third.id), { code: 2, stderr: /is down, and cannot tell what it has/ })

  // What one command refuses several at the same time may have done.
  const { redis, settings } = volume
  for (const { id } of [one, two, third])
    await changeState(redis, settings.name, id, 'draining', ['up', 'suspect', 'down'])
  t.match(await cluster.ringfs('node', 'remove', one.id), {
    code: 2,
    stderr: /no node is left that could have what node/,
  })
})

t.test(
  'a node that dies while it drains is waited for until it would be given up, and then that is said',
  async (t) => {
    const cluster = await startCluster(t, 4)
    const { redis, settings } = cluster.volume
    const one = cluster.node(0)
    await cluster.whole('all nodes are there')
    await one.kill()
    await changeState(redis, settings.name, one.id, 'draining', ['up', 'suspect', 'down'])
    await setMembershipTimes(redis, settings.name, { suspectMs: 2_000, downMs: 3_000, outMs: 8_000 })
    const drained = await cluster.ringfs('node', 'drain', one.id)
    t.match(drained, {
      code: 42,
      stderr: /has been silent for .*: start it, .* if it is lost: ringfs node remove .* --lost/,
    })
    t.notMatch(drained.stderr, / 0 ms left/)
    t.equal((await cluster.member(one))?.state, 'draining')
    await setMembershipTimes(redis, settings.name, MEMBERSHIP_TIMES)
    await one.start()
    t.match(await cluster.ringfs('node', 'drain', one.id), { code: 0, stdout: /is drained: stop it/ }, 'it goes on')
  },
)

t.test('a node that runs is not removed as lost', async (t) => {
  const cluster = await startCluster(t, 1)
  const { redis, settings } = cluster.volume
  const { id } = cluster.node(0)
  // A moment of silence is not to make it suspect.
  await setMembershipTimes(redis, settings.name, { suspectMs: MINUTE_MS, downMs: 2 * MINUTE_MS, outMs: 3 * MINUTE_MS })
  await eventually(
    'it is up',
    () => cluster.member(cluster.node(0)),
    (member) => member?.state === 'up',
  )
  const refused = /is up, and was heard .* ago: drain it: ringfs node drain .* or add --force/
  t.match(await cluster.ringfs('node', 'remove', id, '--lost'), { code: 2, stderr: refused })
  await changeState(redis, settings.name, id, 'draining', ['up'])
  const waits = /is draining, .* wait for ringfs node drain .* or add --force/
  t.match(await cluster.ringfs('node', 'remove', id, '--lost'), { code: 2, stderr: waits })
  t.equal((await cluster.member(cluster.node(0)))?.state, 'draining', 'nothing has changed')
})

t.test('a node that was killed is said to be silent, and when it is removed it is shown no more', async (t) => {
  const cluster = await startCluster(t, 3)
  const [one, two] = [cluster.node(0), cluster.node(1)]
  const remove = (...words: readonly string[]) => cluster.ringfs('node', 'remove', ...words)
  const status = async (...words: readonly string[]): Promise<string> =>
    (await cluster.ringfs('status', ...words)).stdout
  await one.kill()
  await eventually(
    'it is suspect',
    () => cluster.member(one),
    (member) => member?.state === 'suspect' || member?.state === 'down',
  )
  t.notMatch(await status(), /--advertise/, 'its address was right')
  t.match(await remove(one.id, '--lost'), { code: 0, stdout: /is gone\nall that is left is on all its owners\n$/ })
  t.match(await status(), /^1 node is gone for good: --all shows it$/m)
  const forced = await remove(two.id, '--lost', '--force', '--no-wait')
  t.match(forced, { code: 0, stdout: /is gone\n$/ }, 'one that runs, if that is meant')

  const shown = await status()
  t.notMatch(shown, one.id)
  t.match(shown, /^2 nodes are gone for good: --all shows them$/m)
  const all = await status('--all')
  t.match(all, new RegExp(`^${one.id} .* gone `, 'm'))
  t.notMatch(all, /gone for good/)
  t.match(JSON.parse(await status('--json')), { nodes: { length: 3 } })
})
