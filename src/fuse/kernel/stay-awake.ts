/**
 * Keeps idle processors from going to sleep while a program does nothing but wait for this mount: it makes one call after the other, and
 * for each of them it, the mount, Redis and the nodes are woken in turn. On a virtual machine waking a processor that sleeps takes longer than
 * what it then does.
 *
 * Invariants: nothing is held without requests that follow each other closely, and nothing for longer than IDLE_MS after the last of them, or
 * HUNG_MS after a request that is not answered. Who works for longer than TIGHT_MS between two calls is not waiting for us.
 */
import { systemClock, type Clock, type Timer } from '../../base/clock.js'
import { isSlowToWake, openCpuLatency, type CpuLatency } from '../../base/cpu-latency.js'
import type { MountOptions } from '../driver.js'

/** Between an answer, or a request, and the next request. */
const TIGHT_MS = 0.5
/** So many of them in a row. */
const STREAK = 4
const IDLE_MS = 2
const HUNG_MS = 50
/** With `auto`: so many are kept awake at most. */
const CPUS_MAX = 4

/** null: not here. */
export function startStayingAwake({ stayAwake = 'auto', metrics }: MountOptions): StayAwake | null {
  if (stayAwake === 'off' || (stayAwake === 'auto' && !isSlowToWake(CPUS_MAX))) return null
  const latency = openCpuLatency()
  if (latency === null) return null
  const awake = new StayAwake(latency, systemClock)
  metrics?.counter('awake.ms', () => Math.round(awake.heldMs))
  return awake
}

export class StayAwake {
  readonly #latency: CpuLatency
  readonly #clock: Clock
  #lastMs = -Infinity
  #streak = 0
  #underWay = 0
  /** Of these, those that the requests of now came beside: they wait for a file lock, say, for as long as that takes. */
  #beside = 0
  #heldSinceMs: number | undefined
  #heldMs = 0
  #timer: Timer | undefined

  constructor(latency: CpuLatency, clock: Clock) {
    this.#latency = latency
    this.#clock = clock
  }

  /** For how long altogether. */
  get heldMs(): number {
    return this.#heldMs + (this.#heldSinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#heldSinceMs)
  }

  /** A request came; it is not under way yet. */
  asked(): void {
    const nowMs = this.#clock.monotonicMs()
    const isTight = nowMs - this.#lastMs < TIGHT_MS
    this.#streak = isTight ? this.#streak + 1 : 0
    this.#beside = isTight ? Math.min(this.#beside, this.#underWay) : this.#underWay
    this.#lastMs = nowMs
    if (this.#streak >= STREAK && this.#heldSinceMs === undefined) this.#hold(nowMs)
  }

  answered(): void {
    this.#lastMs = this.#clock.monotonicMs()
  }

  /** So many requests wait for somebody else's answer. */
  underWay(count: number): void {
    this.#underWay = count
  }

  close(): void {
    if (this.#heldSinceMs !== undefined) this.#release()
    this.#latency.close()
  }

  #hold(nowMs: number): void {
    this.#heldSinceMs = nowMs
    this.#latency.hold()
    this.#lookLater(IDLE_MS)
  }

  #release(): void {
    this.#heldMs = this.heldMs
    this.#heldSinceMs = undefined
    this.#streak = 0
    this.#timer?.close()
    this.#latency.release()
  }

  #lookLater(ms: number): void {
    this.#timer = this.#clock.after(ms, () => this.#look())
    this.#timer.unref()
  }

  #look(): void {
    const leftMs = this.#lastMs + (this.#underWay > this.#beside ? HUNG_MS : IDLE_MS) - this.#clock.monotonicMs()
    if (leftMs <= 0) this.#release()
    // One that ends meanwhile leaves IDLE_MS more.
    else this.#lookLater(Math.min(leftMs, IDLE_MS))
  }
}
