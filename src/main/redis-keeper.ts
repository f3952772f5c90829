/** Keeps the private Redis of an `up` running: what dies is started again, in the same folder and on the same port. */
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { FixedServer } from '../cluster/private-redis-files.js'
import { startPrivateRedis, type PrivateRedis } from '../cluster/private-redis.js'

export interface RedisKeeper {
  /** Resolves when it cannot be kept running. */
  readonly lost: Promise<RingfsError>
  stop(): Promise<void>
}

/** Deaths in so short a time are not accidents. */
const DEATHS_MAX = 5
const WITHIN_MS = 60_000

export interface KeeperOptions {
  readonly folder: string
  readonly log: Log
  readonly nice?: number | undefined
  readonly fixed?: FixedServer
}

export function keepRedis(first: PrivateRedis, options: KeeperOptions): RedisKeeper {
  return new Keeper(first, options)
}

class Keeper implements RedisKeeper {
  readonly lost: Promise<RingfsError>
  readonly #options: KeeperOptions
  readonly #deathsMs: number[] = []
  #current: PrivateRedis
  #restarting: Promise<void> = Promise.resolve()
  #stopping = false
  #lose: (error: RingfsError) => void = () => undefined

  constructor(first: PrivateRedis, options: KeeperOptions) {
    this.#options = options
    this.#current = first
    this.lost = new Promise((resolve) => (this.#lose = resolve))
    this.#watch()
  }

  #watch(): void {
    void this.#current.ended.then(() => {
      if (this.#stopping) return
      this.#restarting = this.#restart().catch((error: unknown) => {
        this.#lose(new RingfsError('REDIS_UNREACHABLE', `the private Redis has died: ${messageOf(error)}`))
      })
    })
  }

  async #restart(): Promise<void> {
    const { log } = this.#options
    const nowMs = performance.now()
    this.#deathsMs.push(nowMs)
    if (this.#deathsMs.filter((atMs) => nowMs - atMs < WITHIN_MS).length > DEATHS_MAX) {
      throw new Error(`${DEATHS_MAX} times in ${WITHIN_MS / 1000} s`)
    }
    log.error({ pid: this.#current.pid }, 'the private Redis has died and is started again')
    const { port } = this.#current
    // Lets go of the folder; the process is gone.
    await this.#current.stop()
    const next = await startPrivateRedis(this.#options)
    this.#current = next
    if (next.port !== port) throw new Error(`its port ${port} is taken by another process`)
    this.#watch()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#restarting
    await this.#current.stop()
  }
}
