/**
 * Waiting until others have given back the delegation that is in the way of a change.
 *
 * Of all changes of a partition that wait, one is sent again and again: when something was given back, else after 5 to 50 ms. The
 * others wait for it, and are sent when it was not refused any more, or gave up.
 */
import type { Clock } from '../base/clock.js'

const PAUSE_FIRST_MS = 5
const PAUSE_MAX_MS = 50

export class Recalls {
  readonly #clock: Clock
  /** By partition: ends the pause of who probes it. */
  readonly #pausing = new Map<number, () => void>()
  /** By partition: done when whoever probes it is. */
  readonly #probing = new Map<number, Promise<void>>()
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
    this.#pausing.get(p)?.()
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
    while (leftMs > 0) {
      patience()
      const probing = this.#probing.get(p)
      if (probing === undefined) return await this.#probe(p, { change, refusedMs, patience, before, leftMs, beganMs })
      await probing
      before = this.#timesGivenBack(p)
      reply = await change()
      leftMs = refusedMs(reply)
    }
    this.#waited(beganMs)
    return reply
  }

  async #probe<T>(p: number, waiter: Waiter<T>): Promise<T> {
    const probe = this.#run(p, waiter)
    const probing = probe.then(nothing, nothing).finally(() => this.#probing.delete(p))
    this.#probing.set(p, probing)
    try {
      return await probe
    } finally {
      this.#waited(waiter.beganMs)
    }
  }

  async #run<T>(p: number, { change, refusedMs, patience, before, leftMs }: Waiter<T>): Promise<T> {
    for (let pauseMs = PAUSE_FIRST_MS; ; pauseMs = Math.min(PAUSE_MAX_MS, 2 * pauseMs)) {
      if (this.#timesGivenBack(p) === before) await this.#pause(p, Math.min(pauseMs, leftMs + 1))
      patience()
      before = this.#timesGivenBack(p)
      const reply = await change()
      leftMs = refusedMs(reply)
      if (leftMs === 0) return reply
    }
  }

  #timesGivenBack(p: number): number {
    return this.#givenBack.get(p) ?? 0
  }

  #waited(beganMs: number): void {
    if (this.waitedMs.length < 1_000) this.waitedMs.push(this.#clock.monotonicMs() - beganMs)
  }

  async #pause(p: number, ms: number): Promise<void> {
    const heard = new Promise<void>((wake) => this.#pausing.set(p, wake))
    await Promise.race([heard, this.#clock.sleep(ms)])
    this.#pausing.delete(p)
  }
}

interface Waiter<T> {
  readonly change: () => Promise<T>
  readonly refusedMs: (reply: T) => number
  readonly patience: () => void
  /** How often something had been given back when the change was sent last. */
  readonly before: number
  readonly leftMs: number
  readonly beganMs: number
}

function nothing(): void {
  /* Whether it failed is its own caller's concern. */
}
