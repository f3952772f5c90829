/**
 * Housekeeping of the extents of a window. Most of them hidden by later ones: fewer that read the same take their place, which
 * moves no data; what is left names the same chunks, and chunks that nothing names any more are garbage of the store.
 * Many short ones: their bytes go into long chunks (packer.ts).
 *
 * Invariant: what is written meanwhile stays. The store appends later commits behind the extents that were read here, and
 * refuses the replacement if the window was truncated or compacted since.
 */
import type { Clock } from '../base/clock.js'
import { isErrno } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { MetaStore } from '../meta/contract.js'
import { CROWDED_CLOSED, ExtentMap, isCrowded, seenExtents, unusedChunks } from './extent-map.js'
import { Lru } from './lru.js'
import type { Packer } from './packer.js'

/** A window that is read again and again is looked at again so much later; where nothing in it was worth packing, and where that was not to be told. */
const PACK_LATER_MS = 600_000
const PACK_AGAIN_MS = 60_000
const PACK_KNOWN_MAX = 1_000

export interface CompactorDeps {
  readonly meta: MetaStore
  readonly packer: Packer
  readonly clock: Clock
  readonly log: Log
  /** Of each, with the version that it made of contents that read the same. */
  readonly onDone: (ino: number, dataVersion: number) => void
}

export class Compactor {
  readonly #deps: CompactorDeps
  /** One at a time: it is housekeeping. */
  #running: Promise<void> | undefined
  /** Until when a window is not looked at again. */
  readonly #restsUntilMs = new Lru<string, number>(PACK_KNOWN_MAX)
  #isStopped = false

  constructor(deps: CompactorDeps) {
    this.#deps = deps
  }

  /** Most extents of the window are hidden. In the background; a window that is not its turn now is met again. */
  offer(ino: number, window: number): void {
    this.#begin(ino, window, () => this.#compact(ino, window))
  }

  /** A read met pieces of many chunks. As `offer`. */
  offerScattered(ino: number, window: number): void {
    if (this.#running !== undefined) return
    const key = `${ino}/${window}`
    const nowMs = this.#deps.clock.monotonicMs()
    if ((this.#restsUntilMs.get(key) ?? 0) > nowMs) return
    this.#restsUntilMs.set(key, nowMs + PACK_AGAIN_MS)
    this.#begin(ino, window, async () => {
      if (await this.#pack(ino, window)) this.#restsUntilMs.set(key, this.#deps.clock.monotonicMs() + PACK_LATER_MS)
    })
  }

  /** Begins nothing more, and waits for what is under way. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#running
  }

  #begin(ino: number, window: number, work: () => Promise<void>): void {
    if (this.#isStopped) return
    this.#running ??= work()
      .catch((error: unknown) => {
        const level = isErrno(error, 'ENOENT') ? 'debug' : 'warn'
        this.#deps.log[level]({ ino, window, error: messageOf(error) }, 'compaction failed')
      })
      .finally(() => (this.#running = undefined))
  }

  async #compact(ino: number, window: number): Promise<void> {
    const { meta, log, onDone } = this.#deps
    const old = await meta.extents(ino, window)
    const map = new ExtentMap(old.extents)
    if (!isCrowded(old.extents.length, map.pieces, CROWDED_CLOSED)) return
    const extents = seenExtents(map, window)
    const version = await meta.compact(ino, old, extents, unusedChunks(old.extents, extents), 0)
    if (version !== null) onDone(ino, version)
    const done = version !== null
    log.debug({ ino, window, before: old.extents.length, after: extents.length, done }, 'extents compacted')
  }

  #pack(ino: number, window: number): Promise<boolean> {
    const { packer, log, onDone } = this.#deps
    return packer.pack(
      ino,
      window,
      () => this.#isStopped,
      (version) => {
        onDone(ino, version)
        log.debug({ ino, window }, 'short chunks packed')
      },
    )
  }
}
