/**
 * A run: rounds until the time is up. In each, all workers work at once, half of them on each mount; a mount may be killed
 * in the middle, Redis too. Then all trees are compared through the mount that made them, and through the other one; and
 * again after a mount was unmounted and mounted, perhaps with another driver.
 *
 * Everything that is decided comes from the seed. What the processes do at the same time does not: a failure that needs a
 * certain moment may take several tries with the same seed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DriverName } from '../../src/fuse/driver.js'
import { Crew } from './crew.js'
import { Random } from './random.js'
import { type Cleanup, type Stack, type TortureMount, startStack } from './stack.js'

const OPERATIONS_MIN = 100
const OPERATIONS_MAX = 400
const KILL_DELAY_MAX_MS = 15
const REDIS_OUTAGE_MAX_MS = 1500

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
  readonly #crew: Crew
  readonly #random: Random
  #counts = { rounds: 0, operations: 0, crashes: 0, remounts: 0, outages: 0 }

  private constructor(options: RunOptions, stack: Stack, crew: Crew) {
    this.#options = options
    this.#stack = stack
    this.#crew = crew
    this.#random = new Random(options.seed)
  }

  static async start(options: RunOptions, cleanup: Cleanup): Promise<Run> {
    const stack = await startStack(cleanup, options.folder, 2)
    const crew = await Crew.gather({ ...options, random: new Random(options.seed) }, stack.mounts, cleanup)
    return new Run(options, stack, crew)
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
    await Promise.all(this.#mounts.map((mount) => mount.start(this.#random.pick(this.#options.drivers))))
    await this.#crew.prepare()
    // Of the time in which it is tortured: on a slow machine the start takes long, and a run has a round at least.
    const endMs = Date.now() + minutes * 60_000
    while (!stop.aborted && (this.#counts.rounds === 0 || Date.now() < endMs)) {
      const plan = this.#plan()
      await this.#round(plan)
      this.#counts.rounds++
    }
    this.#tell('unmounting')
    await this.#crew.detach()
    await this.#crew.leave()
    await Promise.all(this.#mounts.map((mount) => mount.stop()))
  }

  get #mounts(): readonly TortureMount[] {
    return this.#stack.mounts
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
    this.#tell('working')
    await this.#crew.attach(this.#counts.rounds)
    const done = { all: false }
    const mayCrash = plan.endings.includes('crash')
    const working = this.#crew.work({ operations: plan.operations, mayCrash })
    const results = await Promise.allSettled([
      working.finally(() => (done.all = true)),
      ...this.#mounts.map((mount, index) => this.#killer(mount, index, plan, done)),
      this.#outage(plan, done),
    ])
    this.#counts.operations = this.#crew.operations()
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    await this.#restart('crash', plan)
    await this.#compare('after the work')
    await this.#crew.detach()
    if (await this.#restart('remount', plan)) await this.#compare('after a remount')
  }

  /** Kills a mount when its workers have done so much of their work. */
  async #killer(mount: TortureMount, index: number, plan: RoundPlan, done: { readonly all: boolean }): Promise<void> {
    if (plan.endings[index] !== 'crash') return
    const count = (): number => this.#crew.operations(mount)
    const target = count() + plan.operations * this.#crew.workersOn(mount) * plan.killAt
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

  async #compare(when: string): Promise<void> {
    this.#tell('comparing')
    await this.#crew.compare(when)
    await this.#crew.leave()
  }

  #tell(doing: string): void {
    this.#options.onProgress({ ...this.#counts, doing })
  }
}
