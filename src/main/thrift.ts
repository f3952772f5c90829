/**
 * Keeps a mount's memory below what was promised (512 MiB). V8 lets garbage of old objects grow to a multiple of what lives, the more memory
 * the machine has, and seldom gives back pages on which little lives. So it is told how much may grow between two collections. While the process
 * has more than a limit, and its heap a good part of that, V8 is told to save memory: it lets still less grow, and empties such pages. That takes
 * CPU, so only then; it is no hard limit, of which a process would die. malloc keeps what was freed between what is in use; above a limit the
 * machine has those pages back. docs/performance.md, "Memory".
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { memoryAddon } from '../base/addon.js'
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
/** Of the process. */
export const TRIM_ABOVE_BYTES = 350 * MIB
/** Processor time of the process between two trims, which take some milliseconds each: an idle one has little to give back, and is to cost nothing. */
export const TRIM_EACH_CPU_MS = 200
export const LOOK_MS = 2_000

/** Of what lives, so much may be added until the next collection. Left to itself V8 takes up to three times what lives. */
const GROWING_PERCENT = 80
const THRIFTY_GROWING_PERCENT = 30

/** V8 asks for these flags whenever it decides about the heap; what else hangs on them is read when a process starts. */
export function saveMemory(isThrifty: boolean): void {
  setFlagsFromString(isThrifty ? '--optimize-for-size' : '--no-optimize-for-size')
  setFlagsFromString(`--heap-growing-percent=${isThrifty ? THRIFTY_GROWING_PERCENT : GROWING_PERCENT}`)
}

function memoryOfProcess(): MemoryUse {
  return { residentBytes: process.memoryUsage.rss(), heapBytes: getHeapStatistics().total_heap_size }
}

/** All threads, since it began. */
function cpuMsOfProcess(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** Where the addon is missing malloc keeps what it has. */
export function trimHeap(): void {
  memoryAddon()?.trimHeap()
}

/** Answers how to end it. */
export function watchMemory(
  clock: Clock,
  use = memoryOfProcess,
  save = saveMemory,
  trim = trimHeap,
  cpuMs = cpuMsOfProcess,
): () => void {
  let isThrifty = false
  let trimFromCpuMs = 0
  let timer: Timer
  save(isThrifty)
  const look = (): void => {
    const { residentBytes, heapBytes } = use()
    const limit = isThrifty ? THRIFTY_UNTIL : THRIFTY_ABOVE
    const wanted = residentBytes > limit.residentBytes && heapBytes > limit.heapBytes
    if (wanted !== isThrifty) save((isThrifty = wanted))
    if (residentBytes > TRIM_ABOVE_BYTES && cpuMs() >= trimFromCpuMs) {
      trim()
      trimFromCpuMs = cpuMs() + TRIM_EACH_CPU_MS
    }
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
