/**
 * Whether events can be relied on. After a break another server may have taken the place of one, and not know the last of what that one did: that
 * is looked into before they are relied on again.
 */
export interface SubscribedDeps {
  /** Resolves when it is known, or cannot be found out now. */
  readonly look: () => Promise<void>
  readonly onChange: () => void
}

export class Subscribed {
  readonly #deps: SubscribedDeps
  #isGood = false
  #wasGood = false
  #round = 0

  constructor(deps: SubscribedDeps) {
    this.#deps = deps
  }

  get isGood(): boolean {
    return this.#isGood
  }

  /** What the subscription says of itself. */
  heard(healthy: boolean): void {
    const round = ++this.#round
    if (!healthy || !this.#wasGood) {
      this.#wasGood ||= healthy
      this.#set(healthy)
      return
    }
    void this.#deps.look().then(() => {
      if (round === this.#round) this.#set(true)
    })
  }

  #set(isGood: boolean): void {
    this.#isGood = isGood
    this.#deps.onChange()
  }
}
