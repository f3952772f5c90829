import { RingfsError } from '../base/errors.js'

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
  readonly refuse: (error: Error) => void
}

/** So many bytes, given out in the order they were asked for. */
export class ByteBudget {
  readonly #limitBytes: number
  readonly #waiters = new Set<Waiter>()
  #usedBytes = 0
  #closed = false

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  /**
   * Waits until `bytes` (at most the whole budget counts) are free; `signalOf` is asked only if it has to. Errors: the signal's reason, CANCELLED when it
   * closes.
   */
  async take(bytes: number, signalOf: () => AbortSignal): Promise<void> {
    const wanted = this.#clamp(bytes)
    if (this.#closed) throw cancelled()
    if (this.#waiters.size === 0 && this.#usedBytes + wanted <= this.#limitBytes) {
      this.#usedBytes += wanted
      return
    }
    const signal = signalOf()
    signal.throwIfAborted()
    await this.#wait(wanted, signal)
  }

  give(bytes: number): void {
    this.#usedBytes -= this.#clamp(bytes)
    this.#grant()
  }

  close(): void {
    this.#closed = true
    for (const waiter of [...this.#waiters]) waiter.refuse(cancelled())
  }

  #wait(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => waiter.refuse(signal.reason instanceof Error ? signal.reason : cancelled())
      const leave = (): void => {
        this.#waiters.delete(waiter)
        signal.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        bytes,
        grant: () => {
          leave()
          resolve()
        },
        refuse: (error) => {
          leave()
          reject(error)
          this.#grant()
        },
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiters.add(waiter)
    })
  }

  #grant(): void {
    for (const waiter of this.#waiters) {
      if (this.#closed || this.#usedBytes + waiter.bytes > this.#limitBytes) return
      this.#usedBytes += waiter.bytes
      waiter.grant()
    }
  }

  #clamp(bytes: number): number {
    return Math.min(bytes, this.#limitBytes)
  }
}

function cancelled(): RingfsError {
  return new RingfsError('CANCELLED', 'the call was cancelled')
}
