/**
 * Keeps a mount's memory below what was promised (512 MiB). V8 lets garbage of old objects grow to a multiple of what lives, the more memory
 * the machine has, and seldom gives back pages on which little lives. While the process has more than a limit, and its heap a good part of
 * that, V8 is told to save memory: it lets less grow between two collections, and empties such pages. That takes CPU, so only then; it is no
 * hard limit, of which a process would die. docs/performance.md, "Memory".
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { MIB } from '../base/limits.js'
import type { Clock, Timer } from '../base/clock.js'

/** Of the process, and of V8's heap with its garbage. */
export interface MemoryUse {
  readonly residentBytes: number
  readonly heapBytes: number
}

/** Saving begins above both. */
export const THRIFTY_ABOVE: MemoryUse = { residentBytes: 400 * MIB, heapBytes: 200 * MIB }
/** It ends below one of these: not the same, lest it changes with each look. */
export const THRIFTY_UNTIL: MemoryUse = { residentBytes: 350 * MIB, heapBytes: 170 * MIB }
export const LOOK_MS = 2_000

/** V8 asks for this flag whenever it decides about the heap; what else hangs on it is read when a process starts. */
export function saveMemory(isThrifty: boolean): void {
  setFlagsFromString(isThrifty ? '--optimize-for-size' : '--no-optimize-for-size')
}

export function memoryOfProcess(): MemoryUse {
  return { residentBytes: process.memoryUsage.rss(), heapBytes: getHeapStatistics().total_heap_size }
}

/** Answers how to end it; V8 is left as it is unless it saves. */
export function watchMemory(clock: Clock, use = memoryOfProcess, save = saveMemory): () => void {
  let isThrifty = false
  let timer: Timer
  const look = (): void => {
    const { residentBytes, heapBytes } = use()
    const limit = isThrifty ? THRIFTY_UNTIL : THRIFTY_ABOVE
    const wanted = residentBytes > limit.residentBytes && heapBytes > limit.heapBytes
    if (wanted !== isThrifty) save((isThrifty = wanted))
    wait()
  }
  const wait = (): void => {
    timer = clock.after(LOOK_MS, look)
    timer.unref()
  }
  wait()
  return () => {
    timer.close()
    if (isThrifty) save(false)
  }
}
