/** Random numbers from a seed: the same seed, the same run. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** One of its own for a part of the run, so that what one part draws does not shift the others. */
  fork(label: number): Random {
    return new Random(Math.imul(this.#state ^ Math.imul(label + 1, 0x9e3779b1), 0x85ebca6b))
  }

  /** At least 0, below `end`. */
  below(end: number): number {
    return Math.floor(this.#unit() * end)
  }

  /** Both ends included. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1)
  }

  chance(probability: number): boolean {
    return this.#unit() < probability
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)]
    if (value === undefined) throw new Error('nothing to pick from')
    return value
  }

  /** mulberry32: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c (public domain). */
  #unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let x = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}
