/** A map that forgets what was used longest ago. A Map keeps insertion order; using an entry moves it to the end. */
export class Lru<K, V> {
  readonly #entries = new Map<K, V>()
  readonly #max: number
  readonly #onForget: (key: K) => void

  constructor(max: number, onForget: (key: K) => void = () => undefined) {
    this.#max = max
    this.#onForget = onForget
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: K): V | undefined {
    const value = this.#entries.get(key)
    if (value !== undefined) {
      this.#entries.delete(key)
      this.#entries.set(key, value)
    }
    return value
  }

  set(key: K, value: V): void {
    this.#entries.delete(key)
    this.#entries.set(key, value)
    if (this.#entries.size <= this.#max) return
    const oldest = this.#entries.keys().next()
    if (oldest.done === true) return
    this.#entries.delete(oldest.value)
    this.#onForget(oldest.value)
  }

  has(key: K): boolean {
    return this.#entries.has(key)
  }

  delete(key: K): void {
    this.#entries.delete(key)
  }

  [Symbol.iterator](): Iterator<[K, V]> {
    return this.#entries[Symbol.iterator]()
  }

  clear(): void {
    this.#entries.clear()
  }
}
