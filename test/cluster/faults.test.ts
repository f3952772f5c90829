/**
 * Lines of the fault model, one by one: nodes on hosts of their own with wall clocks of their own, a workload that goes on, and a checker
 * that knows what was acknowledged. No call may fail in any of it: one node at a time is out of action, and the rest are slow.
 */
import t, { type Test } from 'tap'
import { ShiftedClock } from '../helpers/clock-shift.js'
import { temporaryFolder } from '../helpers/chunks.js'
import { startCluster } from '../helpers/cluster.js'
import { eventually } from '../helpers/ringfs.js'
import { Wire, type Rule } from '../helpers/wire.js'

const NODES = 4
const HOURS_S = [0, 30 * 3600, -30 * 3600, 5 * 3600]
const SOME = 15

t.setTimeout(600_000)

async function clocks(t: Test): Promise<readonly ShiftedClock[]> {
  const folder = temporaryFolder(t)
  const library = await ShiftedClock.library()
  return Promise.all(HOURS_S.map((_, index) => ShiftedClock.in(folder, `${index}`, library)))
}

t.test('each fault of nodes and messages, with a workload that goes on', async (t) => {
  const wire = await Wire.of(t, NODES)
  const nodeClocks = await clocks(t)
  const cluster = await startCluster(t, NODES, { network: wire, env: (index) => nodeClocks[index]?.env ?? {} })
  const { workload } = cluster
  const during = async (rule: Rule, hosts: readonly number[]): Promise<void> => {
    for (const host of hosts) await wire.hosts[host]?.impair(rule)
    await cluster.workload.goesOn(SOME)
    for (const host of hosts) await wire.hosts[host]?.impair({})
  }
  const becomes = (index: number, state: string): Promise<unknown> =>
    eventually(
      `node ${index} is ${state}`,
      () => cluster.member(cluster.node(index)),
      (member) => member?.state === state,
    )
  /** Suspect, or down by the time that this machine lets us look. */
  const isMissed = (index: number): Promise<unknown> =>
    eventually(
      `node ${index} is missed`,
      () => cluster.member(cluster.node(index)),
      (member) => member !== undefined && member.state !== 'up',
    )
  workload.start()

  await t.test('messages lost, late, doubled and out of order, between all', async () => {
    await during({ loss: 0.02, delayMs: 5, jitterMs: 30, doubled: 0.2 }, [0, 1, 2, 3])
  })

  await t.test('a node slowed', async () => {
    await during({ delayMs: 200, jitterMs: 200 }, [1])
  })

  await t.test('nothing that a node sends arrives, then nothing arrives there', async () => {
    await wire.hosts[2]?.impairSent({ loss: 1 })
    await isMissed(2)
    await cluster.workload.goesOn(SOME)
    await wire.hosts[2]?.impairSent({})
    await becomes(2, 'up')
    await wire.hosts[2]?.impairReceived({ loss: 1 })
    await isMissed(2)
    await cluster.workload.goesOn(SOME)
    await wire.hosts[2]?.impairReceived({})
    await becomes(2, 'up')
  })

  await t.test('clocks off by hours, and set while the nodes run', async (t) => {
    for (const [index, clock] of nodeClocks.entries()) await clock.set(HOURS_S[index] ?? 0)
    await eventually(
      'their offsets are known',
      async () => (await cluster.member(cluster.node(1)))?.report?.clockOffsetMs ?? 0,
      (offsetMs) => Math.abs(offsetMs) > 29 * 3_600_000,
    )
    await cluster.workload.goesOn(SOME)
    // Who did would count as that for as long as his clock is wrong.
    for (const index of cluster.nodes.keys()) await becomes(index, 'up')
    t.pass('nobody counts as dead for his clock')
  })

  await workload.stop()
  await cluster.whole('all chunks are on their owners')
  t.strictSame(await cluster.holes(), [], 'three good copies of each chunk')
  await workload.checkAll()
  t.strictSame(workload.faults, [], 'no call failed, and no byte was wrong')
})
