/**
 * Redis replicates behind its answers: a replica that takes its master's place may lack the last of what was acknowledged. Where
 * a change in one place rests on a change in another, which may lie on another master, the first must not survive the loss
 * of the second: it waits here until the volume's number of replicas has the second. With `metaSync` 'always' so does the caller of each
 * change: ofChange().
 *
 * Replicas that are away hold nobody up for long: while a master has too few of them nothing is promised of its loss anyway. That is
 * told once, and they are asked again once a second, behind whoever comes by. fsync alone insists: ofAll().
 */
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Script } from '../cluster/contract.js'
import type { CoreOptions } from './core.js'
import type { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import { isOfContents } from './tails.js'

export const REPLICAS_MS = 1_000
/** A WAIT holds up whatever comes behind it on its connection, so it is a short one, and another one after it. */
const SLICE_MS = 500
/** Where there are no replicas at all, some servers answer at once. */
const PAUSE_MS = 50
const AGAIN_MS = 1_000

/** Whatever the volume says of the rest: something elsewhere rests on these. */
const RESTED_ON: ReadonlySet<Script> = new Set<Script>([SCRIPTS.reserve, SCRIPTS.txPrepare, SCRIPTS.txCommit])

export type ReplicasOptions = Pick<
  CoreOptions,
  'store' | 'settings' | 'keys' | 'clock' | 'log' | 'operationDeadlineMs'
> & {
  /** How long a change waits for replicas that are away. */
  readonly replicasMs: number
}

export class Replicas {
  readonly #options: ReplicasOptions
  /** Servers that have too few replicas, and when they were asked last. A server that is replaced has another name then. */
  readonly #short = new Map<string, number>()
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(options: ReplicasOptions) {
    this.#options = options
  }

  /**
   * All that was acknowledged, anywhere. Many at once share one WAIT, the next one that begins. Errors: EIO when there are too
   * few replicas for as long as an operation may take: a failover may be under way, and the server that failed be back soon.
   */
  ofAll(): Promise<void> {
    this.#next ??= this.#startNext()
    return this.#next
  }

  async #startNext(): Promise<void> {
    while (this.#running !== undefined) await this.#running.catch(() => undefined)
    this.#next = undefined
    this.#running = this.#insist().finally(() => (this.#running = undefined))
    await this.#running
  }

  async #insist(): Promise<void> {
    const { settings, keys, clock, operationDeadlineMs } = this.#options
    const wanted = settings.metaReplicas
    const everywhere = Array.from({ length: keys.partitions }, (_, p) => keys.partition(p).inodes)
    const deadlineMs = clock.monotonicMs() + operationDeadlineMs
    for (;;) {
      const got = await this.#count(everywhere, SLICE_MS)
      if (got >= wanted) return
      if (clock.monotonicMs() >= deadlineMs) {
        throw new PosixError('EIO', `only ${got} of ${wanted} replicas have the metadata`)
      }
      await clock.sleep(PAUSE_MS)
    }
  }

  /** What was acknowledged in these partitions. Resolves in any case, within a few seconds. */
  ofPartitions(partitions: readonly number[]): Promise<void> {
    if (this.#options.settings.metaReplicas === 0 || partitions.length === 0) return Promise.resolve()
    return this.of(partitions.map((p) => this.#options.keys.partition(p).inodes))
  }

  /** What was acknowledged where these keys are. As ofPartitions(). */
  async of(keys: readonly string[]): Promise<void> {
    if (this.#options.settings.metaReplicas === 0) return
    const keyOfServer = new Map(keys.map((key) => [this.#options.store.serverOf(key), key]))
    await Promise.all([...keyOfServer].map(([server, key]) => this.#ofServer(server, key)))
  }

  async #ofServer(server: string, key: string): Promise<void> {
    const askedMs = this.#short.get(server)
    const nowMs = this.#options.clock.monotonicMs()
    if (askedMs === undefined) return this.#ask(server, key)
    if (nowMs - askedMs < AGAIN_MS) return
    this.#short.set(server, nowMs)
    void this.#ask(server, key)
  }

  async #ask(server: string, key: string): Promise<void> {
    const { settings, clock, log, store, replicasMs } = this.#options
    const wanted = settings.metaReplicas
    const untilMs = clock.monotonicMs() + replicasMs
    let got = await this.#count([key], SLICE_MS)
    while (got < wanted && clock.monotonicMs() < untilMs) {
      await clock.sleep(PAUSE_MS)
      got = await this.#count([key], SLICE_MS)
    }
    // Who answered may be its successor, or the same after a start.
    const answered = store.serverOf(key)
    if (answered !== server) this.#short.delete(server)
    if (got >= wanted) {
      this.#short.delete(answered)
      return
    }
    if (this.#short.size === 0)
      log.warn({ got, wanted }, 'a Redis master has too few replicas: its loss could lose names')
    this.#short.set(answered, clock.monotonicMs())
  }

  /**
   * What may be done twice as if it were done once, where the key is: answered when the replicas have it. If a server was replaced
   * meanwhile, its successor may not know what it did, of which nobody was told yet: it is asked again, and does it now, or answers what it
   * did. `isNothing`: by this answer nothing was done. Throws what `work` throws, and EIO when servers are replaced for as long
   * as an operation may take.
   */
  async behind<T>(key: string, work: () => Promise<T>, isNothing: (answer: T) => boolean = () => false): Promise<T> {
    const { store, settings, clock, operationDeadlineMs } = this.#options
    if (settings.metaReplicas === 0) return work()
    const deadlineMs = clock.monotonicMs() + operationDeadlineMs
    for (;;) {
      const server = store.serverOf(key)
      const answer = await work()
      if (isNothing(answer)) return answer
      await this.of([key])
      if (store.serverOf(key) === server) return answer
      if (clock.monotonicMs() >= deadlineMs) {
        throw new PosixError('EIO', 'Redis servers were replaced again and again: whether a change was made is unknown')
      }
    }
  }

  /** A script of lib/mutate.lua, whose replies are kept. */
  ofChange(script: Script, key: string, change: () => Promise<Reply>): Promise<Reply> {
    const waits = RESTED_ON.has(script) || (this.#options.settings.metaSync === 'always' && isOfContents(script))
    return waits ? this.behind(key, change, ({ status }) => status < 0) : change()
  }

  async #count(keys: readonly string[], timeoutMs: number): Promise<number> {
    const { store, settings, log } = this.#options
    try {
      return await store.waitReplicas(keys, settings.metaReplicas, timeoutMs)
    } catch (error) {
      log.debug({ error: messageOf(error) }, 'replicas not waited for')
      return 0
    }
  }
}
