/**
 * A map that forgets what was used longest ago.
 *
 * The order is a list of its own and not that of the Map: a Map keeps the places of deleted entries until it is rebuilt, so
 * that finding its oldest one takes longer the more were deleted (20 us at 10,000 entries).
 */
export class Lru<K, V> {
  readonly #entries = new Map<K, Entry<K, V>>()
  readonly #max: number
  readonly #onForget: (key: K, value: V) => void
  #newest: Entry<K, V> | undefined
  #oldest: Entry<K, V> | undefined

  constructor(max: number, onForget: (key: K, value: V) => void = () => undefined) {
    this.#max = max
    this.#onForget = onForget
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
    const oldest = this.#oldest
    if (this.#entries.size <= this.#max || oldest === undefined) return
    this.delete(oldest.key)
    this.#onForget(oldest.key, oldest.value)
  }

  delete(key: K): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#unlink(entry)
  }

  /** In no particular order. */
  *[Symbol.iterator](): Generator<[K, V]> {
    for (const { key, value } of this.#entries.values()) yield [key, value]
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
