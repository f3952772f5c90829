/** Who works on the mounts, half of the workers on each of two (a third of three, …) and another one in each round, and compares what came of it. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DriverName } from '../../src/fuse/driver.js'
import { Agent, compileAgent } from './agent.js'
import { type Feature, featuresOf, probeOracle } from './features.js'
import type { Random } from './random.js'
import { SharedArea } from './shared-area.js'
import type { Cleanup } from './stack.js'
import { Disagreement } from './tail.js'
import { type MountView, Worker } from './worker.js'

/** Until what one mount did is seen through the other: pushed, so at once, but the machine may be busy. */
const COHERENT_WITHIN_MS = 20_000
const COHERENT_POLL_MS = 250

export interface CrewOptions {
  readonly random: Random
  readonly drivers: readonly DriverName[]
  readonly workers: number
  /** Everything local is in there. */
  readonly folder: string
  readonly coherentWithinMs?: number
  /** Each operation, for a log. */
  readonly onOperation: (line: string) => void
}

/** One round of work. */
export interface Shift {
  /** Of each worker. */
  readonly operations: number
  /** Mounts may be killed, or calls fail. */
  readonly mayCrash: boolean
  /** Whoever asks stops when it is so. Default: never. */
  readonly isOver?: () => boolean
}

export class Crew {
  readonly mounts: readonly MountView[]
  readonly #options: CrewOptions
  readonly #workers: readonly Worker[]
  readonly #shared: SharedArea
  readonly #viewer: Agent
  readonly #oracleHas: ReadonlySet<Feature>
  #round = 0

  private constructor(
    options: CrewOptions,
    mounts: readonly MountView[],
    parts: { workers: readonly Worker[]; shared: SharedArea; viewer: Agent; has: ReadonlySet<Feature> },
  ) {
    this.#options = options
    this.mounts = mounts
    this.#workers = parts.workers
    this.#shared = parts.shared
    this.#viewer = parts.viewer
    this.#oracleHas = parts.has
  }

  static async gather(options: CrewOptions, mounts: readonly MountView[], cleanup: Cleanup): Promise<Crew> {
    const { folder, random, onOperation } = options
    const [oracle, scratch] = [join(folder, 'oracle'), join(folder, 'scratch')]
    await Promise.all([mkdir(oracle, { mode: 0o755 }), mkdir(scratch)])
    const program = await compileAgent()
    const viewer = new Agent(program)
    cleanup.teardown(() => viewer.end())
    await mkdir(join(folder, 'probe'))
    const has = await probeOracle(viewer, join(folder, 'probe'))
    const workers = Array.from({ length: options.workers }, (_, index) => {
      return new Worker({ program, name: `w${index}`, oracle, scratch, random: random.fork(100 + index), onOperation })
    })
    const shared = new SharedArea(program, random.fork(50), !options.drivers.includes('fuse-native'), onOperation)
    cleanup.teardown(() => Promise.all([...workers.map((worker) => worker.detach()), shared.detach()]))
    return new Crew(options, mounts, { workers, shared, viewer, has })
  }

  /** Once, when all is mounted. */
  async prepare(): Promise<void> {
    for (const [index, worker] of this.#workers.entries()) await worker.prepare(this.#mountOf(index))
    await this.#shared.prepare(this.mounts)
  }

  async attach(round: number): Promise<void> {
    this.#round = round
    for (const [index, worker] of this.#workers.entries()) await worker.attach(this.#mountOf(index))
    await this.#shared.attach(this.mounts)
  }

  async detach(): Promise<void> {
    await Promise.all([...this.#workers.map((worker) => worker.detach()), this.#shared.detach()])
  }

  /** Ends those that work on the mounts, so that what they have open is closed. The trees can still be compared. */
  async release(): Promise<void> {
    await Promise.all([...this.#workers.map((worker) => worker.release()), this.#shared.detach()])
  }

  /** Nothing of it is in a mount, which may be taken off. */
  async leave(): Promise<void> {
    await this.#viewer.must(['cd', '/'])
  }

  /** Of all workers, or those on one mount, in all rounds. */
  operations(mount?: MountView): number {
    const those = this.#workers.filter((_, at) => mount === undefined || this.#mountOf(at) === mount)
    return those.reduce((sum, worker) => sum + worker.operations, 0)
  }

  workersOn(mount: MountView): number {
    return this.#workers.filter((_, at) => this.#mountOf(at) === mount).length
  }

  async work(shift: Shift): Promise<void> {
    await Promise.all([
      ...this.#workers.map((worker, index) => this.#workOf(worker, index, shift)),
      this.#shared.run(shift.operations, shift.isOver),
    ])
  }

  /** Through the mount that each worker had, and then through every other. */
  async compare(when: string): Promise<void> {
    for (const [index, worker] of this.#workers.entries()) {
      const own = this.#mountOf(index)
      await worker.verify(this.#viewer, own, when)
      for (const other of this.mounts.filter((mount) => mount !== own)) {
        await this.#eventually(() => worker.verify(this.#viewer, other, `${when}, through the other mount`))
      }
    }
    for (const mount of this.mounts) await this.#eventually(() => this.#shared.verify(this.#viewer, mount))
  }

  async #workOf(worker: Worker, index: number, { operations, mayCrash, isOver }: Shift): Promise<void> {
    const features = featuresOf(this.#mountOf(index).driver, this.#options.drivers, this.#oracleHas)
    const finished = await worker.run(operations, features, mayCrash, isOver)
    if (finished) await worker.settle()
  }

  #mountOf(worker: number): MountView {
    const mount = this.mounts[(worker + this.#round) % this.mounts.length]
    if (mount === undefined) throw new Error('no mount')
    return mount
  }

  async #eventually(look: () => Promise<void>): Promise<void> {
    for (const deadline = Date.now() + (this.#options.coherentWithinMs ?? COHERENT_WITHIN_MS); ;) {
      try {
        await look()
        return
      } catch (error) {
        if (!(error instanceof Disagreement) || Date.now() > deadline) throw error
        await sleep(COHERENT_POLL_MS)
      }
    }
  }
}
