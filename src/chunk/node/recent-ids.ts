/** A set of ids that forgets those that came first when it is full. */
export class RecentIds {
  readonly #max: number
  readonly #ids = new Set<number>()

  constructor(max: number) {
    this.#max = max
  }

  has(id: number): boolean {
    return this.#ids.has(id)
  }

  add(id: number): void {
    this.#ids.add(id)
    if (this.#ids.size <= this.#max) return
    const [oldest] = this.#ids
    if (oldest !== undefined) this.#ids.delete(oldest)
  }

  delete(id: number): void {
    this.#ids.delete(id)
  }
}
