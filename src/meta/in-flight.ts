/**
 * The changes of a session whose answers have not come, by the partition that judges them. What is below the lowest of a partition is
 * refused there from now on (lib/mutate.lua: `w`), so its reply may be forgotten. Others' partitions have no say in that: while a server
 * stands still, what the others keep of their replies does not grow.
 */
interface Waiter {
  readonly p: number
  readonly newest: number
  readonly resolve: () => void
}

export class InFlight {
  readonly #sequences = new Map<number, Set<number>>()
  #waiters: Waiter[] = []

  /** Sequences rise. Answers the lowest of the partition. */
  begin(p: number, sequence: number): number {
    const known = this.#sequences.get(p)
    if (known === undefined) {
      this.#sequences.set(p, new Set([sequence]))
      return sequence
    }
    known.add(sequence)
    const [low = sequence] = known
    return low
  }

  end(p: number, sequence: number): void {
    this.#sequences.get(p)?.delete(sequence)
    if (this.#waiters.length === 0) return
    const isDone = ({ p, newest }: Waiter): boolean => !this.#hasUpTo(p, newest)
    const done = this.#waiters.filter(isDone)
    this.#waiters = this.#waiters.filter((one) => !isDone(one))
    for (const { resolve } of done) resolve()
  }

  /** Resolves when none of the partition up to `newest` is left; undefined: there is none. */
  past(p: number, newest: number): Promise<void> | undefined {
    if (!this.#hasUpTo(p, newest)) return undefined
    return new Promise((resolve) => this.#waiters.push({ p, newest, resolve }))
  }

  #hasUpTo(p: number, newest: number): boolean {
    const [low = Infinity] = this.#sequences.get(p) ?? []
    return low <= newest
  }
}
