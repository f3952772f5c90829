/**
 * Places that threads share: who is about to compute for a while takes one, so that a processor is left to what programs wait for just now.
 *
 * A courtesy and no lock: who has waited for long goes on without one. A thread that is ended keeps its place for ever.
 */
const WAIT_MAX_MS = 100

/** How many are free. Travels to threads as it is. */
export type ThreadPlaces = Int32Array

export function threadPlaces(count: number): ThreadPlaces {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)).fill(count)
}

/** The calling thread sleeps until there is a place. */
export function inPlace<T>(places: ThreadPlaces, work: () => T, waitMaxMs = WAIT_MAX_MS): T {
  const isTaken = take(places, waitMaxMs)
  try {
    return work()
  } finally {
    if (isTaken) give(places)
  }
}

function take(places: ThreadPlaces, waitMaxMs: number): boolean {
  const endMs = performance.now() + waitMaxMs
  for (;;) {
    const free = Atomics.load(places, 0)
    if (free > 0) {
      if (Atomics.compareExchange(places, 0, free, free - 1) === free) return true
      continue
    }
    const leftMs = endMs - performance.now()
    if (leftMs <= 0) return false
    Atomics.wait(places, 0, free, leftMs)
  }
}

function give(places: ThreadPlaces): void {
  Atomics.add(places, 0, 1)
  Atomics.notify(places, 0, 1)
}
