/** A RedisStore that can be cut off as if the machine had died: nothing is sent any more, nothing is heard, nothing fails. */
import type { RedisArg, RedisValue, RunOptions, Script, Subscription } from '../../src/cluster/contract.js'
import { PassedRedis } from './passed-redis.js'

export class CuttableRedis extends PassedRedis {
  #isCut = false
  #waiting: (() => void)[] = []
  #states: ((healthy: boolean) => void)[] = []

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

  override async run(
    script: Script,
    keys: readonly string[],
    args: readonly RedisArg[],
    options?: RunOptions,
  ): Promise<RedisValue> {
    await this.#gate()
    const reply = await this.inner.run(script, keys, args, options)
    await this.#gate()
    return reply
  }

  override async call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    await this.#gate()
    const reply = await this.inner.call(command, key, ...args)
    await this.#gate()
    return reply
  }

  override async subscribe(
    channels: readonly string[],
    onMessage: (channel: string, message: Buffer) => void,
    onState: (healthy: boolean) => void,
  ): Promise<Subscription> {
    this.#states.push(onState)
    const subscription = await this.inner.subscribe(
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
    const listen = async (channel: string): Promise<void> => {
      await this.#gate()
      await subscription.listen(channel)
    }
    const ignore = (channel: string): void => subscription.ignore(channel)
    return { listen, ignore, caughtUp, close: () => subscription.close() }
  }
}
