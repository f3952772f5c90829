/**
 * One call that waits for a file lock: what it is told comes in from several sides (a message, the caller's signal, the end
 * of the session) and is taken out one by one, the most telling first.
 */
import type { Clock } from '../base/clock.js'
import type { FileLock } from './contract.js'

export type WaiterNews =
  /** The session ended: its place in the queue is gone, and the lock, should it have been granted. */
  | 'ended'
  /** The lock is ours. */
  | 'granted'
  /** The caller does not want to wait any longer. */
  | 'aborted'
  /** Messages may have been missed, or none has come for long. */
  | 'back'
  /** `holder` changed. */
  | 'moved'
  /** It was held back out of courtesy for long enough. */
  | 'impatient'

/** Nobody waits for a message that does not come: its place may have gone with a server, unnoticed. */
const QUIET_MS = 10_000
const ORDER: readonly WaiterNews[] = ['ended', 'granted', 'aborted', 'back', 'moved', 'impatient']

export class Waiter {
  readonly ticket: number
  readonly ino: number
  readonly lock: FileLock
  /** Of its caller. */
  readonly signal: AbortSignal | undefined
  /** The session in which it asked. */
  session = 0
  /** `session.owner` of a lock in the way; '' when it is only held back by others who wait. */
  holder = ''
  /** How often a message told the holder: a reply that was on its way meanwhile is older. */
  heard = 0
  hasEdge = false
  /** It was told to wait: from then on it may stand in the queue, also when it is refused as it asks again. */
  wasQueued = false
  readonly #news = new Set<WaiterNews>()
  #wake: (() => void) | undefined

  constructor(ticket: number, ino: number, lock: FileLock, signal?: AbortSignal) {
    this.ticket = ticket
    this.ino = ino
    this.lock = lock
    this.signal = signal
  }

  tell(news: WaiterNews): void {
    this.#news.add(news)
    this.#wake?.()
  }

  moved(holder: string): void {
    this.holder = holder
    this.heard++
    this.tell('moved')
  }

  async next(clock: Clock): Promise<WaiterNews> {
    for (;;) {
      const first = ORDER.find((news) => this.#news.delete(news))
      if (first !== undefined) return first
      const timer = clock.after(QUIET_MS, () => this.tell('back'))
      timer.unref()
      await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#wake = undefined
      timer.close()
    }
  }
}
