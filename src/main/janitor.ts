/** Calls the metadata's janitor now and then: chunks that no file uses any more are deleted after a grace period. */
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { ChunkClient } from '../chunk/contract.js'
import type { MetaStore } from '../meta/contract.js'

const INTERVAL_MS = 15_000
/** Outlives readers that still hold an older extent map. */
const GRACE_MS = 60_000
/** How often it is looked for what dead writers have left. */
const SWEEP_MS = 15 * 60_000

export class Janitor {
  readonly #meta: MetaStore
  readonly #chunks: ChunkClient
  readonly #log: Log
  #timer: NodeJS.Timeout | undefined
  #round: Promise<void> = Promise.resolve()
  #stopped = false

  readonly #sweep: () => Promise<number>
  readonly #mayTidyUp: () => boolean
  #sweptMs = -Infinity

  /** `sweep`: see check/sweep.ts. `mayTidyUp` is asked before each round. */
  constructor(
    meta: MetaStore,
    chunks: ChunkClient,
    log: Log,
    sweep: () => Promise<number>,
    mayTidyUp: () => boolean = () => true,
  ) {
    this.#sweep = sweep
    this.#mayTidyUp = mayTidyUp
    this.#meta = meta
    this.#chunks = chunks
    this.#log = log
    this.#schedule()
  }

  #schedule(): void {
    if (this.#stopped) return
    this.#timer = setTimeout(() => {
      this.#round = this.#collect().finally(() => this.#schedule())
    }, INTERVAL_MS)
    this.#timer.unref()
  }

  async #collect(): Promise<void> {
    if (!this.#mayTidyUp()) return
    try {
      const removed = await this.#meta.collectGarbage((ids) => this.#remove(ids), GRACE_MS)
      if (removed > 0) this.#log.info({ chunks: removed }, 'unused chunks deleted')
      await this.#sweepNow()
    } catch (error) {
      if (!this.#stopped) this.#log.warn({ err: messageOf(error) }, 'unused chunks not deleted')
    }
  }

  async #sweepNow(): Promise<void> {
    const nowMs = performance.now()
    if (this.#stopped || nowMs - this.#sweptMs < SWEEP_MS) return
    this.#sweptMs = nowMs
    const freed = await this.#sweep()
    if (freed > 0) this.#log.info({ chunks: freed }, 'chunks of dead writers deleted')
  }

  /** A stop is not held up by a long list: what was not deleted is deleted by the next janitor. */
  async #remove(ids: readonly number[]): Promise<void> {
    if (this.#stopped) throw new Error('stopping')
    await this.#chunks.remove(ids)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#round
  }
}
