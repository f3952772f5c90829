/** Measures one figure after the other. */
import { systemClock } from '../../base/clock.js'
import type { RingfsError } from '../../base/errors.js'
import { KIB, MIB } from '../../base/limits.js'
import type { Amount } from './load.js'
import { HANG_MS, dropCaches, hanging, type Place } from './place.js'
import { STEPS, type Group, type Step, type Work } from './plan.js'
import type { BenchProgress } from './progress.js'
import { figureOf, type Figure, type Skipped } from './report.js'
import { LoadThreads, type Together } from './threads.js'

export interface BenchSettings {
  readonly threads: number
  readonly sizeBytes: number
  readonly files: number
  /** Longest time of one figure. */
  readonly limitMs: number
  readonly groups: readonly Group[]
}

export interface Measured {
  readonly figures: readonly Figure[]
  readonly skipped: readonly Skipped[]
  readonly isComplete: boolean
}

const BLOCK_BYTES = 4 * KIB
/** One of so many files has a directory of its own in the group `directories`. */
const FILES_PER_DIRECTORY = 10
/** A random operation for each so many bytes of the large file. */
const BYTES_PER_RANDOM = 128 * KIB
const RANDOM_PER_SYNCED = 8

/** What all threads make together at most, with some room. */
export function needed({ sizeBytes, files, groups }: BenchSettings): { bytes: number; files: number } {
  const large = groups.includes('large') || groups.includes('random') ? sizeBytes * 1.25 : 0
  const small = groups.includes('small') ? files * BLOCK_BYTES * 2 : 0
  return { bytes: large + small + 16 * MIB, files: 3 * files + 100 }
}

/**
 * `stopped`: when it resolves, the threads end after the call they are in. Errors: what a call on the file system said;
 * RingfsError DEADLINE when a call hangs after that.
 */
export async function measure(
  place: Place,
  settings: BenchSettings,
  progress: BenchProgress,
  stopped: Promise<void>,
): Promise<Measured> {
  let isStopped = false
  void stopped.then(() => (isStopped = true))
  const work = async (): Promise<Measured> => {
    const threads = await LoadThreads.start(place.folder, settings.threads)
    void stopped.then(() => threads.stop())
    try {
      return await new Bench(place, settings, threads, progress, () => isStopped).run()
    } finally {
      await threads.close()
    }
  }
  return await orHang(work(), stopped, hanging(place.folder))
}

/** What is under way may end by itself for a while after `stopped`. Errors: RingfsError DEADLINE. */
export async function orHang<T>(work: Promise<T>, stopped: Promise<void>, late: RingfsError): Promise<T> {
  const hang = stopped.then(async () => {
    await systemClock.sleep(HANG_MS)
    throw late
  })
  // It loses the race in the usual case.
  hang.catch(() => undefined)
  return await Promise.race([hang, work])
}

class Bench {
  readonly #place: Place
  readonly #settings: BenchSettings
  readonly #threads: LoadThreads
  readonly #progress: BenchProgress
  readonly #isStopped: () => boolean
  readonly #amount: Amount
  readonly #figures: Figure[] = []
  readonly #skipped: Skipped[] = []
  readonly #done = new Set<Work>()

  constructor(
    place: Place,
    settings: BenchSettings,
    threads: LoadThreads,
    progress: BenchProgress,
    isStopped: () => boolean,
  ) {
    this.#place = place
    this.#settings = settings
    this.#threads = threads
    this.#progress = progress
    this.#isStopped = isStopped
    this.#amount = amountOf(settings)
  }

  async run(): Promise<Measured> {
    if (this.#isStopped()) return this.#result(false)
    for (const step of STEPS.filter(({ group }) => this.#settings.groups.includes(group))) {
      if (step.needs !== undefined && !this.#done.has(step.needs)) await this.#work(step, step.needs, Infinity)
      await this.#step(step)
      if (this.#isStopped()) return this.#result(false)
    }
    return this.#result(true)
  }

  #result(isComplete: boolean): Measured {
    return { figures: this.#figures, skipped: this.#skipped, isComplete }
  }

  async #step(step: Step): Promise<void> {
    const reason = step.cold && !this.#isStopped() ? await dropCaches(this.#place) : undefined
    if (reason !== undefined) {
      this.#skipped.push({ name: step.name, reason })
      return
    }
    const together = await this.#work(step, step.work, this.#settings.limitMs)
    // One that was cut short by Ctrl-C says nothing.
    if (!this.#isStopped()) this.#figures.push(figureOf(step, together))
  }

  async #work(step: Step, work: Work, limitMs: number): Promise<Together> {
    this.#done.add(work)
    const { threads } = this.#settings
    const { total, bytesEach } = sizesOf(work, this.#amount)
    const worth = step.unit === 'MiB/s' ? bytesEach / MIB : 1
    const shown = { title: step.title, unit: step.unit, worth, total: total * threads }
    const running = this.#threads.run({ work, amount: this.#amount, limitMs })
    return await this.#progress.during(shown, () => this.#threads.operations, running)
  }
}

function amountOf({ threads, sizeBytes, files }: BenchSettings): Amount {
  const largeBytes = Math.max(MIB, Math.floor(sizeBytes / threads / MIB) * MIB)
  const randomOperations = Math.ceil(largeBytes / BYTES_PER_RANDOM)
  const own = Math.ceil(files / threads)
  return {
    largeBytes,
    files: own,
    directories: Math.ceil(own / FILES_PER_DIRECTORY),
    randomOperations,
    syncedOperations: Math.ceil(randomOperations / RANDOM_PER_SYNCED),
  }
}

/** Of one thread, when it is not cut short. */
function sizesOf(work: Work, amount: Amount): { readonly total: number; readonly bytesEach: number } {
  switch (work) {
    case 'writeLarge':
    case 'readLarge':
      return { total: amount.largeBytes / MIB, bytesEach: MIB }
    case 'writeSequential':
      return { total: amount.largeBytes / 8 / BLOCK_BYTES, bytesEach: BLOCK_BYTES }
    case 'readRandom':
    case 'writeRandom':
      return { total: amount.randomOperations, bytesEach: BLOCK_BYTES }
    case 'writeRandomSync':
      return { total: amount.syncedOperations, bytesEach: BLOCK_BYTES }
    case 'makeDirectories':
    case 'removeDirectories':
      return { total: amount.directories, bytesEach: 0 }
    default:
      return { total: amount.files, bytesEach: 0 }
  }
}
