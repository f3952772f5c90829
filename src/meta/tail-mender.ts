/**
 * Looks whether the servers still know what this session was told is done (tails.ts), and deals with what they do not: a replica took its
 * master's place without the last of what that had acknowledged.
 *
 * What was lost is not known, and not done again: others may have built on its absence. So files and folders with changes that no fsync
 * has seen say so at the next one; file locks count as lost, since a grant may be among it, and an unlock, which would leave a lock that
 * nobody gives back; what is open is registered anew; numbers reserved there are not used.
 */
import { messageOf } from '../base/errors.js'
import type { MetaEvent } from './contract.js'
import type { Core } from './core.js'
import type { Locks } from './locks.js'
import { each, unlockAll } from './recovery.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import type { TailLoss } from './tails.js'

export interface TailMenderDeps {
  readonly locks: Locks
  /** Makes this session an opener of what it has open of these again. */
  readonly register: (of: (ino: number) => boolean) => Promise<void>
  readonly tell: (event: MetaEvent) => void
  /** Nothing that is cached may be used. */
  readonly forgetAll: () => void
}

export class TailMender {
  readonly #core: Core
  readonly #deps: TailMenderDeps

  constructor(core: Core, deps: TailMenderDeps) {
    this.#core = core
    this.#deps = deps
  }

  /** All partitions. What cannot be found out now is at the next fsync. */
  async lookOver(): Promise<void> {
    const { session, options } = this.#core
    await this.mend(session.tails.partitions).catch((error: unknown) => {
      options.log.warn({ error: messageOf(error) }, 'whether Redis has lost changes is found out at the next fsync')
    })
  }

  /**
   * The session is over, and what it was told is forgotten when the next one begins: the last look. Its locks, opens and numbers go with it.
   * Throws what keeps it from finding out.
   */
  async lookBack(): Promise<void> {
    const { session, keys } = this.#core
    await each([...session.tails.unsynced().keys()], async (p) => {
      const loss = await this.#lossOf(p)
      if (loss?.hasContents !== true) return
      const shownIn = session.tails.shownIn(p)
      session.tails.forget(p)
      this.#log(p, loss)
      this.#deps.tell({ kind: 'tailLost', of: (ino) => shownIn.has(keys.home(ino)) })
    })
  }

  /** Answers whether names or contents of these partitions were lost. Throws what keeps it from finding out. */
  async mend(partitions: readonly number[]): Promise<boolean> {
    let hasContents = false
    await each(partitions, async (p) => {
      const { session } = this.#core
      const { id } = session
      const loss = await this.#lossOf(p)
      // Another session has lost nothing yet.
      if (loss === null || session.id !== id) return
      hasContents ||= loss.hasContents
      await this.#mend(p, loss)
    })
    return hasContents
  }

  #lossOf(p: number): Promise<TailLoss | null> {
    const { session, keys } = this.#core
    const { id, tails } = session
    return tails.lossOf(p, async (asked) => {
      const reply = await this.#core.run(SCRIPTS.known, [keys.partition(p).replies(id)], asked.flat())
      const [contents = 0, others = 0, ...missing] = new Reply(reply).numbers(0)
      return { missed: [contents, others], missing: new Set(missing) }
    })
  }

  #log(p: number, { hasContents }: TailLoss): void {
    this.#core.options.log.error(
      { partition: p, hasContents },
      'a Redis server has lost the last changes that it had acknowledged',
    )
  }

  async #mend(p: number, loss: TailLoss): Promise<void> {
    const { keys, births, session } = this.#core
    const { locks, tell, register, forgetAll } = this.#deps
    const of = (ino: number): boolean => keys.home(ino) === p
    const shownIn = session.tails.shownIn(p)
    session.tails.forget(p)
    this.#log(p, loss)
    if (loss.hasContents) tell({ kind: 'tailLost', of: (ino) => shownIn.has(keys.home(ino)) })
    births.lost(p)
    // Twice: what is granted until the locks are given up goes with them.
    const lose = (): void => {
      tell({ kind: 'locksLost', of })
      locks.lost(of)
    }
    lose()
    await unlockAll(this.#core, session.id, p)
    lose()
    await register(of)
    forgetAll()
  }
}
