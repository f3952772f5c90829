/**
 * Sees to it that the cluster makes up for a disk that a node has lost: it is looked at from time to time, and when it has failed all
 * nodes are asked to walk their chunks, which finds what this node lacks now.
 *
 * Invariant: the walk is asked for after the disk has failed (node-disk.ts), again and again until Redis has said yes. So what it had
 * is missed by whoever walks, and what was written since lies on another disk.
 */
import { systemClock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { NodeDisks } from '../chunk/node/disks.js'
import { askForWalk } from '../cluster/membership.js'
import type { Volume } from './volume.js'

const LOOK_MS = 5_000
/** Every so many looks it must also write, and have it on disk: a disk that nobody uses dies unnoticed. */
const WRITE_EVERY = 6
const RETRY_MS = 2_000

export class DiskWatch {
  readonly #volume: Volume
  #disks: NodeDisks | null = null
  #isStopped = false
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()
  #asking: Promise<void> | null = null
  #isWanted = false
  #onLost: (error: RingfsError) => void = () => undefined
  /** Resolves when no disk works any more: this node has nothing to serve. */
  readonly lost = new Promise<RingfsError>((resolve) => (this.#onLost = resolve))

  constructor(volume: Volume) {
    this.#volume = volume
  }

  /** Once they are open. `isShort`: a disk that the node had is not among them, or something on one may be lost. */
  start(disks: NodeDisks, isShort: boolean): void {
    this.#disks = disks
    const { metrics } = this.#volume
    for (const state of ['up', 'failed', 'missing'] as const) {
      metrics.gauge(`disks.${state}`, () => disks.states().filter((one) => one.state === state).length)
    }
    if (isShort || disks.isDamaged || disks.states().some(({ state }) => state !== 'up')) this.#ask()
    metrics.gauge('disks.damaged', () => disks.states().reduce((sum, { damaged }) => sum + damaged, 0))
    metrics.gauge('disks.unlisted', () => disks.states().reduce((sum, { unlisted }) => sum + unlisted, 0))
    this.#judge()
    this.#schedule(1)
  }

  /** Folders of a disk cannot be listed: what is lost with them is missed by others. */
  unlisted(): void {
    this.#ask()
  }

  /** A disk has failed. */
  failed(): void {
    this.#ask()
    this.#judge()
  }

  #judge(): void {
    if (this.#disks?.live.length !== 0) return
    this.#onLost(
      new RingfsError(
        'NODE_DISKS_LOST',
        'every disk of this node has failed: it serves nothing until it is started again',
      ),
    )
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#timer)
    await Promise.all([this.#looking, this.#asking])
  }

  #schedule(look: number): void {
    if (this.#isStopped) return
    this.#timer = setTimeout(() => {
      this.#looking = (this.#disks?.check(look % WRITE_EVERY === 0) ?? Promise.resolve()).finally(() =>
        this.#schedule(look + 1),
      )
    }, LOOK_MS).unref()
  }

  #ask(): void {
    this.#isWanted = true
    this.#asking ??= this.#askUntilHeard().finally(() => (this.#asking = null))
  }

  async #askUntilHeard(): Promise<void> {
    const { redis, settings, watcher, log } = this.#volume
    while (this.#isWanted && !this.#isStopped) {
      this.#isWanted = false
      try {
        await askForWalk(redis, settings.name)
        await watcher.refresh()
      } catch (error) {
        log.warn({ err: messageOf(error) }, 'nobody walks for what the lost disk had, yet: asked again')
        this.#isWanted = true
        await systemClock.sleep(RETRY_MS)
      }
    }
  }
}
