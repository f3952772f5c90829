/**
 * Memory that was given back, to be used again, by size. Of what nobody needed between two looks the machine has the pages back: after a
 * burst a pool would keep as much as the burst needed. It stays in the list, for what is dropped is there until the next collection, and V8
 * does not count it when it decides about one.
 */
import { memoryAddon } from './addon.js'
import { systemClock, type Clock, type Timer } from './clock.js'

export interface FreeListOptions {
  /** What is given back beyond it is dropped, without its pages. */
  readonly keepBytes: number
  readonly clock?: Pick<Clock, 'after'>
  /** Default: releasePages. */
  readonly release?: (memory: Memory) => void
}

export type Memory = Buffer | SharedArrayBuffer

/** Of one size. */
interface Pieces<M> {
  /** What was given back last is taken first. */
  readonly list: M[]
  /** So many from the front have no pages. */
  cold: number
  /** The least that there were since the last look. */
  least: number
}

const LOOK_MS = 10_000

/** Where the addon is missing it stays as it is. */
export function releasePages(memory: Memory): void {
  memoryAddon()?.releasePages(Buffer.isBuffer(memory) ? memory : Buffer.from(memory))
}

export class FreeList<M extends Memory> {
  readonly #keepBytes: number
  readonly #clock: Pick<Clock, 'after'>
  readonly #release: (memory: Memory) => void
  readonly #bySize = new Map<number, Pieces<M>>()
  #freeBytes = 0
  #timer: Timer | undefined

  constructor({ keepBytes, clock = systemClock, release = releasePages }: FreeListOptions) {
    this.#keepBytes = keepBytes
    this.#clock = clock
    this.#release = release
  }

  get freeBytes(): number {
    return this.#freeBytes
  }

  take(sizeBytes: number): M | undefined {
    const pieces = this.#bySize.get(sizeBytes)
    const memory = pieces?.list.pop()
    if (pieces === undefined || memory === undefined) return undefined
    this.#freeBytes -= sizeBytes
    pieces.least = Math.min(pieces.least, pieces.list.length)
    pieces.cold = Math.min(pieces.cold, pieces.list.length)
    return memory
  }

  give(sizeBytes: number, memory: M): void {
    this.#makeRoom(sizeBytes)
    if (this.#freeBytes + sizeBytes > this.#keepBytes) {
      this.#release(memory)
      return
    }
    const pieces = this.#bySize.get(sizeBytes)
    if (pieces === undefined) this.#bySize.set(sizeBytes, { list: [memory], cold: 0, least: 0 })
    else pieces.list.push(memory)
    this.#freeBytes += sizeBytes
    this.#timer ??= this.#lookLater()
  }

  /** What has no pages must not keep out what is in use. */
  #makeRoom(bytes: number): void {
    for (const [sizeBytes, pieces] of this.#bySize) {
      const over = this.#freeBytes + bytes - this.#keepBytes
      if (over <= 0) return
      const count = Math.min(pieces.cold, Math.ceil(over / sizeBytes))
      pieces.list.splice(0, count)
      pieces.cold -= count
      pieces.least = Math.max(0, pieces.least - count)
      this.#freeBytes -= count * sizeBytes
    }
  }

  #lookLater(): Timer {
    const timer = this.#clock.after(LOOK_MS, () => {
      let isWarm = false
      for (const pieces of this.#bySize.values()) {
        const { list, least } = pieces
        for (const memory of list.slice(pieces.cold, least)) this.#release(memory)
        pieces.cold = Math.max(pieces.cold, least)
        pieces.least = list.length
        isWarm ||= pieces.cold < list.length
      }
      this.#timer = isWarm ? this.#lookLater() : undefined
    })
    timer.unref()
    return timer
  }
}
