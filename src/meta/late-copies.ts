/**
 * Changes that failed and may be carried out yet: a server that stood still reads its sockets later. By what they are about. Who does what such a
 * copy would undo, or what undoes it, waits until the server refuses what is so old (Session.past).
 */
export class LateCopies<K> {
  readonly #ends = new Map<K, Promise<void>>()

  /** `past`: as the session says it. */
  add(key: K, past: Promise<void> | undefined): void {
    if (past === undefined) return
    const end = Promise.all([this.#ends.get(key), past]).then(() => {
      if (this.#ends.get(key) === end) this.#ends.delete(key)
    })
    this.#ends.set(key, end)
  }

  has(key: K): boolean {
    return this.#ends.has(key)
  }

  /** Resolves when none can come any more; undefined: none can. */
  end(key: K): Promise<void> | undefined {
    return this.#ends.get(key)
  }

  /** The session is over. */
  clear(): void {
    this.#ends.clear()
  }
}
