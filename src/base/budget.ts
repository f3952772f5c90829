/** Room for bytes, and places for tasks. Both are first come, first served: a large request is not starved by small ones. */
import { invariant } from './invariant.js'

interface Waiter {
  readonly amount: number
  readonly go: () => void
}

/**
 * A limited amount of something. Invariants: `used` is the sum of what was taken and not given back, never above
 * `limit`; while anyone waits, nobody takes past them.
 */
export class Budget {
  readonly limit: number
  #used = 0
  readonly #waiters: Waiter[] = []
  readonly #onWait: (amount: number) => void

  /** `onWait` is called when somebody begins to wait, and after each return that did not satisfy the first in line. */
  constructor(limit: number, onWait: (amount: number) => void = () => undefined) {
    this.limit = limit
    this.#onWait = onWait
  }

  get used(): number {
    return this.#used
  }

  get waiting(): number {
    return this.#waiters.length
  }

  /** Takes at once, or answers false. */
  tryTake(amount: number): boolean {
    invariant(amount <= this.limit, `asked for ${amount} of a budget of ${this.limit}`)
    if (this.#waiters.length > 0 || this.#used + amount > this.limit) return false
    this.#used += amount
    return true
  }

  async take(amount: number): Promise<void> {
    if (this.tryTake(amount)) return
    await new Promise<void>((resolve) => {
      this.#waiters.push({ amount, go: resolve })
      this.#onWait(amount)
    })
  }

  give(amount: number): void {
    this.#used -= amount
    invariant(this.#used >= 0, 'more was given back than taken')
    for (let first = this.#waiters[0]; first !== undefined; first = this.#waiters[0]) {
      if (this.#used + first.amount > this.limit) {
        this.#onWait(first.amount)
        return
      }
      this.#used += first.amount
      this.#waiters.shift()
      first.go()
    }
  }

  /** Runs a task when there is room for it. What takes more than all there is waits until it is alone. */
  async with<T>(task: () => Promise<T>, amount = 1): Promise<T> {
    const share = Math.min(amount, this.limit)
    if (!this.tryTake(share)) await this.take(share)
    try {
      return await task()
    } finally {
      this.give(share)
    }
  }
}
