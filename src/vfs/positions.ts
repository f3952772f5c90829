/**
 * Places in a listing as numbers (telldir(3)), of one open directory:
 *
 *   0 the start | 1 after `.` | 2 after `..` | 3 + score: after the first name with this score that was met
 *   2^53 + n: after the n-th name that was met of those whose score an earlier one has
 *
 * Names of one score are rare, unless somebody makes them so: then as many are remembered as a reader needs who goes on, and
 * older places are good no more.
 *
 * Invariant: a place is where it was, or EINVAL. Behind the first of several names of a score whose name is forgotten, the others would
 * be left out.
 */
import { PosixError } from '../base/errno.js'
import { ownBytes } from '../base/own-bytes.js'
import type { DirCursor } from '../meta/contract.js'

export const AFTER_DOT = 1n
export const AFTER_DOTDOT = 2n
/** Scores start here, so that no entry has the offset of `.` or `..`. They are below 2^52. */
const FIRST_SCORE = 3
const FIRST_TIED = 2n ** 53n
/** Names beside others of their score: some 12 MiB if all are as long as may be. */
const TIED_MAX = 16_384
/** Scores of forgotten names, for each that is remembered: numbers alone. */
const FORGOTTEN_SHARE = 16

export class Positions {
  readonly #tiedMax: number
  /** Of several names of a score the first. */
  readonly #firsts = new Map<number, Buffer>()
  /** Scores that have several names, of which the first is forgotten. */
  readonly #forgotten = new Set<number>()
  /** Some such are forgotten themselves. */
  #isVague = false
  /** The others, in the order in which they were met. */
  readonly #tied = new Map<number, DirCursor & { readonly name: Buffer }>()
  readonly #numbers = new Map<string, number>()
  #met = 0
  #lastScore = -1
  #lastName: Buffer = Buffer.alloc(0)

  constructor(tiedMax = TIED_MAX) {
    this.#tiedMax = tiedMax
  }

  /** Of the place behind this name, the next that is met. */
  offsetOf(score: number, name: Buffer): bigint {
    const first = this.#firsts.get(score) ?? (score === this.#lastScore ? this.#lastName : name)
    this.#lastScore = score
    this.#lastName = name
    if (first.equals(name)) return BigInt(FIRST_SCORE + score)
    if (!this.#firsts.has(score)) {
      this.#firsts.set(score, ownBytes([first], first.length))
      this.#forgotten.delete(score)
      this.#forgetFirst()
    }
    return FIRST_TIED + BigInt(this.#numberOf(score, name))
  }

  #forgetFirst(): void {
    const [oldest] = this.#firsts.keys()
    if (oldest === undefined || forgetOldest(this.#firsts, this.#tiedMax) === undefined) return
    this.#forgotten.add(oldest)
    if (this.#forgotten.size <= this.#tiedMax * FORGOTTEN_SHARE) return
    this.#forgotten.clear()
    this.#isVague = true
  }

  #numberOf(score: number, name: Buffer): number {
    // latin1 keeps every byte of the name apart.
    const key = name.toString('latin1')
    const known = this.#numbers.get(key)
    const cursor = known === undefined ? undefined : this.#tied.get(known)
    if (known !== undefined && cursor !== undefined) {
      // As good as new: what was just answered is forgotten last.
      this.#tied.delete(known)
      this.#tied.set(known, cursor)
      return known
    }
    const number = this.#met++
    this.#tied.set(number, { score, name: ownBytes([name], name.length) })
    this.#numbers.set(key, number)
    const forgotten = forgetOldest(this.#tied, this.#tiedMax)
    if (forgotten !== undefined) this.#numbers.delete(forgotten.name.toString('latin1'))
    return number
  }

  /** null: the first name. Errors: EINVAL for a place that is none, or is forgotten. */
  cursorAt(offset: bigint): DirCursor | null {
    if (offset === AFTER_DOTDOT) return null
    if (offset < BigInt(FIRST_SCORE)) throw noPosition()
    if (offset >= FIRST_TIED) {
      const cursor = this.#tied.get(Number(offset - FIRST_TIED))
      if (cursor === undefined) throw noPosition()
      return cursor
    }
    const score = Number(offset) - FIRST_SCORE
    // The last one met may be the first of several: those behind it are still to come.
    const name = this.#firsts.get(score) ?? (score === this.#lastScore ? this.#lastName : null)
    if (name === null && (this.#isVague || this.#forgotten.has(score))) throw noPosition()
    return { score, name }
  }
}

function noPosition(): PosixError {
  return new PosixError('EINVAL', 'no such position in the directory')
}

function forgetOldest<K, V>(map: Map<K, V>, max: number): V | undefined {
  if (map.size <= max) return undefined
  for (const [key, value] of map) {
    map.delete(key)
    return value
  }
  return undefined
}
