/**
 * Schedules on several threads. Which thread plays a seed decides nothing; what is answered comes in the order of the seeds. A thread
 * that ends in the middle of a schedule has found something, too: it is told with its seed, and the others are played all the same.
 */
import { Worker } from 'node:worker_threads'
import { messageOf } from '../../src/base/errors.js'
import { play, type Outcome } from './schedule.js'

export interface Seeds {
  readonly seed: number
  readonly schedules: number
  readonly nodes: number | undefined
  /** Threads at once. A single schedule is played on this one. */
  readonly jobs: number
}

/** What a thread is asked: it answers the outcome. */
export interface Asked {
  readonly seed: number
  readonly nodes: number | undefined
}

/** Given to a thread in advance, so that it never waits for this one. */
const AHEAD = 2

/** `onOutcome`: of one seed after the other. Resolves when all were told. */
export async function playAll(seeds: Seeds, onOutcome: (outcome: Outcome) => void): Promise<void> {
  const { seed, schedules, nodes, jobs } = seeds
  if (schedules === 1) onOutcome(await play({ seed, nodes }))
  else await new Players(seeds, onOutcome).run(Math.min(jobs, schedules))
}

class Players {
  readonly #seeds: Seeds
  readonly #onOutcome: (outcome: Outcome) => void
  /** Seeds to be played. */
  readonly #left: number[]
  /** Those whose turn has not come yet. */
  readonly #early = new Map<number, Outcome>()
  #next: number

  constructor(seeds: Seeds, onOutcome: (outcome: Outcome) => void) {
    const { seed, schedules } = seeds
    this.#seeds = seeds
    this.#onOutcome = onOutcome
    this.#next = seed
    this.#left = Array.from({ length: schedules }, (_, index) => seed + schedules - 1 - index)
  }

  async run(jobs: number): Promise<void> {
    await Promise.all(Array.from({ length: jobs }, () => this.#keepPlaying()))
  }

  async #keepPlaying(): Promise<void> {
    while (this.#left.length > 0) await this.#playOnThread()
  }

  /** Resolves when nothing is left, or the thread has ended. */
  #playOnThread(): Promise<void> {
    return new Promise((resolve) => {
      const worker = new Worker(new URL('./player.js', import.meta.url))
      const asked: number[] = []
      const ask = (): void => {
        while (asked.length < AHEAD) {
          const seed = this.#left.pop()
          if (seed === undefined) break
          asked.push(seed)
          worker.postMessage({ seed, nodes: this.#seeds.nodes } satisfies Asked)
        }
        if (asked.length === 0) void worker.terminate()
      }
      let why = 'without a word'
      worker.on('message', (outcome: Outcome) => {
        asked.shift()
        this.#played(outcome)
        ask()
      })
      worker.once('error', (error) => (why = `with ${messageOf(error)}`))
      worker.once('exit', () => {
        const [seed, ...unplayed] = asked
        this.#left.push(...unplayed.reverse())
        if (seed !== undefined) this.#played(broken(seed, `the thread that played it ended ${why}`))
        resolve()
      })
      ask()
    })
  }

  #played(outcome: Outcome): void {
    this.#early.set(outcome.seed, outcome)
    for (let next = this.#early.get(this.#next); next !== undefined; next = this.#early.get(this.#next)) {
      this.#early.delete(this.#next)
      this.#next++
      this.#onOutcome(next)
    }
  }
}

function broken(seed: number, failure: string): Outcome {
  const nothing = { nodes: 0, chunks: 0, simulatedS: 0, events: 0, moved: 0, movedBytes: 0, needless: 0 }
  return {
    ...{ seed, kind: 'broken', ...nothing, least: null, reads: 0, failedReads: 0, queued: 0 },
    ...{ faults: new Map<string, number>(), failures: [failure] },
  }
}
