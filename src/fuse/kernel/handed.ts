/**
 * What the kernel was given with a lifetime: whatever is not in here it does not keep, so it need not be told of it, and
 * when everything is in doubt, this is everything.
 *
 * Two generations, each as long as the longest lifetime: what is in neither has run out. Bounded: when a generation is full,
 * nothing more gets a lifetime until the next, but what paths go through: the kernel asks for a directory without a lifetime at every
 * step through it.
 */
const KEYS_MAX = 50_000
/** Beyond these. */
const PATHS_MAX = 10_000
/** However long a lease may be. */
export const LIFETIME_MAX_MS = 30_000

/** When it was handed out, on the monotonic clock, with whatever else is to be known of it. */
export interface Given {
  readonly atMs: number
}

export class Handed<K, V extends Given = Given> {
  readonly #generationMs: number
  readonly #max: number
  #began = -Infinity
  #now = new Map<K, V>()
  #before = new Map<K, V>()

  /** `generationMs`: the longest lifetime. */
  constructor(generationMs: number, max = KEYS_MAX) {
    this.#generationMs = generationMs
    this.#max = max
  }

  /** `isPath`: paths go through it. false: there is no room, so no lifetime. Time never goes back. */
  add(key: K, value: V, isPath = false): boolean {
    this.#turn(value.atMs)
    const max = this.#max + (isPath ? PATHS_MAX : 0)
    if (this.#now.size >= max && !this.#now.has(key)) return false
    this.#now.set(key, value)
    return true
  }

  /** What was handed out last; undefined if the kernel cannot have it any more. */
  last(key: K, nowMs: number): V | undefined {
    this.#turn(nowMs)
    return this.#now.get(key) ?? this.#before.get(key)
  }

  keys(nowMs: number): Set<K> {
    this.#turn(nowMs)
    return new Set([...this.#before.keys(), ...this.#now.keys()])
  }

  #turn(nowMs: number): void {
    if (nowMs - this.#began < this.#generationMs) return
    this.#before = nowMs - this.#began < 2 * this.#generationMs ? this.#now : new Map<K, V>()
    this.#now = new Map()
    this.#began = nowMs
  }
}
