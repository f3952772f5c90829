/** A RedisStore that can be cut off as if the machine had died: nothing is sent any more, nothing is heard, nothing fails. */
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script, Subscription } from '../../src/cluster/contract.js'

export class CuttableRedis implements RedisStore {
  readonly #store: RedisStore
  #isCut = false
  #waiting: (() => void)[] = []
  #states: ((healthy: boolean) => void)[] = []

  constructor(store: RedisStore) {
    this.#store = store
  }

  get isCut(): boolean {
    return this.#isCut
  }

  cut(): void {
    this.#isCut = true
  }

  /** What was waiting goes on, as after a long pause; subscriptions have missed messages. */
  mend(): void {
    this.#isCut = false
    for (const resume of this.#waiting.splice(0)) resume()
    for (const onState of this.#states) {
      onState(false)
      onState(true)
    }
  }

  #gate(): Promise<void> {
    if (!this.#isCut) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  async run(
    script: Script,
    keys: readonly string[],
    args: readonly RedisArg[],
    options?: RunOptions,
  ): Promise<RedisValue> {
    await this.#gate()
    const reply = await this.#store.run(script, keys, args, options)
    await this.#gate()
    return reply
  }

  async call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    await this.#gate()
    const reply = await this.#store.call(command, key, ...args)
    await this.#gate()
    return reply
  }

  async subscribe(
    channels: readonly string[],
    onMessage: (channel: string, message: Buffer) => void,
    onState: (healthy: boolean) => void,
  ): Promise<Subscription> {
    this.#states.push(onState)
    const subscription = await this.#store.subscribe(
      channels,
      (channel, message) => {
        if (!this.#isCut) onMessage(channel, message)
      },
      (healthy) => {
        if (!this.#isCut) onState(healthy)
      },
    )
    const caughtUp = async (): Promise<void> => {
      await this.#gate()
      await subscription.caughtUp()
    }
    return { caughtUp, close: () => subscription.close() }
  }

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
}
