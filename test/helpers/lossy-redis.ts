/**
 * A RedisStore with the faults of a real network, from a seed. The fault model is what redis.ts allows: a request may run
 * although its reply never comes, and is then sent again with the same arguments.
 *
 *   twice   every reply is lost once: each request runs two times, the caller gets the second reply
 *   late    the first copy is stuck on the way: the second is answered, and the first runs some milliseconds later,
 *           when the caller has gone on (a server reads on from a connection that its client has given up)
 *   slow    requests and replies are held up by random times, so that they overtake each other
 */
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script } from '../../src/cluster/contract.js'
import { PassedRedis } from './passed-redis.js'

export type LossMode = 'twice' | 'late' | 'slow'

export interface LossOptions {
  readonly mode: LossMode
  readonly seed: number
  readonly delayMaxMs: number
}

/** xorshift32 (Marsaglia 2003): 0 to 1, the same for a seed on every machine. */
export function randomFrom(seed: number): () => number {
  let state = seed | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

export class LossyRedis extends PassedRedis {
  readonly #options: LossOptions
  readonly #random: () => number
  readonly #late = new Set<Promise<void>>()
  /** Requests that ran a second time. */
  repeated = 0

  constructor(store: RedisStore, options: LossOptions) {
    super(store)
    this.#options = options
    this.#random = randomFrom(options.seed)
  }

  override run(
    script: Script,
    keys: readonly string[],
    args: readonly RedisArg[],
    options?: RunOptions,
  ): Promise<RedisValue> {
    return this.#lose(() => this.inner.run(script, keys, args, options))
  }

  override call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    return this.#lose(() => this.inner.call(command, key, ...args))
  }

  async #lose(send: () => Promise<RedisValue>): Promise<RedisValue> {
    if (this.#options.mode === 'slow') {
      await this.#delay()
      const reply = await send()
      await this.#delay()
      return reply
    }
    this.repeated++
    if (this.#options.mode === 'late') {
      const reply = await send()
      this.#later(send)
      return reply
    }
    await send().catch(() => undefined)
    return send()
  }

  #later(send: () => Promise<RedisValue>): void {
    const copy = this.#delay()
      .then(send)
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => this.#late.delete(copy))
    this.#late.add(copy)
  }

  #delay(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, this.#random() * this.#options.delayMaxMs))
  }

  /** Copies on their way still arrive. */
  override async close(): Promise<void> {
    await Promise.all(this.#late)
    await this.inner.close()
  }
}
