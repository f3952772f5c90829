/**
 * Rounds until the time is up: everybody works (test/torture: random calls on a mount and on a local folder, compared call by call; and a
 * folder that all share) while the faults of the round come and go. Then all faults are lifted, killed mounts are mounted again, and all
 * trees are compared through all mounts. Where copies were destroyed the cluster is made whole before the next round.
 *
 * In the end: all chunks are on their owners, every copy is read and hashed (ringfs fsck --deep), the queues are empty, all trees agree
 * through fresh mounts. What killed mounts left behind is not freed when a master was replaced, too, for it may be data whose metadata
 * that one took along: then `ringfs rebuild` is what an operator runs, and after it nothing may be wrong.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { ClusterView } from '../../src/cluster/contract.js'
import { healProgress } from '../../src/cluster/progress.js'
import { within } from '../helpers/deadline.js'
import { eventually } from '../helpers/ringfs.js'
import { Crew } from '../torture/crew.js'
import { Random } from '../torture/random.js'
import type { Cleanup } from '../torture/stack.js'
import { Disagreement } from '../torture/tail.js'
import { inflict } from './faults.js'
import { redisIsWhole } from './redis-faults.js'
import { faultText, planRound, plannedText, type Planned, type RoundPlan, type Shape } from './schedule.js'
import { Stage } from './stage.js'

const WORKERS_A_MOUNT = 2
/** More than anybody does in a round. */
const OPERATIONS = 1_000_000
/** Machines on which this runs are busy, and every mount asks anew after a fault. */
const COHERENT_WITHIN_MS = 60_000
const WORK_ENDS_MS = 240_000
const RELEASE_MS = 120_000
const UP_MS = 120_000
const WHOLE_MS = 300_000

export interface ChaosOptions {
  readonly seed: number
  /** Rounds begin until so much time has gone by, or so many are done. */
  readonly minutes: number
  readonly rounds?: number
  readonly nodes: number
  readonly mounts: number
  /** Kinds of faults; default: all. */
  readonly only?: readonly string[]
  readonly folder: string
  readonly stop: AbortSignal
  readonly onEvent: (event: ChaosEvent) => void
  readonly onOperation: (line: string) => void
}

export interface ChaosEvent {
  readonly round: number
  readonly what: string
}

export interface ChaosCounts {
  rounds: number
  operations: number
  /** By kind. */
  readonly faults: Record<string, number>
  /** Calls that failed while more was done than the cluster bears. */
  excused: number
  /** What fsck found in the end. */
  chunks: number
  copies: number
}

export class ChaosRun {
  readonly #options: ChaosOptions
  readonly #stage: Stage
  readonly #crew: Crew
  readonly #shape: Shape
  readonly counts: ChaosCounts = { rounds: 0, operations: 0, faults: {}, excused: 0, chunks: 0, copies: 0 }

  private constructor(options: ChaosOptions, stage: Stage, crew: Crew) {
    this.#options = options
    this.#stage = stage
    this.#crew = crew
    this.#shape = shapeOf(options)
  }

  static async start(options: ChaosOptions, cleanup: Cleanup): Promise<ChaosRun> {
    options.onEvent({ round: 0, what: 'starting' })
    const stage = await Stage.set(options, cleanup)
    const crew = await Crew.gather(
      {
        ...{ random: new Random(options.seed), drivers: ['kernel'], folder: options.folder },
        ...{ workers: WORKERS_A_MOUNT * options.mounts, coherentWithinMs: COHERENT_WITHIN_MS },
        onOperation: options.onOperation,
      },
      stage.mounts,
      cleanup,
    )
    return new ChaosRun(options, stage, crew)
  }

  /** Throws Disagreement when ringfs is wrong. */
  async play(): Promise<void> {
    const { minutes, rounds = Infinity, stop } = this.#options
    const endMs = Date.now() + minutes * 60_000
    await this.#crew.prepare()
    while (Date.now() < endMs && this.counts.rounds < rounds && !stop.aborted) {
      await this.#round(planOf(this.#options, this.counts.rounds))
      this.counts.rounds++
    }
    await this.#ending()
  }

  async #round(plan: RoundPlan): Promise<void> {
    const { rounds } = this.counts
    this.#tell(plan.isStrict ? 'working; no call may fail' : 'working')
    await this.#crew.attach(rounds)
    for (const mount of this.#stage.mounts) mount.isExcused = !plan.isStrict
    const random = new Random(this.#options.seed).fork(10_000 + rounds)
    const startMs = Date.now()
    const over = { isSo: false }
    const work = this.#crew.work({ operations: OPERATIONS, mayCrash: true, isOver: () => over.isSo })
    const faults = Promise.all(plan.faults.map((planned) => this.#fault(planned, startMs, random)))
    // Whichever fails first: the others end with the run.
    await Promise.race([work.then(() => faults), faults.then(() => this.#until(startMs + plan.endMs))])
    over.isSo = true
    await within(WORK_ENDS_MS, Promise.all([work, faults]), 'the end of the calls under way')
    await this.#settle()
    await this.#compare('after the work')
    await this.#crew.detach()
    if (plan.isDamaging) await this.#mend()
  }

  async #until(ms: number): Promise<void> {
    await sleep(Math.max(0, ms - Date.now()))
  }

  async #fault({ fault, atMs, forMs }: Planned, startMs: number, random: Random): Promise<void> {
    await this.#until(startMs + atMs)
    this.#tell(faultText(fault))
    this.counts.faults[fault.kind] = (this.counts.faults[fault.kind] ?? 0) + 1
    const lift = await inflict(this.#stage, fault, random)
    // A killed mount stays so until the others have stopped: its workers know what they did not finish.
    if (fault.kind === 'kill-mount') {
      this.#killed.push(lift)
      return
    }
    await sleep(forMs)
    await lift()
    this.#tell(`over: ${faultText(fault)}`)
  }

  readonly #killed: (() => Promise<void>)[] = []

  /** No fault is left, and everybody is there again. */
  async #settle(): Promise<void> {
    this.#tell('settling')
    await redisIsWhole(this.#stage.redis)
    await this.#nodesAreUp()
    for (const mountAgain of this.#killed.splice(0)) await mountAgain()
    await within(RELEASE_MS, this.#crew.release(), 'closing what is open')
    this.counts.operations = this.#crew.operations()
    this.counts.excused = this.#stage.mounts.reduce((sum, { excused }) => sum + excused, 0)
    for (const mount of this.#stage.mounts) mount.isExcused = false
  }

  async #nodesAreUp(): Promise<void> {
    await eventually(
      'all nodes are up',
      async () => (await this.#look()).members.filter(({ state }) => state === 'up').length,
      (up) => up >= this.#shape.nodes,
      UP_MS,
    )
  }

  async #compare(when: string): Promise<void> {
    this.#tell('comparing')
    await this.#crew.compare(when)
    await this.#crew.leave()
  }

  /** All copies are read, and those that rotted replaced; then every chunk is on its owners. */
  async #mend(): Promise<void> {
    await this.#whole()
    this.#tell('scrubbing')
    const { code, stderr, stdout } = await this.#stage.ringfs('scrub', '--now', '--limit', '1G')
    if (code !== 0) throw new Disagreement(`ringfs scrub --now: exit code ${code}\n${stdout}${stderr}`)
    await this.#whole()
  }

  async #whole(): Promise<void> {
    this.#tell('healing')
    let told = ''
    await eventually(
      'all chunks are on their owners, and the queues are empty',
      async () => {
        const { isDone, walked, waiting, unfinished } = healProgress(await this.#look())
        const text = `healing: ${Math.round(walked * 100)} % walked, ${waiting} copies to make`
        if (text !== told) this.#tell((told = text))
        return { isDone, unfinished }
      },
      ({ isDone }) => isDone,
      WHOLE_MS,
    )
  }

  #look(): Promise<ClusterView> {
    return this.#stage.volume.watcher.refresh()
  }

  async #ending(): Promise<void> {
    await redisIsWhole(this.#stage.redis)
    await this.#whole()
    const isHeldBack = await this.#fsck()
    this.#tell('mounting again')
    for (const mount of this.#stage.mounts) {
      await mount.stop()
      await mount.start('kernel')
    }
    await this.#crew.attach(this.counts.rounds)
    await this.#compare('in the end')
    await this.#crew.detach()
    for (const mount of this.#stage.mounts) await mount.stop()
    if (isHeldBack) await this.#rebuild()
  }

  /** true: nothing is wrong but that chunks of no file wait for a rebuild. */
  async #fsck(): Promise<boolean> {
    this.#tell('fsck')
    const { code, stdout, stderr } = await this.#stage.ringfs('fsck', '--deep', '--json')
    const { findings, chunks, copies } = FSCK.parse(JSON.parse(stdout))
    Object.assign(this.counts, { chunks, copies })
    if (code === 0) return false
    const isHeldBack = findings.every(({ kind, severity }) => kind === 'orphans' || severity === 'note')
    if (!isHeldBack || this.counts.faults['kill-mount'] === undefined)
      throw new Disagreement(`ringfs fsck --deep: exit code ${code}\n${stdout}${stderr}`)
    return true
  }

  async #rebuild(): Promise<void> {
    this.#tell('rebuilding')
    // Those of killed mounts count as clients for a while.
    const { code, stdout, stderr } = await this.#stage.ringfs('rebuild', '--deep', '--min-age', '0.01', '--force')
    if (code !== 0) throw new Disagreement(`ringfs rebuild: exit code ${code}\n${stdout}${stderr}`)
    if (await this.#fsck()) throw new Disagreement('chunks of no file are held back after a rebuild')
  }

  #tell(what: string): void {
    this.#options.onEvent({ round: this.counts.rounds + 1, what })
  }
}

/** `ringfs fsck --json`. */
const FSCK = z.object({
  chunks: z.number(),
  copies: z.number(),
  findings: z.array(z.object({ kind: z.string(), severity: z.string() })),
})

/** What a schedule is made from, beside the seed. */
type Scale = Pick<ChaosOptions, 'nodes' | 'mounts' | 'only'>

function shapeOf({ nodes, mounts, only }: Scale): Shape {
  return { nodes, mounts, shards: 3, ...(only && { only }) }
}

/** Of round `round`, counted from 0: from nothing but the seed, and how many there are. */
export function planOf(options: Scale & { readonly seed: number }, round: number): RoundPlan {
  return planRound(new Random(options.seed).fork(1_000 + round), shapeOf(options))
}

export function scheduleText(options: Scale & { readonly seed: number }, rounds: number): string {
  return Array.from({ length: rounds }, (_, round) => {
    const { faults } = planOf(options, round)
    return `round ${round + 1}\n${faults.map((planned) => `  ${plannedText(planned)}\n`).join('')}`
  }).join('')
}
