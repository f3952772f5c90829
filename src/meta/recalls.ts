/** Waiting until others have given back the delegation that is in the way of a change. */
import type { Clock } from '../base/clock.js'

const PAUSE_FIRST_MS = 5
const PAUSE_MAX_MS = 50

export class Recalls {
  readonly #clock: Clock
  readonly #waiting = new Map<number, (() => void)[]>()
  /** How often something was given back, by partition. */
  readonly #givenBack = new Map<number, number>()
  /** Milliseconds that changes waited, the first thousand. */
  readonly waitedMs: number[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Somebody gave back what he held of the partition. */
  givenBack(p: number): void {
    this.#givenBack.set(p, this.#timesGivenBack(p) + 1)
    const waiting = this.#waiting.get(p) ?? []
    this.#waiting.delete(p)
    for (const wake of waiting) wake()
  }

  /**
   * Runs the change again until it is not refused: `refusedMs` answers for how long holders may keep it from being done, 0 if
   * none did. That comes to an end, since nothing is granted while somebody waits. `patience` throws when it is too late.
   */
  async past<T>(
    p: number,
    change: () => Promise<T>,
    refusedMs: (reply: T) => number,
    patience: () => void,
  ): Promise<T> {
    // What is given back in answer to this recall may be heard of before the reply of the change comes.
    let before = this.#timesGivenBack(p)
    let reply = await change()
    let leftMs = refusedMs(reply)
    if (leftMs === 0) return reply
    const beganMs = this.#clock.monotonicMs()
    for (let pauseMs = PAUSE_FIRST_MS; leftMs > 0; pauseMs = Math.min(PAUSE_MAX_MS, 2 * pauseMs)) {
      patience()
      if (this.#timesGivenBack(p) === before) await this.#wait(p, Math.min(pauseMs, leftMs + 1))
      before = this.#timesGivenBack(p)
      reply = await change()
      leftMs = refusedMs(reply)
    }
    if (this.waitedMs.length < 1_000) this.waitedMs.push(this.#clock.monotonicMs() - beganMs)
    return reply
  }

  #timesGivenBack(p: number): number {
    return this.#givenBack.get(p) ?? 0
  }

  #wait(p: number, ms: number): Promise<void> {
    const heard = new Promise<void>((wake) => {
      const waiting = this.#waiting.get(p)
      if (waiting === undefined) this.#waiting.set(p, [wake])
      else waiting.push(wake)
    })
    return Promise.race([heard, this.#clock.sleep(ms)])
  }
}
