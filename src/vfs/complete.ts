/**
 * Directories of which every name is in the cache of names (cache.ts), so that a name which is not there does not exist.
 *
 * A directory is known to be complete when this client made it, or has listed it from the start to the end. Invariant: since it
 * was made, or since the listing began, what others change was heard, no other client changed it, every change of ours had a known
 * outcome, and no name of it was forgotten. Whatever casts doubt on any of these ends it.
 *
 * A name that another client adds shows as soon as its event has come: as with any absent name that is cached. A directory
 * that others change is asked about again name by name: it is not taken for complete until it has been left alone for a while.
 */
import type { Clock } from '../base/clock.js'
import { ForgottenNames } from './forgotten-names.js'
import { Gaps } from './gaps.js'
import { Lru } from './lru.js'

const COMPLETE_MAX = 16_384
/** How long a directory must have been left alone by others. */
const QUIET_MS = 60_000
/** Doubts are kept per hash slot: a collision costs round trips, never correctness. */
const SLOTS = 2 ** 13

export class CompleteDirectories {
  readonly #clock: Clock
  readonly #complete = new Lru<number, true>(COMPLETE_MAX)
  readonly #forgotten: ForgottenNames
  /** When the last doubt arose, counted in doubts; and on the clock. */
  readonly #doubted = new Float64Array(SLOTS)
  readonly #untilMs = new Float64Array(SLOTS).fill(-Infinity)
  #sequence = 0
  readonly #gaps: Gaps

  constructor(clock: Clock, partitionOf: (ino: number) => number, forgotten = new ForgottenNames()) {
    this.#clock = clock
    this.#gaps = new Gaps(partitionOf)
    this.#forgotten = forgotten
  }

  /** Whether a name that is not in the cache is known not to be in the directory either. `key` tells the name from all others. */
  lacks(directory: number, key: string): boolean {
    return this.#complete.get(directory) === true && !this.#forgotten.mayHave(key)
  }

  /** The cache has no room any more for a name that is there, as far as it knows. */
  forgot(directory: number, key: string): void {
    if (!this.#complete.has(directory)) this.forget(directory)
    else if (!this.#forgotten.add(key)) this.clear()
  }

  /** A listing begins, or a directory is about to be made: give it to `add`. */
  mark(): number {
    return this.#sequence
  }

  /** All names that the directory had at `mark`, or got since, are in the cache of names. */
  add(directory: number, mark: number): void {
    const slot = slotOf(directory)
    const isDoubtful = (this.#doubted[slot] ?? 0) > mark || this.#gaps.isSince(mark, directory)
    if (isDoubtful || (this.#untilMs[slot] ?? 0) > this.#clock.monotonicMs()) return
    this.#complete.set(directory, true)
  }

  /** Something of it is not known any more. */
  forget(directory: number): void {
    this.#complete.delete(directory)
    this.#doubted[slotOf(directory)] = ++this.#sequence
  }

  /** Another client changed it, or nobody knows what a change of ours did. */
  doubt(directory: number): void {
    this.forget(directory)
    this.#untilMs[slotOf(directory)] = this.#clock.monotonicMs() + QUIET_MS
  }

  clear(): void {
    this.#complete.clear()
    this.#forgotten.clear()
    this.#gaps.everywhere(++this.#sequence)
  }

  clearOf(isMeant: (directory: number) => boolean): void {
    this.#complete.deleteAll(isMeant)
  }

  /** What others changed in these was not heard: of no listing that is under way there it is known what it lacks. */
  lostIn(partitions: Iterable<number>): void {
    this.#gaps.in(partitions, ++this.#sequence)
  }
}

function slotOf(ino: number): number {
  const mixed = Math.imul(ino >>> 0, 0x9e3779b1) ^ Math.imul(Math.floor(ino / 2 ** 32), 0x85ebca6b)
  return (mixed >>> 0) % SLOTS
}
