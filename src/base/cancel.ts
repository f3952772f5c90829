/**
 * Telling work that nobody waits for it any more: the part of AbortSignal that is used for it, and a source of it that costs
 * a hundredth. An AbortController is an EventTarget, and its abort() makes an Event and often a DOMException with a stack: 20
 * to 30 microseconds for each call of a node, where the call itself takes a hundred.
 */
export interface CancelSignal {
  readonly aborted: boolean
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** Listeners are called once, in order, in the tick of cancel(). They do not throw. */
export class Cancellation implements CancelSignal {
  #aborted = false
  #listeners: (() => void)[] = []

  get aborted(): boolean {
    return this.#aborted
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    if (!this.#aborted) this.#listeners.push(listener)
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    const at = this.#listeners.indexOf(listener)
    if (at >= 0) this.#listeners.splice(at, 1)
  }

  /** Idempotent. */
  cancel(): void {
    if (this.#aborted) return
    this.#aborted = true
    for (const listener of this.#listeners.splice(0)) listener()
  }
}

/** Runs `work` with a signal that is aborted with `outer`, and when the work has settled: that is told to what it left behind, too. */
export async function whileWanted<T>(
  outer: CancelSignal | undefined,
  work: (signal: CancelSignal) => Promise<T>,
): Promise<T> {
  const over = new Cancellation()
  const end = (): void => over.cancel()
  if (outer?.aborted === true) end()
  outer?.addEventListener('abort', end, { once: true })
  try {
    return await work(over)
  } finally {
    outer?.removeEventListener('abort', end)
    end()
  }
}
