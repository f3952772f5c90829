/**
 * Housekeeping of the extents of a window. Most of them hidden by later ones: fewer that read the same take their place, which
 * moves no data; what is left names the same chunks, and chunks that nothing names any more are garbage of the store.
 * Many short ones: their bytes go into long chunks (packer.ts).
 *
 * Invariant: what is written meanwhile stays. The store appends later commits behind the extents that were read here, and
 * refuses the replacement if the window was truncated or compacted since.
 */
import { Cancellation } from '../base/cancel.js'
import type { Clock } from '../base/clock.js'
import { isErrno } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { MetaStore } from '../meta/contract.js'
import { CROWDED_CLOSED, ExtentMap, isCrowded, unusedChunks, type WindowMark } from './extent-map.js'
import { Lru } from './lru.js'
import type { PackDone, Packer } from './packer.js'
import { mayBeWorthIt } from './pack-plan.js'

/**
 * A window that is read again and again is looked at again so much later; where nothing in it was worth packing, and where that was not to be told.
 * Each look that leads to nothing, and reads up to all headers of the window for it, doubles that, until enough has come that it may be worth it.
 */
const PACK_LATER_MS = 600_000
const PACK_AGAIN_MS = 60_000
const PACK_LATER_MAX_MS = 86_400_000
const PACK_KNOWN_MAX = 10_000

/**
 * Who was slower than another client with a window packs nothing for some time between these: they read the same file, and would meet again at
 * the next one.
 */
const STAND_BACK_LEAST_MS = 10_000
const STAND_BACK_MOST_MS = 60_000
/** Each begins at some moment up to this: who comes later finds that another one is at it before he has written anything. */
const BEGIN_WITHIN_MS = 5_000
const BEGIN_STEP_MS = 250

/** Of a window whose packing was thought of. */
interface PackRest {
  /** Until when it is not looked at again. */
  readonly untilMs: number
  /** How long that was, after the last look that led to nothing; 0: there was none. */
  readonly restMs: number
  /** What it was at the last look that led to nothing. */
  readonly seen?: WindowMark | undefined
  /** Nothing of it is worth it while it is this. */
  readonly barren?: WindowMark | undefined
  /** Somebody was told that it fails. */
  readonly isTold: boolean
}

export interface CompactorDeps {
  readonly meta: MetaStore
  readonly packer: Packer
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly log: Log
  /** Asked before anything is written. */
  readonly mayTidyUp: () => boolean
  /** Of each, with the version that it made of contents that read the same. */
  readonly onDone: (ino: number, dataVersion: number) => void
  /** Of each packing, before `onDone`. */
  readonly onPacked: (ino: number, done: PackDone) => void
}

export class Compactor {
  readonly #deps: CompactorDeps
  /** One at a time: it is housekeeping. */
  #running: Promise<void> | undefined
  readonly #rests = new Lru<string, PackRest>(PACK_KNOWN_MAX)
  /** Until when nothing is packed, since somebody else does it. */
  #standsBackUntilMs = 0
  readonly #stopping = new Cancellation()

  constructor(deps: CompactorDeps) {
    this.#deps = deps
  }

  /** Most extents of the window are hidden. In the background; a window that is not its turn now is met again. */
  offer(ino: number, window: number): void {
    this.#begin(ino, window, () => this.#compact(ino, window))
  }

  /** A read met pieces of many chunks. As `offer`. `mark`: what the window was. */
  offerScattered(ino: number, window: number, mark: WindowMark): void {
    if (this.#running !== undefined) return
    const key = `${ino}/${window}`
    const nowMs = this.#deps.clock.monotonicMs()
    if (this.#standsBackUntilMs > nowMs) return
    const rest = this.#rests.get(key) ?? { untilMs: 0, restMs: 0, isTold: false }
    const lookedMs = rest.untilMs - rest.restMs
    const isOther = rest.seen !== undefined && mayBeWorthIt(rest.seen, mark)
    if (rest.untilMs > nowMs && !(isOther && lookedMs + PACK_AGAIN_MS <= nowMs)) return
    this.#rests.set(key, { ...rest, untilMs: nowMs + PACK_AGAIN_MS })
    this.#begin(ino, window, async () => {
      const next = await this.#pack(ino, window, isOther ? { ...rest, restMs: 0, seen: undefined } : rest, mark)
      this.#rests.set(key, { ...next, untilMs: this.#deps.clock.monotonicMs() + next.untilMs })
    })
  }

  /** Begins nothing more, and waits for what is under way. */
  async stop(): Promise<void> {
    this.#stopping.cancel()
    await this.#running
  }

  #begin(ino: number, window: number, work: () => Promise<void>): void {
    if (this.#stopping.aborted) return
    this.#running ??= work()
      .catch((error: unknown) => this.#failed(ino, window, error))
      .finally(() => (this.#running = undefined))
  }

  async #compact(ino: number, window: number): Promise<void> {
    const { meta, log, mayTidyUp, onDone } = this.#deps
    if (!mayTidyUp()) return
    const old = await meta.extents(ino, window)
    const map = new ExtentMap(old.extents)
    if (!isCrowded(old.extents.length, map.pieces, CROWDED_CLOSED)) return
    const extents = map.seen()
    const version = await meta.compact(ino, old, extents, unusedChunks(old.extents, extents), 0)
    if (version !== null) onDone(ino, version)
    const done = version !== null
    log.debug({ ino, window, before: old.extents.length, after: extents.length, done }, 'extents compacted')
  }

  /** Its `untilMs` is from now on. */
  async #pack(ino: number, window: number, rest: PackRest, met: WindowMark): Promise<PackRest> {
    await this.#begins()
    const { packer, log, clock, random, onDone, onPacked } = this.#deps
    const { restMs, barren } = rest
    let made = 0
    try {
      const { why, mark, isFinal } = await packer.pack(ino, window, { met, barren }, this.#stopping, (done) => {
        made++
        onPacked(ino, done)
        onDone(ino, done.version)
        log.debug({ ino, window }, 'short chunks packed')
      })
      if (why === 'lost') {
        const backMs = STAND_BACK_LEAST_MS + random() * (STAND_BACK_MOST_MS - STAND_BACK_LEAST_MS)
        this.#standsBackUntilMs = clock.monotonicMs() + backMs
      }
      if (why === 'early' || why === 'lost') return { ...rest, untilMs: PACK_AGAIN_MS }
      const next = { ...rest, seen: mark ?? rest.seen, barren: isFinal === true ? mark : barren }
      if (made > 0) return { ...next, untilMs: PACK_LATER_MS, restMs: 0, isTold: false }
      const nextMs = why === 'barren' ? longer(restMs, PACK_LATER_MS) : Math.max(restMs, PACK_LATER_MS)
      return { ...next, untilMs: nextMs, restMs: why === 'barren' ? nextMs : restMs }
    } catch (error) {
      this.#failed(ino, window, error, rest.isTold)
      const nextMs = longer(restMs, PACK_AGAIN_MS)
      return { ...rest, untilMs: nextMs, restMs: nextMs, isTold: true }
    }
  }

  /** In steps: the mount may end. */
  async #begins(): Promise<void> {
    const { clock, random } = this.#deps
    for (let leftMs = random() * BEGIN_WITHIN_MS; leftMs > 0 && !this.#stopping.aborted; leftMs -= BEGIN_STEP_MS) {
      await clock.sleep(Math.min(leftMs, BEGIN_STEP_MS))
    }
  }

  /** `isTold`: it was said of this window before. */
  #failed(ino: number, window: number, error: unknown, isTold = false): void {
    const level = isTold || isErrno(error, 'ENOENT') ? 'debug' : 'warn'
    this.#deps.log[level]({ ino, window, error: messageOf(error) }, 'compaction failed')
  }
}

function longer(restMs: number, leastMs: number): number {
  return Math.min(PACK_LATER_MAX_MS, Math.max(leastMs, 2 * restMs))
}
