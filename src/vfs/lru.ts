/**
 * A map that forgets what was used longest ago, of that which may be forgotten.
 *
 * The order is a list of its own and not that of the Map: a Map keeps the places of deleted entries until it is rebuilt, so
 * that finding its oldest one takes longer the more were deleted (20 us at 10,000 entries).
 */
/** Of entries that must not be forgotten so many are looked at when there is one too many. */
const KEPT_LOOKED_AT = 8

export class Lru<K, V> {
  readonly #entries = new Map<K, Entry<K, V>>()
  readonly #max: number
  readonly #onForget: (key: K, value: V) => void
  readonly #mayForget: (key: K) => boolean
  #newest: Entry<K, V> | undefined
  #oldest: Entry<K, V> | undefined

  /** `mayForget`: false counts as a use of the entry; there are more than `max` as long as there is nothing else to forget. */
  constructor(
    max: number,
    onForget: (key: K, value: V) => void = () => undefined,
    mayForget: (key: K) => boolean = () => true,
  ) {
    this.#max = max
    this.#onForget = onForget
    this.#mayForget = mayForget
  }

  get size(): number {
    return this.#entries.size
  }

  /** It does not count as used. */
  has(key: K): boolean {
    return this.#entries.has(key)
  }

  keys(): Iterable<K> {
    return this.#entries.keys()
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#use(entry)
    return entry.value
  }

  set(key: K, value: V): void {
    const known = this.#entries.get(key)
    if (known !== undefined) {
      known.value = value
      this.#use(known)
      return
    }
    const entry: Entry<K, V> = { key, value, newer: undefined, older: undefined }
    this.#entries.set(key, entry)
    this.#link(entry)
    this.#forgetOldest(entry)
  }

  /** Not what has just come. Of those that had to stay one more goes with each entry that comes. */
  #forgetOldest(newest: Entry<K, V>): void {
    let kept = 0
    for (let gone = 0; this.#entries.size > this.#max && gone < 2 && kept < KEPT_LOOKED_AT;) {
      const oldest = this.#oldest
      if (oldest === undefined || oldest === newest) return
      if (this.#mayForget(oldest.key)) {
        gone++
        this.delete(oldest.key)
        this.#onForget(oldest.key, oldest.value)
      } else {
        kept++
        this.#use(oldest)
      }
    }
  }

  delete(key: K): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#unlink(entry)
  }

  /** `onForget` is not told. */
  deleteAll(isMeant: (key: K) => boolean): void {
    for (const key of this.#entries.keys()) if (isMeant(key)) this.delete(key)
  }

  /** In no particular order. */
  *[Symbol.iterator](): Generator<[K, V]> {
    for (const { key, value } of this.#entries.values()) yield [key, value]
  }

  /** Takes away what was used longest ago; undefined: there is nothing. */
  takeOldest(): V | undefined {
    const oldest = this.#oldest
    if (oldest !== undefined) this.delete(oldest.key)
    return oldest?.value
  }

  clear(): void {
    this.#entries.clear()
    this.#newest = this.#oldest = undefined
  }

  #use(entry: Entry<K, V>): void {
    if (entry === this.#newest) return
    this.#unlink(entry)
    this.#link(entry)
  }

  #link(entry: Entry<K, V>): void {
    entry.newer = undefined
    entry.older = this.#newest
    if (this.#newest === undefined) this.#oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
  }

  #unlink({ newer, older }: Entry<K, V>): void {
    if (newer === undefined) this.#newest = older
    else newer.older = older
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
  }
}

interface Entry<K, V> {
  readonly key: K
  value: V
  newer: Entry<K, V> | undefined
  older: Entry<K, V> | undefined
}
