/**
 * Whether the servers still know what this session was told is done. A replica that takes its master's place may lack the last of it.
 *
 * Invariant: of the changes of the session in a partition, the newest judged ones are remembered here until a change that came after
 * them was judged. A server carries out a change behind all that it had carried out, and hands that order on to its replicas: so who
 * knows of the newest ones knows of all.
 *
 * Two kinds: what changes names or contents, and the rest (locks, opens, access times). Losing the rest is mended in silence; losing
 * the first is what an fsync must tell.
 */
import type { Script } from '../cluster/contract.js'
import { SCRIPTS } from './scripts.js'

/** In one script. */
const ASKED_MAX = 1_000

const OTHER: ReadonlySet<Script> = new Set<Script>([
  ...[SCRIPTS.touch, SCRIPTS.open, SCRIPTS.close, SCRIPTS.register, SCRIPTS.reserve, SCRIPTS.reap, SCRIPTS.txFinish],
  ...[SCRIPTS.lock, SCRIPTS.unlock, SCRIPTS.lockCancel, SCRIPTS.lockDrop],
])

interface Newest {
  readonly contents: Set<number>
  readonly others: Set<number>
}

export interface TailLoss {
  /** Names or contents are lost, not only locks, opens and the like. */
  readonly hasContents: boolean
}

export class Tails {
  readonly #newest = new Map<number, Newest>()
  /** Partitions with changes of contents that no fsync has looked at yet: how many there were, to tell a newer one. */
  readonly #unsynced = new Map<number, number>()
  #count = 0

  /** A change was judged that told the server it may forget the replies of `acknowledged`. */
  judged(p: number, script: Script, sequence: number, acknowledged: readonly number[]): void {
    let newest = this.#newest.get(p)
    if (newest === undefined) this.#newest.set(p, (newest = { contents: new Set(), others: new Set() }))
    const { contents, others } = newest
    const isOther = OTHER.has(script)
    for (const before of acknowledged) {
      others.delete(before)
      if (!isOther) contents.delete(before)
    }
    if (isOther) others.add(sequence)
    else {
      contents.add(sequence)
      this.#unsynced.set(p, ++this.#count)
    }
  }

  /** For an fsync: the partitions to look at. Given to `synced` when they are well. */
  unsynced(): ReadonlyMap<number, number> {
    return new Map(this.#unsynced)
  }

  synced(seen: ReadonlyMap<number, number>): void {
    for (const [p, count] of seen) if (this.#unsynced.get(p) === count) this.#unsynced.delete(p)
  }

  get partitions(): readonly number[] {
    return [...this.#newest.keys()]
  }

  /** `ask`: whether the server knows of all these sequences. null: nothing is lost. */
  async lossOf(p: number, ask: (sequences: readonly number[]) => Promise<boolean>): Promise<TailLoss | null> {
    const newest = this.#newest.get(p)
    if (newest === undefined) return null
    const isKnown = async (set: ReadonlySet<number>): Promise<boolean> => {
      const all = [...set]
      for (let at = 0; at < all.length; at += ASKED_MAX) {
        if (!(await ask(all.slice(at, at + ASKED_MAX)))) return false
      }
      return true
    }
    // In this order: what is judged meanwhile comes later.
    if (!(await isKnown(newest.contents))) return { hasContents: true }
    return (await isKnown(newest.others)) ? null : { hasContents: false }
  }

  /** The loss is dealt with: what comes from now on counts. */
  forget(p: number): void {
    this.#newest.delete(p)
    this.#unsynced.delete(p)
  }

  /** Another session begins. */
  clear(): void {
    this.#newest.clear()
    this.#unsynced.clear()
  }
}
