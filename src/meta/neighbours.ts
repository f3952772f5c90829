/**
 * Sessions of processes on this machine that have ended are ended at once; of others only the lease says whether they live.
 *
 * Once before this client serves anything, so that a mount that was killed and started again finds nothing held by its
 * forerunner; then each LOOK_MS, which costs a look at /proc for each neighbour and nothing of Redis: the renewal of the lease
 * tells of new sessions, and only those are asked for.
 *
 * Invariant: only who certainly runs no more is marked dead (base/processes.ts). What it sent before it ended may still come:
 * the mark refuses it, as after a lease, but for an hour only. Several may find the same one: each cleans up wholly, so that none goes on before
 * it is done.
 */
import * as z from 'zod'
import { messageOf } from '../base/errors.js'
import { PID_MAX, areNeighbours, type ProcessId, type Processes } from '../base/processes.js'
import type { RedisValue } from '../cluster/contract.js'
import type { Core } from './core.js'
import { GONE_MARK_S, releaseDead } from './recovery.js'
import { SCRIPTS } from './scripts.js'

const LOOK_MS = 1_000
/** More new sessions than these are not asked for one by one. */
const ASKED_MAX = 256

const Who = z.object({
  ...{ boot: z.string(), pidns: z.string(), timens: z.string(), start: z.string() },
  // 0 and less name groups of processes: kill(2).
  pid: z.int().min(1).max(PID_MAX),
})

interface Neighbour {
  readonly process: ProcessId
  /** As it stands in Redis. */
  readonly who: string
}

export class Neighbours {
  readonly #core: Core
  readonly #processes: Processes
  readonly #known = new Map<string, Neighbour>()
  /** Sessions up to this one were looked at. */
  #upTo = 0
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined

  constructor(core: Core, processes: Processes) {
    this.#core = core
    this.#processes = processes
  }

  /** Settles when nothing is held by a neighbour that has ended, or this cannot be done now. */
  async start(): Promise<void> {
    if (this.#processes.self() === null) return
    await this.#lookOnce()
    this.#timer = setInterval(() => void this.#lookOnce(), LOOK_MS)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
  }

  #lookOnce(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((error: unknown) => {
        const { log } = this.#core.options
        log.warn({ error: messageOf(error) }, 'cleaning up after processes that ended is tried again later')
      })
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  async #look(): Promise<void> {
    const { newest } = this.#core.session
    if (newest > this.#upTo) {
      await this.#learn(newest)
      this.#upTo = newest
    }
    const ended = [...this.#known].filter(([, { process }]) => this.#processes.hasEnded(process))
    if (ended.length === 0) return
    await this.#end(ended)
    for (const [id] of ended) this.#known.delete(id)
  }

  async #learn(newest: number): Promise<void> {
    const { store } = this.#core.options
    const key = this.#core.keys.wide('h')
    const isFew = this.#upTo > 0 && newest - this.#upTo <= ASKED_MAX
    const ids = Array.from({ length: isFew ? newest - this.#upTo : 0 }, (_, i) => String(this.#upTo + 1 + i))
    const found = isFew ? await store.call('HMGET', key, ...ids) : await store.call('HGETALL', key)
    const list: readonly RedisValue[] = Array.isArray(found) ? found : []
    for (let at = 0; at < list.length; at += isFew ? 1 : 2) {
      if (isFew) this.#meet(ids[at] ?? '', list[at] ?? null)
      else this.#meet(String(list[at]), list[at + 1] ?? null)
    }
  }

  #meet(id: string, text: RedisValue): void {
    if (!Buffer.isBuffer(text)) return
    const self = this.#processes.self()
    const process = decodeWho(text.toString())
    if (self === null || process === undefined || !areNeighbours(self, process)) return
    this.#known.set(id, { process, who: text.toString() })
  }

  async #end(ended: readonly (readonly [string, Neighbour])[]): Promise<void> {
    const { keys } = this.#core
    const args = ended.flatMap(([id, { who }]) => [id, who])
    const dead = await this.#core.run(SCRIPTS.sessionGone, [keys.wide('s'), keys.wide('h'), keys.wide('dead')], args)
    await releaseDead(this.#core, dead, 'cleaning up after a session whose process has ended', GONE_MARK_S)
  }
}

/** Of a session's record. undefined: one that could not say who it is for certain. */
export function decodeWho(text: string): ProcessId | undefined {
  try {
    return Who.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
