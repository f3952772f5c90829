/** When changes by others may have gone unheard last, on the count of whoever keeps something: everywhere, or in some partitions. */
export class Gaps {
  readonly #partitionOf: (ino: number) => number
  #everywhere = 0
  readonly #in: number[] = []

  constructor(partitionOf: (ino: number) => number) {
    this.#partitionOf = partitionOf
  }

  everywhere(at: number): void {
    this.#everywhere = at
  }

  in(partitions: Iterable<number>, at: number): void {
    for (const p of partitions) this.#in[p] = at
  }

  /** Whether there was one since `mark` of what is told about the inode and the names in it. */
  isSince(mark: number, ino: number): boolean {
    return this.#everywhere > mark || (this.#in[this.#partitionOf(ino)] ?? 0) > mark
  }
}
