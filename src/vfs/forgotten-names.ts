/**
 * Names for which a cache has no room, in two bits each: whether one may be among them. What is answered wrongly is that a name may be
 * there which is not: for one of 290 with half of the names that fit, for one of 80 with all of them.
 */
const BITS = 2 ** 24
const NAMES_MAX = 1_000_000
const WORD_BITS = 32
/** FNV-1a, and another seed. */
const SEEDS = [0x811c9dc5, 0x01234567] as const
const PRIME = 0x01000193

export class ForgottenNames {
  readonly #max: number
  /** Not there while there are none: most mounts forget nothing. */
  #bits: Uint32Array | null = null
  #names = 0

  constructor(max = NAMES_MAX) {
    this.#max = max
  }

  /** false: there is no room for it. */
  add(key: string): boolean {
    if (this.mayHave(key)) return true
    if (this.#names >= this.#max) return false
    this.#names++
    this.#bits ??= new Uint32Array(BITS / WORD_BITS)
    for (const seed of SEEDS) {
      const bit = bitOf(key, seed)
      const word = Math.floor(bit / WORD_BITS)
      this.#bits[word] = (this.#bits[word] ?? 0) | (1 << (bit % WORD_BITS))
    }
    return true
  }

  mayHave(key: string): boolean {
    const bits = this.#bits
    if (bits === null) return false
    return SEEDS.every((seed) => {
      const bit = bitOf(key, seed)
      return ((bits[Math.floor(bit / WORD_BITS)] ?? 0) & (1 << (bit % WORD_BITS))) !== 0
    })
  }

  clear(): void {
    this.#bits = null
    this.#names = 0
  }
}

function bitOf(key: string, seed: number): number {
  let hash: number = seed
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), PRIME)
  // The last characters reach the high bits only by multiplying, and the low ones tell the place.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return (hash ^ (hash >>> 13)) & (BITS - 1)
}
