/** The logic of healing over simulated nodes: thousands of schedules, each from its seed. */
import t from 'tap'
import { Pace } from '../../../src/chunk/node/pace.js'
import { HealSimulation } from '../../helpers/heal-simulation.js'
import { ManualClock } from '../../helpers/manual-clock.js'

const SCHEDULES = Number(process.env['RINGFS_SCHEDULES'] ?? 8)

/** Mulberry32 (Tommy Ettinger, public domain). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function settle(simulation: HealSimulation): Promise<boolean> {
  for (let round = 0; round < 60; round++) {
    await simulation.pass(10_000)
    const isDone = simulation.nodes.every((one) => !one.isOn || one.healer?.report().isDone === true)
    if (simulation.isWhole() && isDone) return true
  }
  return false
}

function writeSome(simulation: HealSimulation, from: number, count: number): void {
  for (let id = from; id < from + count; id++) simulation.write(id)
}

function copies(simulation: HealSimulation): number {
  return simulation.nodes.reduce((sum, node) => sum + node.copied, 0)
}

t.test(
  'a node that joins gets what it owns and nobody else gets anything; what became surplus is given up',
  async (t) => {
    const simulation = new HealSimulation({ nodes: 4, replicas: 3, random: randomFrom(1) })
    writeSome(simulation, 0, 300)
    t.ok(await settle(simulation))
    t.equal(copies(simulation), 0, 'all are where they belong')
    const joined = simulation.join()
    t.ok(await settle(simulation))
    const owned = [...simulation.acknowledged].filter((id) => simulation.owners(id).includes(joined)).length
    t.equal(joined.copied, owned)
    t.equal(copies(simulation), owned, 'the least that is possible')
    await simulation.pass(60_000)
    const total = simulation.nodes.reduce((sum, node) => sum + node.chunks.size, 0)
    t.equal(total, 3 * 300, 'three copies of each, no more')
    await simulation.end()
  },
)

t.test('a node that is lost is made up for; when it is back after all, nothing is copied again', async (t) => {
  const simulation = new HealSimulation({ nodes: 5, replicas: 3, random: randomFrom(2) })
  writeSome(simulation, 0, 300)
  const [lost] = simulation.nodes
  if (lost === undefined) throw new Error('no node')
  const had = lost.chunks.size
  simulation.switchOff(lost)
  simulation.change(() => Object.assign(lost, { state: 'down', isOut: true }))
  t.ok(await settle(simulation))
  t.equal(copies(simulation), had, 'as many copies as were lost')
  simulation.switchOn(lost)
  simulation.change(() => Object.assign(lost, { state: 'up', isOut: false }))
  t.ok(await settle(simulation))
  t.equal(copies(simulation), had)
  await simulation.end()
})

t.test('a node that drains is empty in the end, and its chunks are whole elsewhere', async (t) => {
  const simulation = new HealSimulation({ nodes: 4, replicas: 3, random: randomFrom(3) })
  writeSome(simulation, 0, 300)
  const [drained] = simulation.nodes
  if (drained === undefined) throw new Error('no node')
  simulation.change(() => Object.assign(drained, { state: 'draining' }))
  t.ok(await settle(simulation))
  await simulation.pass(60_000)
  t.equal(drained.chunks.size, 0)
  t.strictSame(simulation.faults, [])
  await simulation.end()
})

/** Nodes go, come back, join and drain at random, faster than healing ends; chunks are written meanwhile. */
async function play(seed: number): Promise<readonly string[]> {
  const random = randomFrom(seed)
  const replicas = 2 + Math.floor(random() * 2)
  const simulation = new HealSimulation({ nodes: replicas + 1 + Math.floor(random() * 3), replicas, random })
  let next = 0
  const pick = () => simulation.nodes[Math.floor(random() * simulation.nodes.length)]
  for (let step = 0; step < 12; step++) {
    writeSome(simulation, next, 10)
    next += 10
    const node = pick()
    const off = simulation.nodes.filter((one) => !one.isOn)
    const placed = simulation.nodes.filter((one) => one.state !== 'draining')
    if (node === undefined) continue
    const dice = random()
    if (dice < 0.3 && node.isOn && off.length < 2) {
      simulation.switchOff(node)
      if (node.state === 'up') simulation.change(() => Object.assign(node, { state: 'down', isOut: random() < 0.5 }))
    } else if (dice < 0.6 && !node.isOn) {
      simulation.switchOn(node)
      if (node.state === 'down') simulation.change(() => Object.assign(node, { state: 'up', isOut: false }))
    } else if (dice < 0.75 && simulation.nodes.length < 8) simulation.join()
    else if (dice < 0.85 && node.state === 'up' && placed.length > replicas + 1) {
      simulation.change(() => Object.assign(node, { state: 'draining' }))
    } else if (dice < 0.95 && node.state === 'draining') {
      simulation.change(() => Object.assign(node, { state: 'up' }))
    }
    await simulation.pass(random() * 15_000)
  }
  for (const node of simulation.nodes.filter((one) => !one.isOn)) simulation.switchOn(node)
  simulation.change(() => {
    for (const node of simulation.nodes) if (node.state === 'down') Object.assign(node, { state: 'up', isOut: false })
  })
  const isWhole = await settle(simulation)
  await simulation.end()
  return isWhole ? simulation.faults : [...simulation.faults, `not whole in the end: ${simulation.describe()}`]
}

t.test('whatever the schedule: nothing acknowledged is lost, and everything is whole in the end', async (t) => {
  const first = Number(process.env['RINGFS_SEED'] ?? Math.floor(Math.random() * 1e9))
  const failed: string[] = []
  for (let index = 0; index < SCHEDULES; index++) {
    const faults = await play(first + index)
    if (faults.length > 0) failed.push(`seed ${first + index}: ${faults.join('; ')}`)
  }
  t.strictSame(failed, [], `RINGFS_SEED=${first}`)
})

t.test('the pace keeps to its limit on average, and a raised limit is noticed', async (t) => {
  const clock = new ManualClock()
  let limit = 1000
  const pace = new Pace(clock, () => limit)
  let sent = 0
  const sending = (async () => {
    while (sent < 40) {
      await pace.ready()
      pace.spent(500)
      sent++
    }
  })()
  for (let step = 0; step < 50; step++) await clock.pass(100)
  t.ok(sent >= 10 && sent <= 13, `${sent} in 5 s`)
  limit = 10_000
  for (let step = 0; step < 25; step++) await clock.pass(100)
  await sending
  t.equal(pace.totalBytes, 20_000)
})
