/**
 * One process' way to the simulated Redis, as redis.ts has it to the real one: a call whose reply does not come is sent again with the
 * same arguments until the deadline, so it may be carried out several times, and late.
 */
import { RingfsError } from '../../src/base/errors.js'
import type { Timer } from '../../src/base/clock.js'
import type { RedisArg, RedisStore, RedisValue, RunOptions, Script } from '../../src/cluster/contract.js'
import { BareRedis } from '../helpers/bare-redis.js'
import type { SimulatedNetwork } from './network.js'
import type { SimulatedRedis } from './redis.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'

export const REDIS = 'redis'
const REPLY_TIMEOUT_MS = 2_000
const DEADLINE_MS = 30_000
const PAUSE_MS = 50

export interface LinkOptions {
  readonly scheduler: Scheduler
  readonly process: SimulatedProcess
  readonly network: SimulatedNetwork
  readonly redis: SimulatedRedis
  /** Name of the machine. */
  readonly machine: string
  readonly random: () => number
}

export class SimulatedLink extends BareRedis implements RedisStore {
  readonly isLone = false
  readonly #options: LinkOptions

  constructor(options: LinkOptions) {
    super()
    this.#options = options
  }

  run(script: Script, keys: readonly string[], args: readonly RedisArg[], options?: RunOptions): Promise<RedisValue> {
    const { redis } = this.#options
    return this.#call(() => redis.run(script.name, keys, args), options?.deadlineMs ?? DEADLINE_MS)
  }

  call(command: string, key: string, ...args: readonly RedisArg[]): Promise<RedisValue> {
    return this.#call(() => this.#options.redis.command(command, key, args), DEADLINE_MS)
  }

  #call(work: () => RedisValue, deadlineMs: number): Promise<RedisValue> {
    const { scheduler, process, network, machine, random } = this.#options
    const endMs = scheduler.nowMs + deadlineMs
    return new Promise((resolve, reject) => {
      let isSettled = false
      let timer: Timer | undefined
      const settle = (end: () => void): void => {
        if (isSettled) return
        isSettled = true
        timer?.close()
        end()
      }
      const reply = (end: () => void): void => network.send(REDIS, machine, () => process.give(() => settle(end)))
      const attempt = (): void => {
        network.send(machine, REDIS, () => {
          try {
            const value = work()
            reply(() => resolve(value))
          } catch (error) {
            reply(() => reject(error instanceof Error ? error : new Error(String(error))))
          }
        })
        timer = process.later(REPLY_TIMEOUT_MS, () => {
          if (isSettled) return
          const pauseMs = PAUSE_MS * (0.5 + random())
          if (scheduler.nowMs + pauseMs < endMs) process.later(pauseMs, () => !isSettled && attempt())
          else settle(() => reject(new RingfsError('REDIS_UNREACHABLE', 'the simulated Redis does not answer')))
        })
      }
      attempt()
    })
  }
}
