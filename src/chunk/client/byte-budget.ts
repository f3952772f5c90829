/** Back-pressure: at most so many bytes under way at once, first come first served. */
interface Waiting {
  readonly bytes: number
  start(): void
}

export class ByteBudget {
  #free: number
  readonly #total: number
  readonly #queue: Waiting[] = []

  constructor(totalBytes: number) {
    this.#free = totalBytes
    this.#total = totalBytes
  }

  /** Runs `work` when there is room. More than the whole budget waits until it is alone. */
  async run<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    const share = Math.min(bytes, this.#total)
    if (this.#queue.length > 0 || share > this.#free) {
      await new Promise<void>((start) => this.#queue.push({ bytes: share, start }))
    } else {
      this.#free -= share
    }
    try {
      return await work()
    } finally {
      this.#free += share
      this.#startWaiting()
    }
  }

  /** Takes the share for them before they run: nobody who comes meanwhile gets in between. */
  #startWaiting(): void {
    for (let next = this.#queue[0]; next !== undefined && next.bytes <= this.#free; next = this.#queue[0]) {
      this.#queue.shift()
      this.#free -= next.bytes
      next.start()
    }
  }
}
