/**
 * Sessions that are over, and that stand in lists of openers all the same: whoever cleaned up after one was told that it is done, and a
 * replica that took its master's place does not have that. Files without a name that it had open would stay for ever. (Its locks are
 * found by who waits for them: locks.ts.)
 *
 * Invariant: a session is in the list of sessions before it opens anything, and leaves the list of the dead after all that it had open
 * was closed. So one that opens something and is in neither has lost its clean-up, and the reaper is told; or, with the volume's own
 * keys, its beginning, and it would be told that it is dead at its next renewal anyway.
 */
import { messageOf } from '../base/errors.js'
import type { Core } from './core.js'
import { allPartitions, each } from './recovery.js'
import { hashPages } from './scan.js'
import { SCRIPTS } from './scripts.js'

/** All that is open is read. */
const PERIOD_MS = 10 * 60_000
const SESSION_BYTES = 4

export class Strays {
  readonly #core: Core
  #lookedMs = -Infinity

  constructor(core: Core) {
    this.#core = core
  }

  /** Part of the janitor's work, now and then. */
  async look(): Promise<void> {
    const { clock, log } = this.#core.options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#lookedMs < PERIOD_MS) return
    this.#lookedMs = nowMs
    try {
      await each([...(await this.#openers())], (session) => this.#check(session))
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'what lost sessions have open is looked for later')
    }
  }

  async #openers(): Promise<Set<number>> {
    const { keys, options } = this.#core
    const openers = new Set<number>()
    await each(allPartitions(this.#core), async (p) => {
      for await (const page of hashPages(options.store, keys.partition(p).open)) {
        for (const [, list] of page) for (const session of sessionsIn(list)) openers.add(session)
      }
    })
    return openers
  }

  async #check(session: number): Promise<void> {
    if (await tellIfLost(this.#core, session))
      this.#core.options.log.info({ session }, 'a session is over and has files open: it is cleaned up after once more')
  }
}

/** A session that is in no list any more is given to the reaper. Answers whether it was. */
export async function tellIfLost(core: Core, session: number): Promise<boolean> {
  const { keys } = core
  return (await core.run(SCRIPTS.sessionLost, [keys.wide('s'), keys.wide('dead')], [session])) === 1
}

function sessionsIn(list: Buffer): number[] {
  const count = Math.floor(list.length / SESSION_BYTES)
  return Array.from({ length: count }, (_, at) => list.readUInt32LE(at * SESSION_BYTES))
}
