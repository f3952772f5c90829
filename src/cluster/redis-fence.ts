/**
 * Whose replies are believed. A master that stood still (its process, its machine) while its replica was promoted carries out what stands in
 * its sockets as soon as it goes on, before it hears that it was replaced: the reply says OK, and the write is lost; or what was
 * read is old. It cannot know; its client can.
 *
 * Invariant: a reply is handed out only if the server was never silent for QUIET_MS since the other servers of the cluster said that it
 * still has slots; they are asked after the reply that ended the silence was heard, since a replica may be promoted between an earlier
 * answer and the reply. A replica is promoted after cluster-node-timeout of silence at the earliest, which has to be longer than 2 *
 * QUIET_MS (its default is 15 s), and everyone else who was asked then knows or has voted.
 *
 *   trusted --(QUIET_MS without a reply, then one)--> in doubt --(the others know it as a master)--> trusted
 *                                                        |---(one does not)--> the link ends, and its calls are sent again
 *                                                        `---(too few say anything)--> asked again, for as long as a link may be silent
 *
 * So a connection that is in use costs nothing, and the first call after a rest one more round trip, to the others.
 */
import type { Clock, Timer } from '../base/clock.js'

const QUIET_MS = 1_000
/** For enough answers: as long as a link may be silent, since the machines may be busy. */
const ANSWERS_MS = 5_000
/** For those of replicas, and slow masters, when enough are there; and for what this process has not read yet when it stood still. */
const LATE_MS = 100

export interface FenceOptions {
  readonly clock: Clock
  /** true: nobody could have been promoted. Else whether the others know the server as a master; undefined: too few say anything. */
  readonly confirm: () => true | Promise<boolean | undefined>
  /** So long a reply is held while nobody says anything, in milliseconds. */
  readonly patienceMs: number
  /** What is held is dropped by then. */
  readonly onReplaced: () => void
}

interface Held {
  readonly deliver: () => void
  readonly reject: (error: Error) => void
}

export class Fence {
  readonly #options: FenceOptions
  #heardMs = -Infinity
  /** When the last silence ended: what the others said before that says nothing of what was heard since. */
  #wokeMs = -Infinity
  /** The others were asked since, and know it. */
  #isTrusted = false
  #isAsking = false
  #held: Held[] = []
  #heldMs = 0

  constructor(options: FenceOptions) {
    this.#options = options
  }

  /** How many replies wait. */
  get size(): number {
    return this.#held.length
  }

  /** Replies came, and are about to be passed. */
  heard(nowMs: number): void {
    if (nowMs - this.#heardMs >= QUIET_MS) {
      this.#isTrusted = false
      this.#wokeMs = nowMs
    }
    this.#heardMs = nowMs
  }

  /** Hands a reply out, now or when it can be believed. Neither function may throw. */
  pass(deliver: () => void, reject: (error: Error) => void): void {
    if (!this.#isTrusted) this.#ask()
    if (this.#isTrusted) deliver()
    else this.#hold({ deliver, reject })
  }

  #hold(held: Held): void {
    if (this.#held.length === 0) this.#heldMs = this.#options.clock.monotonicMs()
    this.#held.push(held)
  }

  /** The link has ended. */
  drop(error: Error): void {
    for (const { reject } of this.#held.splice(0)) reject(error)
  }

  /** Not before something was heard: a replica may be promoted between their answer and the reply. */
  #ask(): void {
    if (this.#isAsking) return
    const askedMs = this.#options.clock.monotonicMs()
    const answer = this.#options.confirm()
    if (answer === true) {
      this.#isTrusted = true
      return
    }
    this.#isAsking = true
    answer.then(
      (isMaster) => this.#answered(isMaster, askedMs),
      () => this.#answered(undefined, askedMs),
    )
  }

  /** Others that are slow, or away, do not say that it was replaced. */
  #askLater(): void {
    this.#isAsking = true
    this.#options.clock.after(LATE_MS, () => {
      this.#isAsking = false
      if (this.#held.length > 0) this.#ask()
      if (this.#isTrusted) this.#deliver()
    })
  }

  /** `askedMs`: what the others say was so then. */
  #answered(isMaster: boolean | undefined, askedMs: number): void {
    this.#isAsking = false
    if (isMaster === undefined && this.#held.length === 0) return
    if (isMaster === undefined && this.#options.clock.monotonicMs() - this.#heldMs < this.#options.patienceMs) {
      this.#askLater()
      return
    }
    if (isMaster !== true) {
      this.#options.onReplaced()
      return
    }
    // A silence that ended since then: what came after it may come from one that was replaced meanwhile.
    if (this.#wokeMs > askedMs) {
      if (this.#held.length > 0) this.#ask()
      if (!this.#isTrusted) return
    }
    this.#isTrusted = true
    this.#deliver()
  }

  #deliver(): void {
    for (const { deliver } of this.#held.splice(0)) deliver()
  }
}

export interface Electorate {
  /** All other nodes, replicas included. */
  readonly others: readonly string[]
  /** Those of them that are masters. */
  readonly masters: ReadonlySet<string>
  /** Does it know the one in question as a master? Rejects when it does not answer. */
  readonly ask: (other: string) => Promise<boolean>
  readonly clock: Clock
}

/**
 * A replica is promoted by the votes of most masters, its own not among them. So many others have to know it as a master still that one
 * of those is of any majority; and whoever says otherwise, the promoted replica itself first of all, is believed at once. undefined: too
 * few have answered.
 */
export function confirmMaster({ others, masters, ask, clock }: Electorate): Promise<boolean | undefined> {
  const needed = Math.max(1, Math.floor(masters.size / 2))
  let [confirmed, left, isDenied] = [0, others.length, false]
  return new Promise((resolve) => {
    const finish = (): void => {
      deadline.close()
      resolve(isDenied ? false : confirmed >= needed || undefined)
    }
    let deadline: Timer = clock.after(ANSWERS_MS, () => {
      deadline = clock.after(LATE_MS, finish)
    })
    const answered = (other: string, isKnown: boolean | undefined): void => {
      left--
      if (isKnown === true && masters.has(other) && ++confirmed === needed) {
        deadline.close()
        deadline = clock.after(LATE_MS, finish)
      }
      if (isKnown === false) isDenied = true
      if (left === 0 || isKnown === false) finish()
    }
    for (const other of others) {
      ask(other).then(
        (isKnown) => answered(other, isKnown),
        () => answered(other, undefined),
      )
    }
  })
}
