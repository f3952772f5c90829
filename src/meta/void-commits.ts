/**
 * Transactions of this session that were aborted while a copy of their commit may still be on its way: their A, which refuses it, has to
 * stay until then.
 *
 * Invariant: a decision is forgotten only when a later change of its partition was judged that named a higher sequence as the lowest in
 * use. From there the server refuses the copy by its number (lib/mutate.lua: `w`), which lies in the same slot as the decision: no server
 * that takes its place knows that it was forgotten and not that. What is left when the session ends goes with it (recovery.ts).
 */
interface Void {
  readonly tx: string
  /** No sequence of its commit is higher. */
  readonly newest: number
}

export class VoidCommits {
  readonly #forget: (p: number, tx: string) => void
  readonly #voids = new Map<number, Void[]>()

  constructor(forget: (p: number, tx: string) => void) {
    this.#forget = forget
  }

  add(p: number, tx: string, newest: number): void {
    const voids = this.#voids.get(p)
    if (voids === undefined) this.#voids.set(p, [{ tx, newest }])
    else voids.push({ tx, newest })
  }

  /** A change that named `low` as the lowest sequence in use was judged. */
  judged(p: number, low: number): void {
    const voids = this.#voids.get(p)
    if (voids === undefined) return
    const left = voids.filter(({ newest }) => newest >= low)
    for (const { tx, newest } of voids) if (newest < low) this.#forget(p, tx)
    if (left.length === 0) this.#voids.delete(p)
    else this.#voids.set(p, left)
  }

  /** The session is over. */
  clear(): void {
    this.#voids.clear()
  }
}
