/**
 * The network between simulated machines: every message takes a time of its own (so they overtake each other), may be lost, late or
 * doubled, and a direction between two machines may be cut.
 */
import type { Scheduler } from './scheduler.js'

export interface Weather {
  /** 0 to 1, of all messages. */
  readonly loss: number
  readonly doubled: number
  /** Late by up to LATE_MAX_MS. */
  readonly late: number
}

export const FAIR: Weather = { loss: 0, doubled: 0, late: 0 }

const FASTEST_MS = 0.2
const SPREAD_MS = 2
const LATE_MAX_MS = 4_000

export class SimulatedNetwork {
  weather: Weather = FAIR
  messages = 0
  lost = 0
  readonly #scheduler: Scheduler
  readonly #random: () => number
  /** `from>to` */
  readonly #cuts = new Set<string>()
  /** Machines that reach nobody and are reached by nobody. */
  readonly #isolated = new Set<string>()

  constructor(scheduler: Scheduler, random: () => number) {
    this.#scheduler = scheduler
    this.#random = random
  }

  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`)
  }

  mend(from: string, to: string): void {
    this.#cuts.delete(`${from}>${to}`)
  }

  isolate(machine: string): void {
    this.#isolated.add(machine)
  }

  rejoin(machine: string): void {
    this.#isolated.delete(machine)
  }

  mendAll(): void {
    this.#cuts.clear()
    this.#isolated.clear()
    this.weather = FAIR
  }

  /** `arrive` may be called once, twice or never. */
  send(from: string, to: string, arrive: () => void): void {
    this.messages++
    if (from === to) {
      this.#scheduler.later(0, arrive)
      return
    }
    const { loss, doubled, late } = this.weather
    if (this.#isCut(from, to) || (loss > 0 && this.#random() < loss)) {
      this.lost++
      return
    }
    this.#scheduler.later(this.#delayMs(late), arrive)
    if (doubled > 0 && this.#random() < doubled) this.#scheduler.later(this.#delayMs(late), arrive)
  }

  #isCut(from: string, to: string): boolean {
    if (this.#isolated.size > 0 && (this.#isolated.has(from) || this.#isolated.has(to))) return true
    return this.#cuts.size > 0 && this.#cuts.has(`${from}>${to}`)
  }

  #delayMs(late: number): number {
    const usual = FASTEST_MS + this.#random() * SPREAD_MS
    return late > 0 && this.#random() < late ? usual + this.#random() * LATE_MAX_MS : usual
  }
}
