/**
 * Redis replicates behind its answers: a replica that takes its master's place may lack the last of what was acknowledged. Where
 * a change in one place rests on a change in another, which may lie on another master, the first must not survive the loss
 * of the second: it waits here until the volume's number of replicas has the second.
 *
 * Replicas that are away hold nobody up for long: while a master has too few of them nothing is promised of its loss anyway. That is
 * told once, and looked at again every second. fsync alone insists: ofAll().
 */
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { CoreOptions } from './core.js'

const WAIT_MS = 1_000
/** A WAIT holds up whatever comes behind it on its connection, so it is a short one, and another one after it. */
const SLICE_MS = 500
/** Where there are no replicas at all, some servers answer at once. */
const PAUSE_MS = 50
const AGAIN_MS = 1_000

type ReplicasOptions = Pick<CoreOptions, 'store' | 'settings' | 'keys' | 'clock' | 'log' | 'operationDeadlineMs'>

export class Replicas {
  readonly #options: ReplicasOptions
  #shortUntilMs = -Infinity
  #isShort = false
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

  /** What was acknowledged where these keys are. */
  async of(keys: readonly string[]): Promise<void> {
    const { settings, clock, log } = this.#options
    const wanted = settings.metaReplicas
    if (wanted === 0 || clock.monotonicMs() < this.#shortUntilMs) return
    const got = await this.#count(keys, WAIT_MS)
    const isShort = got < wanted
    if (isShort) this.#shortUntilMs = clock.monotonicMs() + AGAIN_MS
    if (isShort && !this.#isShort)
      log.warn({ got, wanted }, 'a Redis master has too few replicas: its loss could lose names')
    this.#isShort = isShort
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
