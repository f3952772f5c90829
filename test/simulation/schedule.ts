/**
 * A schedule: a world, what happens to it, and what is said about it afterwards. All of it follows from the seed.
 *
 * In a storm anything happens at any time, faster than healing ends. In a calm schedule one thing happens to a cluster that is whole:
 * then what is moved is counted against the least that could be.
 */
import { Faults, reportAllBad, sweepRotten } from './faults.js'
import { World } from './world.js'

export interface ScheduleOptions {
  readonly seed: number
  /** At the start. Default: from the seed, 3 to 19, mostly below 8. */
  readonly nodes?: number | undefined
}

export interface Outcome {
  readonly seed: number
  readonly kind: string
  readonly nodes: number
  readonly chunks: number
  readonly simulatedS: number
  readonly events: number
  readonly faults: ReadonlyMap<string, number>
  readonly moved: number
  readonly movedBytes: number
  /** Of those, by nodes that were no owners lately, or had it. */
  readonly needless: number
  /** In a calm schedule: the least that had to be moved. */
  readonly least: number | null
  readonly reads: number
  readonly failedReads: number
  readonly queued: number
  readonly failures: readonly string[]
}

const WHOLE_MS = 900_000
/** A client's last call is over by then. */
const CALL_MS = 60_000
/** By then orphans are freed, if one that is in the way is left. */
const SWEEP_MS = 300_000
const LOOK_MS = 1_000
const QUIET_LOOKS = 3
const CALM_KINDS = ['join', 'loss', 'return', 'drain', 'reboot', 'two lost'] as const
type Calm = (typeof CALM_KINDS)[number]

export async function play({ seed, nodes }: ScheduleOptions): Promise<Outcome> {
  const isCalm = seed % 4 === 3
  // One storm in three.
  const isAudited = seed % 4 === 2
  const replicas = seed % 5 === 0 ? 2 : 3
  // Mostly few: what goes wrong with many goes wrong with few, and sooner.
  const more = Math.imul(seed, 0x9e3779b1) >>> (seed % 8 === 0 ? 28 : 30)
  const count = nodes ?? replicas + 1 + more
  const zones = seed % 3 === 0 ? 3 : 1
  const world = new World({ seed, nodes: count, replicas, zones, clients: 2, wrongMs: 4 * 3_600_000, isAudited })
  const faults = new Faults(world)
  const kind = isCalm ? (CALM_KINDS[(seed >>> 2) % CALM_KINDS.length] ?? 'join') : 'storm'
  let least: number | null = null
  try {
    await world.start()
    if (kind === 'storm') await storm(world, faults)
    else least = await calm(world, kind)
  } catch (error) {
    world.checker.fault(`the schedule ended with ${error instanceof Error ? String(error.stack) : String(error)}`)
  }
  world.end()
  return outcomeOf(world, kind, faults.counts, least)
}

function outcomeOf(world: World, kind: string, faults: ReadonlyMap<string, number>, least: number | null): Outcome {
  const { checker, scheduler, seed, nodes } = world
  const { live, moved, movedBytes, needless, reads, failedReads, queued } = checker
  const figures = { moved, movedBytes, needless, reads, failedReads, queued, least }
  return {
    ...{ seed, kind, nodes: nodes.size, chunks: live.size, simulatedS: scheduler.nowMs / 1000 },
    ...{ events: scheduler.events, faults, ...figures, failures: checker.faults },
  }
}

async function storm(world: World, faults: Faults): Promise<void> {
  const { random, scheduler } = world
  const steps = 6 + Math.floor(random() * 10)
  // In some of them healing may end between two faults: then surplus is given up, at once, while things go on happening.
  const isSlow = world.seed % 4 === 1
  if (isSlow) world.keepSurplus(random() * 500)
  for (let step = 0; step < steps; step++) {
    faults.inject()
    if (isSlow) await passUntilQuiet(world, random() * 25_000)
    else await scheduler.run(scheduler.nowMs + random() * 6_000)
  }
  for (const client of world.clients) client.isStopped = true
  faults.end()
  await settle(world)
}

/** So long at the most: where all is whole for a while nothing would happen but heartbeats. */
async function passUntilQuiet(world: World, mostMs: number): Promise<void> {
  const { scheduler } = world
  const endMs = scheduler.nowMs + mostMs
  for (let quiet = 0; scheduler.nowMs < endMs && quiet < QUIET_LOOKS;) {
    await scheduler.run(Math.min(endMs, scheduler.nowMs + LOOK_MS))
    quiet = world.unwhole(true) === '' ? quiet + 1 : 0
  }
}

/** Everybody is left alone; it must become whole by itself. */
export async function settle(world: World): Promise<void> {
  await world.scheduler.run(world.scheduler.nowMs + CALL_MS, () => world.clients.every((client) => !client.isBusy))
  await world.scheduler.run(world.scheduler.nowMs + 5_000)
  if (!world.isAudited) reportAllBad(world)
  if (!(await world.becomesWhole(SWEEP_MS, false))) sweepRotten(world)
  if (!(await world.becomesWhole(WHOLE_MS, false))) world.checker.fault(`not whole in the end: ${world.unwhole(false)}`)
  // What a stand-in got after its walk is met by the next one.
  if (world.surplus > 0) world.rebalance()
  if (!(await world.becomesWhole(WHOLE_MS, true))) world.checker.fault(`surplus in the end: ${world.unwhole(true)}`)
  for (const entry of world.checker.lostEntries()) world.checker.fault(`an entry is lost: ${entry}`)
}

async function calm(world: World, kind: Calm): Promise<number> {
  const { scheduler, checker } = world
  world.paceMs = 300
  await scheduler.run(scheduler.nowMs + 10_000)
  for (const client of world.clients) client.isStopped = true
  await settle(world)
  const before = checker.moved
  const held = new Map([...world.nodes.values()].map((node) => [node.id, new Set(node.disk.chunks.keys())]))
  const madeAnew = await happen(world, kind, () => lacking(world, held))
  await settle(world)
  const least = madeAnew + lacking(world, held)
  const moved = checker.moved - before
  if (moved !== least) checker.fault(`${kind}: ${moved} copies were moved, and the least is ${least}`)
  return least
}

/** Copies that owners by the ring of now did not have then. */
function lacking(world: World, held: ReadonlyMap<string, ReadonlySet<number>>): number {
  let count = 0
  for (const id of world.checker.live.keys()) {
    const owners = world.ring.owners(id, world.replicas)
    count += owners.filter((owner) => held.get(owner)?.has(id) !== true).length
  }
  return count
}

/** Answers how many copies were needed on the way, though they are not in the end. */
async function happen(world: World, kind: Calm, needed: () => number): Promise<number> {
  const { scheduler, replicas } = world
  const [one, two] = [...world.nodes.values()]
  if (one === undefined || two === undefined) return 0
  const pass = (ms: number): Promise<void> => scheduler.run(scheduler.nowMs + ms)
  switch (kind) {
    case 'join':
      world.addNode().start()
      return 0
    case 'loss':
      one.lose()
      await pass(60_000)
      world.remove(one.id)
      return 0
    case 'two lost': {
      // All is whole: R - 1 may go at once.
      const lost = replicas > 2 && world.nodes.size > replicas + 1 ? [one, two] : [one]
      for (const node of lost) node.lose()
      await pass(60_000)
      for (const node of lost) world.remove(node.id)
      return 0
    }
    case 'return': {
      one.kill()
      await pass(150_000)
      const madeAnew = needed()
      one.start()
      return madeAnew
    }
    case 'reboot':
      one.kill()
      await pass(12_000)
      one.start()
      return 0
    case 'drain':
      world.transition(one.id, 'draining', ['up'])
      return 0
  }
}
