/**
 * Changes of this session of which nobody knows whether they were made: no answer came in time. A copy may still be on its way.
 *
 * Of its own changes a session hears nothing (events.ts): it knows them by their replies. Without a reply it must hear of them as
 * of anybody else's, for as long as one may come: until a later change of the partition was judged, which says that nothing
 * below its lowest sequence in use is wanted any more (lib/mutate.lua: `w`), and all that was published by then has come. That goes for
 * what else it changes, too: it is judged in its own partition alone.
 */
export class UncertainChanges {
  readonly #caughtUp: () => Promise<void>
  /** By the partition that judges them: the newest one, and the partitions that they change. */
  readonly #newest = new Map<number, { readonly sequence: number; readonly changes: ReadonlySet<number> }>()

  constructor(caughtUp: () => Promise<void>) {
    this.#caughtUp = caughtUp
  }

  /** Whether own changes of the partition are to be heard. */
  has(p: number): boolean {
    if (this.#newest.size === 0) return false
    for (const { changes } of this.#newest.values()) if (changes.has(p)) return true
    return false
  }

  failed(p: number, sequence: number, beside: readonly number[]): void {
    const before = this.#newest.get(p)
    this.#newest.set(p, {
      sequence: Math.max(sequence, before?.sequence ?? 0),
      changes: new Set([p, ...beside, ...(before?.changes ?? [])]),
    })
  }

  /** A change that named `low` as the lowest sequence in use was judged. */
  judged(p: number, low: number): void {
    const newest = this.#newest.get(p)
    if (newest === undefined || newest.sequence >= low) return
    // If that fails, it is tried again after the next change.
    void this.#caughtUp().then(
      () => {
        if (this.#newest.get(p) === newest) this.#newest.delete(p)
      },
      () => undefined,
    )
  }
}
