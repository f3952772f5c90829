/**
 * WAIT: how many replicas have all that a master has carried out.
 *
 * It concerns what its own connection wrote last (from Redis 7.2 on; before, what it saw): a write before it on the same connection
 * takes in all that the master had carried out by then, so also what was acknowledged to our other connection. That write has a key of
 * the slot, so that a master which has given the slot away says so, and works without memory to spare.
 *
 * A WAIT holds up what comes behind it on its connection. So there is one at a time to each master, and whoever comes meanwhile shares the
 * next one that begins.
 */
import { invariant } from '../base/invariant.js'
import type { RedisValue } from './contract.js'
import type { RedisLink } from './redis-link.js'
import { numberOf } from './reply.js'
import { makeScript } from './script.js'

export const MARK = makeScript('wait-mark', "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], '')")

export interface ReplicaWaitsOptions {
  /** The address of the master that has the key, as far as is known. */
  readonly masterOf: (key: string) => string
  /** Has it done where the key lives, within the time and what a reply may take, `send` being given that master's own connection for it. */
  readonly route: (
    key: string,
    timeoutMs: number,
    send: (link: RedisLink) => Promise<RedisValue>,
  ) => Promise<RedisValue>
}

export class ReplicaWaits {
  readonly #options: ReplicaWaitsOptions
  /** By master, replicas wanted, and time. */
  readonly #running = new Map<string, Promise<unknown>>()
  readonly #next = new Map<string, Promise<number>>()

  constructor(options: ReplicaWaitsOptions) {
    this.#options = options
  }

  /** The least count of the masters that have these keys; 0 without keys. `timeoutMs`: for the replicas, for each master. */
  async count(keys: readonly string[], replicas: number, timeoutMs: number): Promise<number> {
    const keyOfMaster = new Map(keys.map((key) => [this.#options.masterOf(key), key]))
    // 0 would mean for ever.
    const waitMs = Math.max(1, Math.ceil(timeoutMs))
    const counts = [...keyOfMaster].map(([master, key]) => this.#shared(master, key, replicas, waitMs))
    return counts.length === 0 ? 0 : Math.min(...(await Promise.all(counts)))
  }

  #shared(master: string, key: string, replicas: number, waitMs: number): Promise<number> {
    const kind = `${master} ${replicas} ${waitMs}`
    const awaited = this.#next.get(kind)
    if (awaited !== undefined) return awaited
    const running = this.#running.get(kind)
    if (running === undefined) return this.#start(kind, key, replicas, waitMs)
    const begin = (): Promise<number> => {
      this.#next.delete(kind)
      return this.#start(kind, key, replicas, waitMs)
    }
    const next = running.then(begin, begin)
    this.#next.set(kind, next)
    return next
  }

  #start(kind: string, key: string, replicas: number, waitMs: number): Promise<number> {
    const wait = this.#wait(key, replicas, waitMs)
    this.#running.set(kind, wait)
    const ended = (): void => {
      if (this.#running.get(kind) === wait) this.#running.delete(kind)
    }
    wait.then(ended, ended)
    return wait
  }

  async #wait(key: string, replicas: number, waitMs: number): Promise<number> {
    const reply = await this.#options.route(key, waitMs, async (link) => {
      const mark = link.send('EVALSHA', [MARK.sha1, 1, markBeside(key)])
      const [, count] = await Promise.all([mark, link.send('WAIT', [replicas, waitMs])])
      return count
    })
    return numberOf(reply, 'WAIT')
  }
}

/** In the same slot: all that is waited for has a hash tag. */
function markBeside(key: string): string {
  const end = key.indexOf('}')
  invariant(key.includes('{') && end > 0, 'a key with a hash tag')
  return `${key.slice(0, end + 1)}:wait`
}
