/**
 * WAIT: how many replicas have all that a master has carried out.
 *
 * It concerns what its own connection wrote last (from Redis 7.2 on; before, what it saw): a write before it on the same connection
 * takes in all that the master had carried out by then, so also what was acknowledged to our other connection. That write has a key of
 * the slot, so that a master which has given the slot away says so, and works without memory to spare.
 *
 * A WAIT holds up what comes behind it on its connection. So it is a short one, and another one after it; there is one at a time to each master, and
 * whoever comes meanwhile shares the next one that begins. Shared is only what the same master has: if another one answered, since the
 * slot of the key that was sent has moved, the others ask with keys of their own.
 */
import type { Clock } from '../base/clock.js'
import { invariant } from '../base/invariant.js'
import type { RedisValue } from './contract.js'
import { UncountedError } from './redis-errors.js'
import type { RedisLink } from './redis-link.js'
import { numberOf } from './reply.js'
import { makeScript } from './script.js'

export const MARK = makeScript('wait-mark', "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], '')")
/** Of one WAIT. */
export const WAIT_SLICE_MS = 500
/** Who takes so much longer stood still, or we did: he may have been replaced meanwhile. */
const GRACE_MS = 1_000
/** Where there are no replicas at all, some servers answer at once. */
const PAUSE_MS = 50
/** So often the slot of a key has not moved while it was asked about. */
const MOVES_MAX = 8

export interface Counted {
  /** Who answered, and for which key. */
  readonly address: string
  readonly key: string
  readonly count: number
}

/** What is asked. */
export type AskedLink = Pick<RedisLink, 'address' | 'send' | 'sendFenced'>

export interface ReplicaWaitsOptions {
  readonly clock: Clock
  /** The address of the master that has the key, as far as is known. */
  readonly masterOf: (key: string) => string
  /** Has `ask` done where the key lives; `timeoutMs` is what WAIT takes itself. Throws when there is no answer. */
  readonly route: (key: string, timeoutMs: number, ask: (link: AskedLink) => Promise<RedisValue>) => Promise<RedisValue>
}

export class ReplicaWaits {
  readonly #options: ReplicaWaitsOptions
  /** By master and replicas wanted. */
  readonly #running = new Map<string, Promise<Counted>>()
  readonly #next = new Map<string, Promise<Counted>>()

  constructor(options: ReplicaWaitsOptions) {
    this.#options = options
  }

  /**
   * The least count of the masters that have these keys, when it is enough, or after about `timeoutMs`; 0 without keys.
   * Errors: UncountedError; REDIS_UNREACHABLE and others of `route`.
   */
  async count(keys: readonly string[], replicas: number, timeoutMs: number): Promise<number> {
    const { clock } = this.#options
    const deadline = clock.monotonicMs() + timeoutMs
    // 0 would mean for ever.
    const waitMs = Math.max(1, Math.min(WAIT_SLICE_MS, Math.ceil(timeoutMs)))
    for (;;) {
      const least = await this.#once(keys, replicas, waitMs)
      if (least >= replicas || clock.monotonicMs() >= deadline) return least
      await clock.sleep(PAUSE_MS)
    }
  }

  async #once(keys: readonly string[], replicas: number, waitMs: number): Promise<number> {
    const { masterOf } = this.#options
    let least = keys.length === 0 ? 0 : Infinity
    let left = keys
    for (let moves = 0; left.length > 0; moves++) {
      if (moves === MOVES_MAX) throw new UncountedError('slots move each time that they are asked about')
      const asked = [...this.#byMaster(left)].map(async ([master, group]) => {
        const { address, key, count } = await this.#shared(master, group[0] ?? '', replicas, waitMs)
        // One that has a slot for the moment only (ASK) answers for that slot.
        const isTold = (one: string): boolean => address === master || (one === key && masterOf(one) === master)
        if (group.some(isTold)) least = Math.min(least, count)
        return group.filter((one) => !isTold(one))
      })
      left = (await Promise.all(asked)).flat()
    }
    return least
  }

  #byMaster(keys: readonly string[]): ReadonlyMap<string, readonly string[]> {
    const groups = new Map<string, string[]>()
    for (const key of keys) {
      const master = this.#options.masterOf(key)
      const group = groups.get(master)
      if (group === undefined) groups.set(master, [key])
      else group.push(key)
    }
    return groups
  }

  #shared(master: string, key: string, replicas: number, waitMs: number): Promise<Counted> {
    const kind = `${master} ${replicas} ${waitMs}`
    const awaited = this.#next.get(kind)
    if (awaited !== undefined) return awaited
    const running = this.#running.get(kind)
    if (running === undefined) return this.#start(kind, key, replicas, waitMs)
    const begin = (): Promise<Counted> => {
      this.#next.delete(kind)
      return this.#start(kind, key, replicas, waitMs)
    }
    const next = running.then(begin, begin)
    this.#next.set(kind, next)
    return next
  }

  #start(kind: string, key: string, replicas: number, waitMs: number): Promise<Counted> {
    const wait = this.#wait(key, replicas, waitMs)
    this.#running.set(kind, wait)
    const ended = (): void => {
      if (this.#running.get(kind) === wait) this.#running.delete(kind)
    }
    wait.then(ended, ended)
    return wait
  }

  async #wait(key: string, replicas: number, waitMs: number): Promise<Counted> {
    const { clock } = this.#options
    let [address, sentMs] = ['', 0]
    const reply = await this.#options.route(key, waitMs, async (link) => {
      address = link.address
      sentMs = clock.monotonicMs()
      // Whoever has the slot for the moment only wants to be asked so; others do not mind.
      const asking = link.send('ASKING', [])
      const mark = link.send('EVALSHA', [MARK.sha1, 1, markBeside(key)])
      const [, , count] = await Promise.all([asking, mark, link.sendFenced('WAIT', [replicas, waitMs])])
      return count
    })
    const count = numberOf(reply, 'WAIT')
    if (count < replicas && clock.monotonicMs() - sentMs > waitMs + GRACE_MS) {
      throw new UncountedError(`${address} stood still while it was asked about its replicas`)
    }
    return { address, key, count }
  }
}

/** In the same slot: all that is waited for has a hash tag. */
function markBeside(key: string): string {
  const end = key.indexOf('}')
  invariant(key.includes('{') && end > 0, 'a key with a hash tag')
  return `${key.slice(0, end + 1)}:wait`
}
