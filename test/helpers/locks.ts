/** Small words for tests of file locks. */
import fc from 'fast-check'
import { LOCK_END, type FileLock, type MetaStore } from '../../src/meta/contract.js'
import { outcome } from './meta.js'

function lockOf(
  kind: 'posix' | 'flock',
  type: 'read' | 'write',
  owner: string,
  [start, end]: readonly [bigint, bigint] = [0n, LOCK_END],
): FileLock {
  return { kind, type, owner, start, end, pid: 4711 }
}

export const record = (type: 'read' | 'write', owner: string, range?: readonly [bigint, bigint]): FileLock =>
  lockOf('posix', type, owner, range)
export const whole = (type: 'read' | 'write', owner: string): FileLock => lockOf('flock', type, owner)

/** The outcome of trying: ok, EAGAIN, … */
export function trying(meta: MetaStore, ino: number, lock: FileLock): Promise<string> {
  return outcome(meta.setlk(ino, lock, { wait: false }))
}

/** A call that waits: what became of it, once it is over. */
export class Waiting {
  result: string | undefined
  readonly done: Promise<string>
  readonly #controller = new AbortController()

  constructor(meta: MetaStore, ino: number, lock: FileLock) {
    this.done = outcome(meta.setlk(ino, lock, { wait: true, signal: this.#controller.signal })).then((result) => {
      this.result = result
      return result
    })
  }

  /** As a signal to the process that waits. */
  interrupt(): void {
    this.#controller.abort()
  }
}

/** Places for the ends of ranges: neighbours where numbers are exact, and where only 64 bits are. */
export const PLACES: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  1_073_741_824n,
  2n ** 53n,
  2n ** 53n + 1n,
  LOCK_END - 1n,
  LOCK_END,
]

export interface LockAction {
  readonly client: number
  readonly owner: string
  readonly type: 'read' | 'write' | 'unlock'
  readonly from: number
  readonly to: number
}

/** Tries and unlocks of two owners in each of two clients. */
export const anyActions = fc.array(
  fc
    .record({
      client: fc.nat(1),
      owner: fc.constantFrom('a', 'b'),
      type: fc.constantFrom<LockAction['type'][]>('read', 'write', 'unlock'),
      ends: fc.uniqueArray(fc.nat(PLACES.length - 1), { minLength: 2, maxLength: 2 }),
    })
    .map(({ ends, ...rest }): LockAction => ({ ...rest, from: Math.min(...ends), to: Math.max(...ends) })),
  { maxLength: 30 },
)

/**
 * fcntl(2) said as simply as can be: for each owner, what it has on each stretch between two neighbouring places. No ranges
 * are split or joined here, so no mistake in that is shared.
 */
export class StretchModel {
  readonly #held = new Map<string, ('read' | 'write' | undefined)[]>()

  /** ok or EAGAIN. */
  act({ client, owner, type, from, to }: LockAction): string {
    const me = `${client}.${owner}`
    for (let at = from; at < to; at++) if (type !== 'unlock' && this.#isTaken(me, at, type)) return 'EAGAIN'
    const mine = this.#held.get(me) ?? []
    for (let at = from; at < to; at++) mine[at] = type === 'unlock' ? undefined : type
    this.#held.set(me, mine)
    return 'ok'
  }

  #isTaken(me: string, at: number, type: 'read' | 'write'): boolean {
    return [...this.#held].some(([other, held]) => {
      return other !== me && held[at] !== undefined && (type === 'write' || held[at] === 'write')
    })
  }

  /** What keeps `client.owner` from the lock: from which place to which, as long as one holder has it in one type. */
  conflicts(me: string, type: 'read' | 'write', at: number): boolean {
    return this.#isTaken(me, at, type)
  }
}
