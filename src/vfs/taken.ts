/** How many changes of a file the store has taken, and how many of them an fsync has made durable. */
export class Taken {
  #count = 0
  #durable = 0

  /** To be given to `synced` when that is durable. */
  get count(): number {
    return this.#count
  }

  one(): void {
    this.#count++
  }

  synced(count: number): void {
    this.#durable = Math.max(this.#durable, count)
  }

  /** What is not durable is lost. Answers whether there was anything. */
  lose(): boolean {
    const wasAny = this.#durable !== this.#count
    this.#durable = this.#count
    return wasAny
  }
}
