/**
 * A run: rounds until the time is up. In each, all workers work at once, half of them on each mount; a mount may be killed
 * in the middle, Redis too. Then all trees are compared through the mount that made them, and through the other one; and
 * again after a mount was unmounted and mounted, perhaps with another driver.
 *
 * Everything that is decided comes from the seed. What the processes do at the same time does not: a failure that needs a
 * certain moment may take several tries with the same seed.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DriverName } from '../../src/fuse/driver.js'
import { Agent, compileAgent } from './agent.js'
import { type Feature, featuresOf, probeOracle } from './features.js'
import { Random } from './random.js'
import { SharedArea } from './shared-area.js'
import { type Cleanup, type Stack, type TortureMount, startStack } from './stack.js'
import { Disagreement } from './tail.js'
import { Worker } from './worker.js'

const OPERATIONS_MIN = 100
const OPERATIONS_MAX = 400
const KILL_DELAY_MAX_MS = 15
const REDIS_OUTAGE_MAX_MS = 1500
/** Until what one mount did is seen through the other: pushed, so at once, but the machine may be busy. */
const COHERENT_WITHIN_MS = 20_000
const COHERENT_POLL_MS = 250

export interface RunOptions {
  readonly seed: number
  readonly minutes: number
  readonly drivers: readonly DriverName[]
  readonly workers: number
  readonly crashes: boolean
  /** Empty: everything local is in there. */
  readonly folder: string
  /** Fires to end after the round under way. */
  readonly stop: AbortSignal
  readonly onProgress: (progress: Progress) => void
  /** Each operation, for a log. */
  readonly onOperation: (line: string) => void
}

export interface Progress {
  readonly rounds: number
  readonly operations: number
  readonly crashes: number
  readonly remounts: number
  readonly outages: number
  readonly doing: string
}

type Ending = 'stay' | 'remount' | 'crash'

interface RoundPlan {
  readonly operations: number
  readonly endings: readonly Ending[]
  readonly nextDrivers: readonly DriverName[]
  /** Share of the operations after which a mount is killed. */
  readonly killAt: number
  readonly killDelayMs: number
  readonly outageMs: number
}

export class Run {
  readonly #options: RunOptions
  readonly #stack: Stack
  readonly #workers: readonly Worker[]
  readonly #shared: SharedArea
  readonly #random: Random
  readonly #oracleHas: ReadonlySet<Feature>
  readonly #viewer: Agent
  #counts = { rounds: 0, operations: 0, crashes: 0, remounts: 0, outages: 0 }

  private constructor(
    options: RunOptions,
    parts: { stack: Stack; workers: readonly Worker[]; shared: SharedArea; viewer: Agent; has: ReadonlySet<Feature> },
  ) {
    this.#options = options
    this.#stack = parts.stack
    this.#workers = parts.workers
    this.#shared = parts.shared
    this.#viewer = parts.viewer
    this.#oracleHas = parts.has
    this.#random = new Random(options.seed)
  }

  static async start(options: RunOptions, cleanup: Cleanup): Promise<Run> {
    const [oracle, scratch] = [join(options.folder, 'oracle'), join(options.folder, 'scratch')]
    await Promise.all([mkdir(oracle, { mode: 0o755 }), mkdir(scratch)])
    const program = await compileAgent(options.folder)
    const viewer = new Agent(program)
    cleanup.teardown(() => viewer.end())
    await mkdir(join(options.folder, 'probe'))
    const has = await probeOracle(viewer, join(options.folder, 'probe'))
    const stack = await startStack(cleanup, options.folder, 2)
    const random = new Random(options.seed)
    const workers = Array.from({ length: options.workers }, (_, index) => {
      const { onOperation } = options
      return new Worker({ program, name: `w${index}`, oracle, scratch, random: random.fork(100 + index), onOperation })
    })
    const shared = new SharedArea(
      program,
      random.fork(50),
      !options.drivers.includes('fuse-native'),
      options.onOperation,
    )
    cleanup.teardown(() => Promise.all([...workers.map((worker) => worker.detach()), shared.detach()]))
    return new Run(options, { stack, workers, shared, viewer, has })
  }

  get counts(): Omit<Progress, 'doing'> {
    return this.#counts
  }

  /** What the mounts' processes wrote, as far as it is kept. */
  get output(): string {
    return this.#mounts.map((mount) => mount.output).join('')
  }

  /** Throws Disagreement when ringfs is wrong. */
  async torture(): Promise<void> {
    const { minutes, stop } = this.#options
    const endMs = Date.now() + minutes * 60_000
    await Promise.all(this.#mounts.map((mount) => mount.start(this.#random.pick(this.#options.drivers))))
    for (const [index, worker] of this.#workers.entries()) await worker.prepare(this.#mountOf(index, 0))
    await this.#shared.prepare(this.#mounts)
    while (Date.now() < endMs && !stop.aborted) {
      const plan = this.#plan()
      await this.#round(plan)
      this.#counts.rounds++
    }
    this.#tell('unmounting')
    await Promise.all([...this.#workers.map((worker) => worker.detach()), this.#shared.detach()])
    await this.#viewer.must(['cd', '/'])
    await Promise.all(this.#mounts.map((mount) => mount.stop()))
  }

  get #mounts(): readonly TortureMount[] {
    return this.#stack.mounts
  }

  #mountOf(worker: number, round: number): TortureMount {
    const mount = this.#mounts[(worker + round) % this.#mounts.length]
    if (mount === undefined) throw new Error('no mount')
    return mount
  }

  #plan(): RoundPlan {
    const random = this.#random
    const endings: readonly Ending[] = this.#options.crashes
      ? ['stay', 'remount', 'crash', 'crash', 'crash']
      : ['stay', 'remount', 'remount']
    return {
      operations: random.between(OPERATIONS_MIN, OPERATIONS_MAX),
      endings: this.#mounts.map(() => random.pick(endings)),
      nextDrivers: this.#mounts.map(() => random.pick(this.#options.drivers)),
      killAt: random.between(5, 95) / 100,
      killDelayMs: random.below(KILL_DELAY_MAX_MS),
      outageMs: this.#options.crashes && random.chance(0.2) ? random.between(50, REDIS_OUTAGE_MAX_MS) : 0,
    }
  }

  async #round(plan: RoundPlan): Promise<void> {
    const { rounds } = this.#counts
    this.#tell('working')
    for (const [index, worker] of this.#workers.entries()) await worker.attach(this.#mountOf(index, rounds))
    await this.#shared.attach(this.#mounts)
    const done = { all: false }
    const working = Promise.all([
      ...this.#workers.map((worker, index) => this.#work(worker, index, plan)),
      this.#shared.run(plan.operations),
    ])
    const results = await Promise.allSettled([
      working.finally(() => (done.all = true)),
      ...this.#mounts.map((mount, index) => this.#killer(mount, index, plan, done)),
      this.#outage(plan, done),
    ])
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    await this.#restart('crash', plan)
    await this.#compare('after the work')
    await this.#viewer.must(['cd', '/'])
    await Promise.all([...this.#workers.map((worker) => worker.detach()), this.#shared.detach()])
    if (await this.#restart('remount', plan)) await this.#compare('after a remount')
    await this.#viewer.must(['cd', '/'])
  }

  async #work(worker: Worker, index: number, { operations, endings }: RoundPlan): Promise<void> {
    const mount = this.#mountOf(index, this.#counts.rounds)
    const features = featuresOf(mount.driver, this.#options.drivers, this.#oracleHas)
    const before = worker.operations
    const finished = await worker.run(operations, features, endings.includes('crash'))
    this.#counts.operations += worker.operations - before
    if (finished) await worker.settle()
  }

  /** Kills a mount when its workers have done so much of their work. */
  async #killer(mount: TortureMount, index: number, plan: RoundPlan, done: { readonly all: boolean }): Promise<void> {
    if (plan.endings[index] !== 'crash') return
    const workers = this.#workers.filter((_, at) => this.#mountOf(at, this.#counts.rounds) === mount)
    const count = (): number => workers.reduce((sum, worker) => sum + worker.operations, 0)
    const target = count() + plan.operations * workers.length * plan.killAt
    while (count() < target && !done.all) await sleep(1)
    await sleep(plan.killDelayMs)
    await mount.kill()
    this.#counts.crashes++
  }

  /** Redis dies with everything in its memory, and comes back. Nobody may notice but by waiting. */
  async #outage({ outageMs, killAt }: RoundPlan, done: { readonly all: boolean }): Promise<void> {
    if (outageMs === 0) return
    await sleep(killAt * REDIS_OUTAGE_MAX_MS)
    if (done.all) return
    await this.#stack.redis.kill(0)
    await sleep(outageMs)
    await this.#stack.redis.restart(0)
    this.#counts.outages++
  }

  async #restart(ending: Ending, { endings, nextDrivers }: RoundPlan): Promise<boolean> {
    const due = [...this.#mounts.entries()].filter(([index]) => endings[index] === ending)
    if (due.length === 0) return false
    this.#tell(ending === 'crash' ? 'mounting after a crash' : 'mounting again')
    for (const [index, mount] of due) {
      if (ending === 'remount') {
        await mount.stop()
        this.#counts.remounts++
      }
      // The crash oracle takes the driver that was killed for the one that made the state.
      await mount.start(ending === 'crash' ? mount.driver : (nextDrivers[index] ?? mount.driver))
    }
    return true
  }

  /** Through the mount that each worker had, and then through every other. */
  async #compare(when: string): Promise<void> {
    this.#tell('comparing')
    const { rounds } = this.#counts
    for (const [index, worker] of this.#workers.entries()) {
      const own = this.#mountOf(index, rounds)
      await worker.verify(this.#viewer, own, when)
      for (const other of this.#mounts.filter((mount) => mount !== own)) {
        await this.#eventually(() => worker.verify(this.#viewer, other, `${when}, through the other mount`))
      }
    }
    for (const mount of this.#mounts) await this.#eventually(() => this.#shared.verify(this.#viewer, mount))
  }

  async #eventually(look: () => Promise<void>): Promise<void> {
    for (const deadline = Date.now() + COHERENT_WITHIN_MS; ;) {
      try {
        await look()
        return
      } catch (error) {
        if (!(error instanceof Disagreement) || Date.now() > deadline) throw error
        await sleep(COHERENT_POLL_MS)
      }
    }
  }

  #tell(doing: string): void {
    this.#options.onProgress({ ...this.#counts, doing })
  }
}
