/** Hundreds of schedules of membership, queues and healing; then what the simulation found, one by one. */
import t from 'tap'
import { isHandedOver } from '../../src/cluster/progress.js'
import { playAll } from './players.js'
import { play, settle, type Outcome } from './schedule.js'
import type { SimulatedNode } from './node.js'
import { UUID, World } from './world.js'

const SCHEDULES = Number(process.env['RINGFS_SCHEDULES'] ?? 200)
const CHUNKS_SPREAD = 400
/** On a slow machine fewer, but never fewer than so many. */
const LEAST = 10
const ENOUGH_MS = process.env['RINGFS_SCHEDULES'] === undefined ? 5_000 : Infinity

t.setTimeout(300_000)

t.test('whatever the schedule: nothing is lost, nothing moves in vain, all is whole in the end', async (t) => {
  const first = Number(process.env['RINGFS_SEED'] ?? Math.floor(Math.random() * 1e9))
  const startMs = performance.now()
  const failed: string[] = []
  let played = 0
  for (; played < SCHEDULES && (played < LEAST || performance.now() - startMs < ENOUGH_MS); played++) {
    const { seed, failures } = await play({ seed: first + played })
    if (failures.length > 0) failed.push(`npm run simulate -- --schedules 1 --seed ${seed}: ${failures.join('; ')}`)
  }
  t.strictSame(failed, [], `${played} schedules from seed ${first}`)
})

t.test('a seed decides everything', async (t) => {
  t.strictSame(await play({ seed: 42 }), await play({ seed: 42 }))
})

t.test('on several threads it is the same, in the order of the seeds', async (t) => {
  const outcomes: Outcome[] = []
  await playAll({ seed: 42, schedules: 2, nodes: 4, jobs: 2 }, (outcome) => outcomes.push(outcome))
  t.strictSame(outcomes, [await play({ seed: 42, nodes: 4 }), await play({ seed: 43, nodes: 4 })])
})

t.test('a cluster to which one thing happens moves the least that is possible', async (t) => {
  // Joining, losing one, one that comes back after its chunks were made anew, draining, a reboot, losing two of many at once.
  for (const [index, seed] of [3, 7, 11, 15, 19, 23].entries()) {
    const { kind, moved, least, failures, needless } = await play({ seed })
    t.strictSame(failures, [], `${index}: ${kind}: ${least} copies at the least, ${moved} moved`)
    t.equal(needless, 0)
  }
})

t.test('what one node had is fetched from all others, and by all others', async (t) => {
  const world = new World({ seed: 5, nodes: 8, replicas: 3, zones: 1, clients: 4 })
  world.paceMs = 100
  await world.start()
  await world.scheduler.run(world.scheduler.nowMs + 60_000, () => world.checker.live.size >= CHUNKS_SPREAD)
  for (const client of world.clients) client.isStopped = true
  await settle(world)
  const [lost, ...others] = [...world.nodes.values()]
  const served = new Map(others.map(({ id }) => [id, 0]))
  const held = new Map(others.map(({ id, disk }) => [id, disk.chunks.size]))
  for (const { id, running } of others) {
    const { api } = running ?? {}
    if (api === undefined) throw new Error(`${id} runs`)
    const get = api.get.bind(api)
    api.get = async (...call) => {
      served.set(id, (served.get(id) ?? 0) + 1)
      return await get(...call)
    }
  }
  const copies = lost?.disk.chunks.size ?? 0
  lost?.lose()
  await settle(world)
  t.strictSame(world.checker.faults, [])
  const fetched = others.map(({ id, disk }) => disk.chunks.size - (held.get(id) ?? 0))
  for (const shares of [fetched, [...served.values()]]) {
    t.equal(
      shares.reduce((sum, one) => sum + one, 0),
      copies,
    )
    t.ok(
      Math.min(...shares) > 0 && Math.max(...shares) < (2 * copies) / others.length,
      `${copies}: ${shares.join(' ')}`,
    )
  }
  world.end()
})

t.test('many nodes', async (t) => {
  const { failures } = await play({ seed: 1, nodes: 40 })
  t.strictSame(failures, [])
})

// --- what it found

interface Ground {
  readonly world: World
  readonly chunk: number
  /** The owners of the chunk in the order of the ring, then the others. */
  readonly nodes: readonly SimulatedNode[]
}

/** A cluster that is whole, and one of its chunks. */
async function ground(nodes: number, isAudited = false): Promise<Ground> {
  const world = new World({ seed: 5, nodes, replicas: 3, zones: 1, clients: 1, isAudited })
  world.paceMs = 300
  await world.start()
  await world.scheduler.run(world.scheduler.nowMs + 10_000)
  for (const client of world.clients) client.isStopped = true
  await settle(world)
  const [chunk = 0] = world.checker.live.keys()
  const order = world.ring.preference(chunk)
  return { world, chunk, nodes: order.flatMap((id) => world.nodes.get(id) ?? []) }
}

function nth<T>(values: readonly T[], index: number): T {
  const value = values[index]
  if (value === undefined) throw new Error(`there is no ${index}`)
  return value
}

async function whole(world: World): Promise<string> {
  await world.becomesWhole(300_000, true)
  return world.unwhole(true)
}

t.test('what an owner lacks is queued by the second one that knows, when the first one rests', async (t) => {
  const { world, chunk, nodes } = await ground(4)
  nth(nodes, 2).disk.chunks.delete(chunk)
  // Only the second walks: the first found everything whole before.
  nth(nodes, 1).kill()
  nth(nodes, 1).start()
  t.equal(await whole(world), '')
  t.strictSame(world.checker.faults, [])
  world.end()
})

t.test('what an owner lacks is queued by one that drains, when all owners rest', async (t) => {
  const { world, chunk, nodes } = await ground(4)
  const drained = nth(nodes, 3)
  const copy = nth(nodes, 0).disk.chunks.get(chunk)
  if (copy === undefined) throw new Error('the owner has it')
  drained.disk.chunks.set(chunk, { ...copy })
  nth(nodes, 2).disk.chunks.delete(chunk)
  drained.kill()
  drained.start()
  t.equal(await whole(world), '')
  t.strictSame(world.checker.faults, [])
  world.end()
})

t.test('what a client wrote by a ring that was there for a moment, and which no node has seen, is found', async (t) => {
  const { world, chunk, nodes } = await ground(5)
  const [left, other] = [nth(nodes, 1), nth(nodes, 3)]
  const copy = left.disk.chunks.get(chunk)
  if (copy === undefined) throw new Error('the owner has it')
  world.transition(left.id, 'draining', ['up'])
  other.disk.chunks.set(chunk, { ...copy })
  left.disk.chunks.delete(chunk)
  world.transition(left.id, 'up', ['draining'])
  t.equal(await whole(world), '')
  t.strictSame(world.checker.faults, [])
  world.end()
})

t.test('who is gone gets nothing into its queue any more, whoever does not know yet', async (t) => {
  const { world, chunk, nodes } = await ground(5)
  const gone = nth(nodes, 4)
  gone.lose()
  world.remove(gone.id)
  const args = [gone.id, JSON.stringify({ k: 'remove', c: chunk })]
  t.equal(world.redis.run('queue-add', [world.queueOf(gone.id), world.membersKey], args), 0)
  t.equal(world.redis.queues.length(world.queueOf(gone.id)), 0)
  world.end()
})

t.test('a copy of a chunk that was deleted is not waited for because one of its sources is gone', async (t) => {
  const { world, nodes } = await ground(5)
  const [one, gone] = [nth(nodes, 0), nth(nodes, 4)]
  gone.lose()
  world.remove(gone.id)
  const task = JSON.stringify({ k: 'copy', c: 4_711, r: null, s: [gone.id] })
  world.redis.run('queue-add', [world.queueOf(one.id), world.membersKey], [one.id, task])
  await world.scheduler.run(world.scheduler.nowMs + 120_000)
  t.equal(world.redis.queues.length(world.queueOf(one.id)), 0)
  world.end()
})

t.test('a surplus copy that is kept because that of an owner is bad is given up once that is good', async (t) => {
  const { world, chunk, nodes } = await ground(4)
  const [first, other] = [nth(nodes, 0), nth(nodes, 3)]
  const copy = first.disk.chunks.get(chunk)
  if (copy === undefined) throw new Error('the owner has it')
  other.disk.chunks.set(chunk, { ...copy })
  copy.isBad = true
  world.checker.harm(chunk)
  world.rebalance()
  await world.scheduler.run(world.scheduler.nowMs + 60_000)
  t.ok(other.disk.chunks.has(chunk), 'it may be the last good one that somebody asks for')
  void first.running?.api?.reportBad(UUID, chunk)
  await world.scheduler.run(world.scheduler.nowMs + 1_000)
  t.notOk(first.disk.chunks.get(chunk)?.isBad)
  t.equal(await whole(world), '', 'without a new walk of all')
  world.end()
})

t.test('a copy that vanishes and one that rots, of which nobody says anything, are found and made anew', async (t) => {
  const { world, chunk, nodes } = await ground(4, true)
  nth(nodes, 1).disk.chunks.delete(chunk)
  const rotten = nth(nodes, 0).disk.chunks.get(chunk)
  if (rotten === undefined) throw new Error('the owner has it')
  rotten.isBad = true
  world.checker.harm(chunk)
  t.not(world.unwhole(true), '')
  t.equal(await whole(world), '')
  t.strictSame(world.checker.faults, [])
  world.end()
})

t.test('a node that is no owner by its ring copies nothing for the sake of a hint', async (t) => {
  const { world, chunk, nodes } = await ground(4)
  const other = nth(nodes, 3)
  const task = JSON.stringify({ k: 'copy', c: chunk, r: null, s: [nth(nodes, 0).id], e: 1 })
  world.redis.run('queue-add', [world.queueOf(other.id), world.membersKey], [other.id, task])
  await world.scheduler.run(world.scheduler.nowMs + 30_000)
  t.equal(world.redis.queues.length(world.queueOf(other.id)), 0)
  t.notOk(other.disk.chunks.has(chunk))
  world.end()
})

t.test('a node that drains has not handed over what an owner that is down was never asked for', async (t) => {
  const { world, chunk, nodes } = await ground(4)
  const [drained, witness, down] = [nth(nodes, 0), nth(nodes, 1), nth(nodes, 3)]
  const isDown = (): boolean => world.stateOf(down.id) === 'down'
  const saysAfter = async (ms: number): Promise<boolean> => {
    await world.scheduler.run(world.scheduler.nowMs + ms)
    const view = witness.running?.watcher?.current().view
    // For the next time: only the scheduler lets it be answered.
    void witness.running?.watcher?.refresh()
    return view !== undefined && isHandedOver(view, drained.id)
  }
  world.outAfter(3_600_000)
  down.kill()
  await world.scheduler.run(world.scheduler.nowMs + 20_000, isDown)
  world.transition(drained.id, 'draining', ['up'])
  const isDone = (): boolean => drained.running?.healer?.report().isDone === true
  let [said, looks] = [0, 0]
  // Those that are there have all, and rest.
  for (let seconds = 0; seconds < 200 && looks < 10; seconds++) {
    if (await saysAfter(1_000)) said++
    looks = isDone() ? looks + 1 : 0
  }
  t.equal(looks, 10)
  t.equal(said, 0)
  t.ok(isDown())
  down.start()
  let isSaid = false
  for (let tries = 0; tries < 300 && !isSaid; tries++) isSaid = await saysAfter(200)
  t.ok(isSaid)
  t.ok(down.disk.chunks.has(chunk), 'when it is said the owner has the chunk')
  world.end()
})
