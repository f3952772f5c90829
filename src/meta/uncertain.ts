/**
 * Changes of this session of which nobody knows whether they were made: no answer came in time. A copy may still be on its way.
 *
 * Of its own changes a session hears nothing (events.ts): it knows them by their replies. Without a reply it must hear of them as
 * of anybody else's, for as long as one may come: until a later change of the partition was judged, which says that nothing
 * below its lowest sequence in use is wanted any more (lib/mutate.lua: `w`), and all that was published by then has come.
 */
export class UncertainChanges {
  readonly #caughtUp: () => Promise<void>
  /** By partition: the newest one. */
  readonly #newest = new Map<number, number>()

  constructor(caughtUp: () => Promise<void>) {
    this.#caughtUp = caughtUp
  }

  /** Whether own changes of the partition are to be heard. */
  has(p: number): boolean {
    return this.#newest.size > 0 && this.#newest.has(p)
  }

  failed(p: number, sequence: number): void {
    this.#newest.set(p, Math.max(sequence, this.#newest.get(p) ?? 0))
  }

  /** A change that named `low` as the lowest sequence in use was judged. */
  judged(p: number, low: number): void {
    const sequence = this.#newest.get(p)
    if (sequence === undefined || sequence >= low) return
    // If that fails, it is tried again after the next change.
    void this.#caughtUp().then(
      () => {
        if (this.#newest.get(p) === sequence) this.#newest.delete(p)
      },
      () => undefined,
    )
  }
}
