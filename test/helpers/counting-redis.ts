/** A RedisStore that counts: what was sent, what was answered. */
import type { RedisArg, RedisValue, RunOptions, Script } from '../../src/cluster/contract.js'
import { PassedRedis } from './passed-redis.js'

export class CountingRedis extends PassedRedis {
  sent = 0
  answered = 0

  async #count<T>(work: Promise<T>): Promise<T> {
    this.sent++
    try {
      return await work
    } finally {
      this.answered++
    }
  }

  override run(
    script: Script,
    keys: readonly string[],
    args: readonly RedisArg[],
    options?: RunOptions,
  ): Promise<RedisValue> {
    return this.#count(this.inner.run(script, keys, args, options))
  }

  override call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    return this.#count(this.inner.call(command, key, ...args))
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
