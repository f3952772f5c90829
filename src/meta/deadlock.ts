/**
 * Finds circles of fcntl locks that wait for each other, over all partitions and clients (fcntl(2): EDEADLK).
 *
 * Who waits for whom stands in one hash of the volume (scripts/wait-edge.lua), so that setting an edge and looking for a
 * circle is one atomic step: of the edges of a circle, the last one set finds it. The edges are written after the locks'
 * own state, each in its partition, so they may be out of date: a circle is asked of the locks themselves, twice. Tickets
 * are never used again: who waits with the same ticket both times has waited in between without a break, so all of them
 * waited for each other at once.
 *
 * An owner who holds nothing is waited for by nobody: only those who hold something set edges (locks.ts).
 */
import { messageOf } from '../base/errors.js'
import type { Core } from './core.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'
import type { Waiter } from './waiter.js'

/** Owners looked at for one circle. */
const STEPS_MAX = 10_000
const ATTEMPTS_MAX = 8
const EDGE_VALUES = 4

interface Edge {
  /** session.owner, as `to`. */
  readonly who: string
  readonly ticket: number
  readonly ino: number
  readonly to: string
}

/** 'gone': that ticket waits no longer; 'other': it waits for someone else. */
type Truth = 'waits' | 'other' | 'gone'

export class WaitGraph {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  /** Writes down for whom the waiter waits, and answers whether that is, in the end, for himself. */
  async closesCircle(waiter: Waiter): Promise<boolean> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const circle = await this.#setEdge(waiter)
      if (circle.length === 0) return false
      const truths = await this.#ask(circle)
      if (truths.every((truth) => truth === 'waits')) {
        const again = await this.#ask(circle)
        return again.every((truth) => truth === 'waits')
      }
      // What nobody took away would hide a true circle behind it. The others' sessions are about to correct theirs.
      const gone = circle.filter((_, i) => truths[i] === 'gone')
      if (gone.length === 0) return false
      await this.#remove(gone)
    }
    return false
  }

  /** The waiter waits no longer. */
  over(waiter: Waiter): void {
    if (!waiter.hasEdge) return
    waiter.hasEdge = false
    this.#remove([{ who: whoIs(waiter), ticket: waiter.ticket }]).catch((error: unknown) => {
      this.#core.options.log.debug({ error: messageOf(error) }, 'an edge of the wait graph was left behind')
    })
  }

  async #setEdge(waiter: Waiter): Promise<Edge[]> {
    waiter.hasEdge = true
    const { keys } = this.#core
    const args = [whoIs(waiter), waiter.ticket, waiter.ino, waiter.holder, STEPS_MAX, waiter.session]
    const reply = new Reply(await this.#core.run(SCRIPTS.waitEdge, [keys.wide('w'), keys.wide('h')], args))
    const edges: Edge[] = []
    for (let at = 0; at + EDGE_VALUES <= reply.length; at += EDGE_VALUES) {
      const [who, to] = [reply.buffer(at).toString(), reply.buffer(at + 3).toString()]
      edges.push({ who, ticket: reply.number(at + 1), ino: reply.number(at + 2), to })
    }
    return edges
  }

  #ask(circle: readonly Edge[]): Promise<Truth[]> {
    return Promise.all(
      circle.map(async ({ who, ticket, ino, to }) => {
        const [session] = who.split('.')
        const key = this.#core.keys.of(ino).fileLocks
        const args = [ino, session ?? '', ticket, '', '', '', '', '', to]
        const reply = new Reply(await this.#core.run(SCRIPTS.lockAsk, [key], args))
        if (reply.buffer(0).toString() !== 'W') return 'gone'
        return reply.number(2) === 1 ? 'waits' : 'other'
      }),
    )
  }

  async #remove(edges: readonly Pick<Edge, 'who' | 'ticket'>[]): Promise<void> {
    const args = edges.flatMap(({ who, ticket }) => [who, ticket])
    await this.#core.run(SCRIPTS.waitOver, [this.#core.keys.wide('w')], args)
  }
}

function whoIs({ session, lock }: Waiter): string {
  return `${session}.${lock.owner}`
}
