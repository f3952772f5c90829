/**
 * Memory that was given back, to be used again, by size. What nobody needed between two looks is dropped: after a burst a pool would keep as
 * much as the burst needed.
 */
import { systemClock, type Clock, type Timer } from './clock.js'

export interface FreeListOptions {
  /** What is given back beyond it is dropped at once. */
  readonly keepBytes: number
  readonly clock?: Pick<Clock, 'after'>
}

const LOOK_MS = 10_000

export class FreeList<Memory> {
  readonly #keepBytes: number
  readonly #clock: Pick<Clock, 'after'>
  readonly #bySize = new Map<number, Memory[]>()
  #freeBytes = 0
  /** The least that was free since the last look. */
  #leastBytes = 0
  #timer: Timer | undefined

  constructor({ keepBytes, clock = systemClock }: FreeListOptions) {
    this.#keepBytes = keepBytes
    this.#clock = clock
  }

  get freeBytes(): number {
    return this.#freeBytes
  }

  take(sizeBytes: number): Memory | undefined {
    const memory = this.#bySize.get(sizeBytes)?.pop()
    if (memory === undefined) return undefined
    this.#freeBytes -= sizeBytes
    this.#leastBytes = Math.min(this.#leastBytes, this.#freeBytes)
    return memory
  }

  give(sizeBytes: number, memory: Memory): void {
    if (this.#freeBytes + sizeBytes > this.#keepBytes) return
    const list = this.#bySize.get(sizeBytes)
    if (list === undefined) this.#bySize.set(sizeBytes, [memory])
    else list.push(memory)
    this.#freeBytes += sizeBytes
    this.#timer ??= this.#lookLater()
  }

  #lookLater(): Timer {
    const timer = this.#clock.after(LOOK_MS, () => {
      this.#drop(this.#leastBytes)
      this.#leastBytes = this.#freeBytes
      this.#timer = this.#freeBytes > 0 ? this.#lookLater() : undefined
    })
    timer.unref()
    return timer
  }

  /** Not more than `bytes`. */
  #drop(bytes: number): void {
    let left = bytes
    for (const [sizeBytes, list] of this.#bySize) {
      while (list.length > 0 && sizeBytes <= left) {
        list.pop()
        left -= sizeBytes
        this.#freeBytes -= sizeBytes
      }
    }
  }
}
