/**
 * Keeps to so many bytes a second, on average: who has spent more waits until that is made up for. Of many that wait only one begins at a
 * time, with the length that transfers have as a rule put down for it: else all of them would begin at once, again and again.
 */
import type { Clock } from '../../base/clock.js'
import { CHUNK_MAX_BYTES } from '../../base/limits.js'

/** A limit that was raised is noticed after so long. */
const LOOK_MS = 500
/** What was not used is not saved up for longer. */
const SAVED_MS = 1_000
/** Weight of the newest transfer in the average of their lengths. */
const SHARE = 0.3
/** What is shown is the average of about so long, in which somebody transferred or waited to: a pause says nothing about the next. */
const AVERAGE_MS = 10_000
/** Not looked at more often. */
const LEAST_MS = 1_000

export class Pace {
  readonly #clock: Clock
  readonly #bytesPerS: () => number
  #owedBytes = 0
  #paidMs: number
  #totalBytes = 0
  #usualBytes = CHUNK_MAX_BYTES
  #turn: Promise<void> = Promise.resolve()
  /** Transfers that wait or are under way, since when there are any, and how long there were before. */
  #inWork = 0
  #sinceMs = 0
  #busyMs = 0
  #seen = { atMs: 0, busyMs: 0, totalBytes: 0 }
  #average = { ms: 0, bytes: 0 }
  #isIdle = true

  /** `bytesPerS`: the limit of the moment; 0: none. */
  constructor(clock: Clock, bytesPerS: () => number) {
    this.#clock = clock
    this.#bytesPerS = bytesPerS
    this.#paidMs = clock.monotonicMs()
    this.#seen.atMs = this.#paidMs
  }

  /** Resolves when the next transfer may begin: its length need not be known. What it answers is to be told the length in the end, 0 for none. */
  async ready(): Promise<(bytes: number) => void> {
    let expected = 0
    this.#begin()
    this.#turn = this.#turn.then(async () => {
      await this.#room()
      expected = this.#usualBytes
      this.#owedBytes += expected
    })
    await this.#turn
    return (bytes) => {
      this.#end()
      this.#owedBytes += bytes - expected
      this.#totalBytes += bytes
      if (bytes > 0) this.#usualBytes += (bytes - this.#usualBytes) * SHARE
    }
  }

  async #room(): Promise<void> {
    for (;;) {
      const waitMs = this.#waitMs()
      if (waitMs <= 0) return
      await this.#clock.sleep(Math.min(LOOK_MS, waitMs))
    }
  }

  #waitMs(): number {
    const nowMs = this.#clock.monotonicMs()
    const limit = this.#bytesPerS()
    const passedMs = nowMs - this.#paidMs
    this.#paidMs = nowMs
    if (limit <= 0) {
      this.#owedBytes = 0
      return 0
    }
    this.#owedBytes = Math.max((-limit * SAVED_MS) / 1000, this.#owedBytes - (limit * passedMs) / 1000)
    return (this.#owedBytes / limit) * 1000
  }

  get totalBytes(): number {
    return this.#totalBytes
  }

  /** Average over the last seconds in which there was something to transfer; 0 when there is nothing. */
  get bytesPerS(): number {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#seen.atMs >= LEAST_MS) this.#look(nowMs)
    return this.#isIdle || this.#average.ms === 0 ? 0 : (this.#average.bytes / this.#average.ms) * 1000
  }

  #look(nowMs: number): void {
    const busyMs = this.#busyMs + (this.#inWork > 0 ? nowMs - this.#sinceMs : 0)
    const ms = busyMs - this.#seen.busyMs
    const bytes = this.#totalBytes - this.#seen.totalBytes
    const kept = Math.exp(-ms / AVERAGE_MS)
    this.#average = { ms: this.#average.ms * kept + ms, bytes: this.#average.bytes * kept + bytes }
    this.#seen = { atMs: nowMs, busyMs, totalBytes: this.#totalBytes }
    this.#isIdle = ms === 0
  }

  #begin(): void {
    if (this.#inWork++ === 0) this.#sinceMs = this.#clock.monotonicMs()
  }

  #end(): void {
    if (--this.#inWork === 0) this.#busyMs += this.#clock.monotonicMs() - this.#sinceMs
  }
}
