/** A RedisStore that counts: what was sent, what was answered. */
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script } from '../../src/cluster/contract.js'

export class CountingRedis implements RedisStore {
  readonly #store: RedisStore
  sent = 0
  answered = 0

  constructor(store: RedisStore) {
    this.#store = store
  }

  async #count<T>(work: Promise<T>): Promise<T> {
    this.sent++
    try {
      return await work
    } finally {
      this.answered++
    }
  }

  run(script: Script, keys: readonly string[], args: readonly RedisArg[], options?: RunOptions): Promise<RedisValue> {
    return this.#count(this.#store.run(script, keys, args, options))
  }

  call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    return this.#count(this.#store.call(command, key, ...args))
  }

  subscribe: RedisStore['subscribe'] = (channels, onMessage, onState) =>
    this.#store.subscribe(channels, onMessage, onState)

  waitReplicas(keys: readonly string[], replicas: number, timeoutMs: number): Promise<number> {
    return this.#store.waitReplicas(keys, replicas, timeoutMs)
  }

  serverOf(key: string): string {
    return this.#store.serverOf(key)
  }

  get isLone(): boolean {
    return this.#store.isLone
  }

  syncLocal(): Promise<boolean> {
    return this.#store.syncLocal()
  }

  prepare(scripts: readonly Script[]): Promise<void> {
    return this.#store.prepare(scripts)
  }

  masters(): ReturnType<RedisStore['masters']> {
    return this.#store.masters()
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  /** Nothing is under way any more; what goes on behind acknowledged calls has ended. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      while (this.sent !== this.answered) {
        quiet = 0
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      // What is gathered for a moment before it is sent: src/meta/background.ts.
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** Round trips that `work` waited for. What it leaves to the background does not count. */
  async during(work: () => Promise<unknown>): Promise<number> {
    await this.settle()
    const before = this.answered
    await work()
    return this.answered - before
  }
}
