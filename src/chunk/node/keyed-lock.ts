/** One at a time for each key, in the order of asking. */
export class KeyedLock<K extends number | string = number> {
  readonly #tails = new Map<K, Promise<void>>()

  /** Resolves when the key is the caller's; it must call what it gets, once. */
  async acquire(key: K): Promise<() => void> {
    const before = this.#tails.get(key)
    const { promise, resolve } = promiseWithResolve()
    this.#tails.set(key, promise)
    if (before !== undefined) await before
    return () => {
      if (this.#tails.get(key) === promise) this.#tails.delete(key)
      resolve()
    }
  }

  async run<T>(key: K, work: () => T | Promise<T>): Promise<T> {
    const release = await this.acquire(key)
    try {
      return await work()
    } finally {
      release()
    }
  }

  /** Holds all keys at once. Taken in rising order, so that two callers with common keys do not wait for each other. */
  async runAll<T>(keys: readonly K[], work: () => T | Promise<T>): Promise<T> {
    const releases: (() => void)[] = []
    try {
      for (const key of [...new Set(keys)].sort((a, b) => Number(a > b) - Number(a < b)))
        releases.push(await this.acquire(key))
      return await work()
    } finally {
      for (const release of releases) release()
    }
  }

  /** As runAll for no more than `max` of the keys at a time, in their order. Answers what the work of each batch answered. */
  async runBatches<T>(keys: readonly K[], max: number, work: (batch: readonly K[]) => T | Promise<T>): Promise<T[]> {
    const done: T[] = []
    for (let at = 0; at < keys.length; at += max) {
      const batch = keys.slice(at, at + max)
      done.push(await this.runAll(batch, () => work(batch)))
    }
    return done
  }
}

function promiseWithResolve(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
