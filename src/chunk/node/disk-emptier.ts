/**
 * Empties disks of a node, so that they can be taken out: what lies on them goes to its other disks.
 *
 *     moving --a walk finds nothing--> empty        (and back, if a later one does)
 *        +----a walk moves nothing---> stuck --there is room elsewhere, bad copies are replaced, all folders can be listed--> moving
 *
 * Which disks these are is said at each start of the node; nothing else is remembered: a walk goes on with what it finds.
 */
import type { Clock } from '../../base/clock.js'
import { hasCode, messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import { Repeats } from '../../base/repeats.js'
import { CHUNK_BUCKETS, type ListRequest } from '../contract.js'
import { idsOnDisk } from './digest.js'
import { listedOn, toError } from './disk-answers.js'
import type { NodeDisk } from './node-disk.js'
import type { Pace } from './pace.js'

/** Between two walks that find nothing to move. */
const PAUSE_MS = 10_000
/** While one waits for its disk another is read. */
const TOGETHER = 4

export type Leaving = 'no' | 'moving' | 'stuck' | 'empty'

/** How many bytes were moved; 'gone': it is not there any more; 'bad': its copy is not what it should be. Errors: no room elsewhere, say. */
export type Moved = number | 'gone' | 'bad'

export interface EmptierOptions {
  /** Volume uuid. */
  readonly volume: string
  readonly disk: NodeDisk
  /** To another disk of the node, on disk there before it is not on this one any more. */
  readonly move: (id: number) => Promise<Moved>
  /** Called when nothing is there any more, before that is said. */
  readonly onEmpty: () => Promise<void>
  /** Has a bad copy replaced, if others have a good one. */
  readonly onBad: (id: number) => Promise<void>
  readonly pace: Pace
  readonly clock: Clock
  readonly log: Log
}

export class DiskEmptier {
  readonly #options: EmptierOptions
  readonly #told: Repeats
  #state: Exclude<Leaving, 'no'> = 'moving'

  constructor(options: EmptierOptions) {
    this.#options = options
    this.#told = new Repeats(options.clock)
  }

  get state(): Leaving {
    return this.#state
  }

  /** Until it is told to end, or the disk fails. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { disk, clock, log } = this.#options
    while (!signal.aborted && disk.isUp) {
      try {
        if (await this.#walk(signal)) continue
      } catch (error) {
        if (hasCode(error, 'CANCELLED')) return
        this.#state = 'stuck'
        const err = messageOf(error)
        const times = this.#told.times(err)
        if (times > 0) log.warn({ folder: disk.folder, err, times }, 'a disk that is to be emptied is not, for now')
      }
      await pause(clock, signal)
    }
  }

  /** true: something was moved. */
  async #walk(signal: AbortSignal): Promise<boolean> {
    const { volume, disk } = this.#options
    let found = 0
    let moved = 0
    let failure: Error | undefined
    let gaps = 0
    const listed = { list: (request: ListRequest) => listedOn(disk, request) }
    for await (const ids of idsOnDisk(listed, volume, 0, CHUNK_BUCKETS, (buckets) => (gaps += buckets.length))) {
      for (let at = 0; at < ids.length; at += TOGETHER) {
        if (signal.aborted || !disk.isUp) return false
        const tried = await Promise.all(ids.slice(at, at + TOGETHER).map((id) => this.#tryMoving(id)))
        // Deleted meanwhile, or in a folder where nobody looks for it: neither is a reason to look again at once.
        found += tried.filter((one) => one !== 'gone').length
        moved += tried.filter((one) => one === true).length
        failure = tried.find((one) => one instanceof Error) ?? failure
      }
    }
    if (found + gaps === 0) await this.#empty()
    else if (moved > 0) this.#state = 'moving'
    else if (failure === undefined) this.#state = 'stuck'
    else throw failure
    return moved > 0
  }

  async #empty(): Promise<void> {
    if (this.#state === 'empty') return
    const { disk, log, onEmpty } = this.#options
    await onEmpty()
    this.#state = 'empty'
    log.info({ folder: disk.folder }, 'a disk is empty: it may be taken out')
  }

  async #tryMoving(id: number): Promise<boolean | 'gone' | Error> {
    try {
      return await this.#move(id)
    } catch (error) {
      return toError(error)
    }
  }

  /** false: it stays for now. */
  async #move(id: number): Promise<boolean | 'gone'> {
    const { move, onBad, pace } = this.#options
    const done = await pace.ready()
    let moved: Moved = 0
    try {
      moved = await move(id)
    } finally {
      done(typeof moved === 'number' ? moved : 0)
    }
    if (moved === 'gone') return 'gone'
    if (moved !== 'bad') return true
    await onBad(id)
    return false
  }
}

function pause(clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      timer.close()
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = clock.after(PAUSE_MS, end)
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
  })
}
