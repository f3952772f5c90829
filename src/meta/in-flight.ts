/**
 * The changes of a session whose answers have not come, by the partition that judges them. What is below the lowest of a partition is
 * refused there from now on (lib/mutate.lua: `w`), so its reply may be forgotten. Others' partitions have no say in that: while a server
 * stands still, what the others keep of their replies does not grow.
 */
export class InFlight {
  readonly #sequences = new Map<number, Set<number>>()

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
  }
}
