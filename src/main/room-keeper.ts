/**
 * Has old small files moved from the metadata into chunks when there is little room for new ones (vfs/body-mover.ts), at times when nobody else
 * wants anything of this process or of the nodes.
 */
import { performance } from 'node:perf_hooks'
import { systemClock, type Clock, type Timer } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { BodyMover } from '../vfs/body-mover.js'

const INTERVAL_MS = 30_000
/** Where nothing may be moved, or it fails. */
const LATER_MAX_MS = 600_000
/** Behind each page, and so many times as long as it took. */
const PAUSE_MIN_MS = 100
const PAUSE_TIMES = 3
/** Of the event loop, in such a pause: somebody uses the mount. */
const BUSY_SHARE = 0.25
/** So long it is waited for a quiet moment. */
const PATIENCE_MS = 10_000

export interface RoomKeeperOptions {
  readonly mover: Pick<BodyMover, 'isOff' | 'makeRoom' | 'moved' | 'stop'>
  /** All nodes work. */
  readonly areNodesWell: () => boolean
  /** Something may be written. Default: always. */
  readonly mayTidyUp?: () => boolean
  readonly log: Log
  /** Between two looks. Default 30 s. */
  readonly intervalMs?: number
  /** Begins to measure; what it answers tells how busy this process was since, 0 to 1. Default: the event loop. */
  readonly load?: () => () => number
  readonly clock?: Pick<Clock, 'after'>
}

function loopLoad(): () => number {
  const before = performance.eventLoopUtilization()
  return () => performance.eventLoopUtilization(before).utilization
}

export class RoomKeeper {
  readonly #options: RoomKeeperOptions
  readonly #intervalMs: number
  readonly #load: () => () => number
  readonly #clock: Pick<Clock, 'after'>
  #isStopped = false
  #timer: Timer | undefined
  /** Ends the pause. */
  #wake: () => void = () => undefined
  #round: Promise<void> = Promise.resolve()
  #laterMs: number

  constructor(options: RoomKeeperOptions) {
    this.#options = options
    this.#laterMs = this.#intervalMs = options.intervalMs ?? INTERVAL_MS
    this.#load = options.load ?? loopLoad
    this.#clock = options.clock ?? systemClock
    if (!options.mover.isOff) this.#schedule()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#options.mover.stop()
    this.#timer?.close()
    this.#wake()
    await this.#round
  }

  #schedule(): void {
    if (this.#isStopped) return
    this.#timer = this.#clock.after(this.#laterMs, () => {
      this.#round = this.#look().finally(() => this.#schedule())
    })
    this.#timer.unref()
  }

  async #look(): Promise<void> {
    const { mover, log } = this.#options
    const before = mover.moved
    let isBarren = false
    try {
      // A busy one does not even ask: others may have the time.
      if (await this.#turn(0)) isBarren = (await mover.makeRoom((tookMs) => this.#turn(tookMs))) === 'barren'
    } catch (error) {
      isBarren = true
      if (!this.#isStopped) log.warn({ err: messageOf(error) }, 'old small files not moved to the nodes')
    }
    const moved = mover.moved - before
    if (moved > 0) log.info({ files: moved }, 'old small files moved to the nodes')
    this.#laterMs = isBarren && moved === 0 ? Math.min(LATER_MAX_MS, 2 * this.#laterMs) : this.#intervalMs
  }

  async #turn(tookMs: number): Promise<boolean> {
    const pauseMs = Math.max(PAUSE_MIN_MS, PAUSE_TIMES * tookMs)
    for (const untilMs = performance.now() + PATIENCE_MS; ;) {
      const share = this.#load()
      await this.#pause(pauseMs)
      if (this.#isStopped || !this.#mayMove()) return false
      if (share() < BUSY_SHARE) return true
      if (performance.now() > untilMs) return false
    }
  }

  #mayMove(): boolean {
    const { areNodesWell, mayTidyUp = () => true } = this.#options
    return areNodesWell() && mayTidyUp()
  }

  /** One at a time. Not a race with a promise of the end: each that it does not win would stay with it for as long as the mount lives. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isStopped) return resolve()
      const timer = this.#clock.after(ms, resolve)
      this.#wake = () => {
        timer.close()
        resolve()
      }
    })
  }
}
