/**
 * Simulated time: events in the order of their times, and after each of them every promise runs until none can go on. Nothing here
 * waits for anything real, so the same events always happen in the same order.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock, TimeSpec, Timer } from '../../src/base/clock.js'

/** What comes at its time, unless nobody waits for it any more. */
class Event implements Timer {
  readonly atMs: number
  /** Of two events at one time the one that was asked for first comes first. */
  readonly number: number
  /** To whom it is given. */
  readonly #process: SimulatedProcess | null
  #work: (() => void) | null

  constructor(atMs: number, number: number, process: SimulatedProcess | null, work: () => void) {
    this.atMs = atMs
    this.number = number
    this.#process = process
    this.#work = work
  }

  get isClosed(): boolean {
    return this.#work === null
  }

  close(): void {
    this.#work = null
  }

  unref(): void {
    // Nothing waits for the real event loop.
  }

  come(): void {
    if (this.#process === null) this.occur()
    else this.#process.take(this)
  }

  /** It may have been closed while its process was paused. */
  occur(): void {
    this.#work?.()
  }
}

/** Wall clock at simulated time 0, ms since 1970. */
export const EPOCH_MS = 1_700_000_000_000
/** Events between two looks of the real event loop: so that a signal is heard. */
const BATCH = 4_000
/** Events of so long a time are kept together until it comes: most of them are deadlines, and closed long before. */
const SPAN_MS = 500

const RESOLVED = Promise.resolve()

export class Scheduler {
  nowMs = 0
  events = 0
  #number = 0
  /** A binary heap, the earliest first, of those before `#nearMs`. */
  readonly #heap: Event[] = []
  #nearMs = 0
  /** The others, by the span in which they come. */
  readonly #far = new Map<number, Event[]>()

  later(ms: number, work: () => void, process: SimulatedProcess | null = null): Timer {
    const event = new Event(this.nowMs + Math.max(0, ms), this.#number++, process, work)
    if (event.atMs < this.#nearMs) this.#push(event)
    else this.#keep(event)
    return event
  }

  #keep(event: Event): void {
    const span = Math.floor(event.atMs / SPAN_MS)
    const others = this.#far.get(span)
    if (others === undefined) this.#far.set(span, [event])
    else others.push(event)
  }

  /** Resolves when it is `untilMs`, or as soon as `isOver` says so after an event. */
  async run(untilMs: number, isOver: () => boolean = () => false): Promise<void> {
    while (await this.#batch(untilMs, isOver)) await turn()
  }

  /** true: there is more. */
  #batch(untilMs: number, isOver: () => boolean): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let left = BATCH
      const step = (): void => {
        const event = this.#next()
        if (isOver() || event === undefined || event.atMs > untilMs) {
          if (!isOver()) this.nowMs = Math.max(this.nowMs, untilMs)
          resolve(false)
          return
        }
        this.#pop()
        this.nowMs = event.atMs
        this.events++
        try {
          event.come()
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
          return
        }
        // Ticks run when no microtask is left, and only then: a tick asked for by a microtask comes after all promises that can go on.
        if (--left > 0) void RESOLVED.then(soon)
        else void RESOLVED.then(() => process.nextTick(resolve, true))
      }
      const soon = (): void => process.nextTick(step)
      // The first step must not run inside a promise that others wait behind.
      void RESOLVED.then(soon)
    })
  }

  /** Of those that somebody waits for. */
  #next(): Event | undefined {
    for (;;) {
      const first = this.#heap[0]
      if (first === undefined) {
        if (this.#far.size === 0) return undefined
        this.#approach()
      } else if (first.isClosed) this.#pop()
      else return first
    }
  }

  /** The next span is near from now on. */
  #approach(): void {
    let span = Math.floor(this.#nearMs / SPAN_MS)
    while (!this.#far.has(span)) span++
    for (const event of this.#far.get(span) ?? []) if (!event.isClosed) this.#push(event)
    this.#far.delete(span)
    this.#nearMs = (span + 1) * SPAN_MS
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const up = (at - 1) >>> 1
      const parent = heap[up]
      if (parent === undefined || !isBefore(event, parent)) break
      heap[at] = parent
      at = up
    }
    heap[at] = event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      const left = 2 * at + 1
      const [one, two] = [heap[left], heap[left + 1]]
      if (one === undefined) break
      const [child, place] = two !== undefined && isBefore(two, one) ? [two, left + 1] : [one, left]
      if (!isBefore(child, last)) break
      heap[at] = child
      at = place
    }
    heap[at] = last
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.number < b.number)
}

/**
 * One start of a process. Everything that it does comes from an event that was given to it: when it is killed it gets none any more,
 * while it is paused (SIGSTOP) they wait.
 */
export class SimulatedProcess {
  readonly #scheduler: Scheduler
  #isAlive = true
  #isPaused = false
  #waiting: Event[] = []

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  later(ms: number, work: () => void): Timer {
    return this.#scheduler.later(ms, work, this)
  }

  /** Now, or when it goes on, or never. */
  give(work: () => void): void {
    if (!this.#isAlive) return
    if (this.#isPaused) this.#waiting.push(new Event(0, 0, this, work))
    else work()
  }

  /** As give. */
  take(event: Event): void {
    if (!this.#isAlive) return
    if (this.#isPaused) this.#waiting.push(event)
    else event.occur()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    for (const event of this.#waiting.splice(0)) this.#scheduler.later(0, () => this.take(event))
  }

  kill(): void {
    this.#isAlive = false
    this.#waiting = []
  }
}

/** The clock of one process. Its wall clock may be wrong; milliseconds pass for all alike. */
export class SimulatedClock implements Clock {
  readonly #scheduler: Scheduler
  readonly #process: SimulatedProcess
  readonly #wrongMs: number

  constructor(scheduler: Scheduler, process: SimulatedProcess, wrongMs = 0) {
    this.#scheduler = scheduler
    this.#process = process
    this.#wrongMs = wrongMs
  }

  now(): TimeSpec {
    const ms = EPOCH_MS + this.#wrongMs + this.#scheduler.nowMs
    return { sec: Math.floor(ms / 1000), nsec: Math.floor((ms % 1000) * 1e6) }
  }

  monotonicMs(): number {
    return this.#scheduler.nowMs
  }

  wallMs(): number {
    return EPOCH_MS + this.#wrongMs + this.#scheduler.nowMs
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#process.later(ms, resolve))
  }

  after(ms: number, work: () => void): Timer {
    return this.#process.later(ms, work)
  }
}
