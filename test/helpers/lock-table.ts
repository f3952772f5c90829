/** File locks in memory, for the doubles of MetaStore and VfsContract: what fcntl(2) and flock(2) say, in one process. */
import { PosixError } from '../../src/base/errno.js'
import { LOCK_END, type FileLock, type LockConflict, type LockRange } from '../../src/meta/contract.js'

/** Some number for a client; owners of different clients differ. */
type Session = number

interface Held extends FileLock {
  readonly session: Session
}

interface Waiting {
  readonly lock: Held
  readonly grant: () => void
  readonly fail: (error: PosixError) => void
}

export class LockTable {
  #held: Held[] = []
  readonly #queue: Waiting[] = []

  get(session: Session, lock: FileLock): LockConflict | null {
    const [first] = this.#conflicts({ ...lock, session }).sort((a, b) => (a.start < b.start ? -1 : 1))
    if (first === undefined) return null
    const { type, start, end, pid } = first
    return { type, start, end, pid, isOurs: first.session === session }
  }

  async set(session: Session, lock: FileLock, wait: boolean, signal?: AbortSignal): Promise<void> {
    if (!/^\w+$/.test(lock.owner) || lock.end <= lock.start || lock.end > LOCK_END) throw new PosixError('EINVAL')
    const mine = { ...lock, session }
    if (lock.kind === 'flock') {
      if (this.#held.some((held) => isSame(held, mine) && held.type === lock.type)) return
      this.unlock(session, lock)
    }
    if (this.#conflicts(mine).length === 0) return this.#apply(mine)
    if (!wait) throw new PosixError('EAGAIN')
    if (lock.kind === 'posix' && this.#waitsFor(mine, mine, new Set())) throw new PosixError('EDEADLK')
    await this.#enqueue(mine, signal)
  }

  unlock(session: Session, { kind, owner, start, end }: LockRange): void {
    this.#lay({ kind, owner, start, end, session, type: 'read', pid: 0 })
    this.#grant()
  }

  drop(session: Session): void {
    this.#held = this.#held.filter((held) => held.session !== session)
    for (const waiting of this.#queue.filter(({ lock }) => lock.session === session)) {
      this.#queue.splice(this.#queue.indexOf(waiting), 1)
      waiting.fail(new PosixError('EIO', 'the session ended'))
    }
    this.#grant()
  }

  get isEmpty(): boolean {
    return this.#held.length === 0 && this.#queue.length === 0
  }

  #conflicts(lock: Held): Held[] {
    return this.#held.filter((held) => doConflict(held, lock))
  }

  #apply(lock: Held): void {
    const near = this.#held.filter(
      (held) => isSame(held, lock) && held.type === lock.type && held.start <= lock.end && held.end >= lock.start,
    )
    const start = near.reduce((least, held) => (held.start < least ? held.start : least), lock.start)
    const end = near.reduce((most, held) => (held.end > most ? held.end : most), lock.end)
    this.#lay({ ...lock, start, end })
    this.#held.push({ ...lock, start, end })
    this.#grant()
  }

  /** Clears the range of what its owner holds. */
  #lay(over: Held): void {
    this.#held = this.#held.flatMap((held) => {
      if (!isSame(held, over) || held.end <= over.start || held.start >= over.end) return [held]
      const left = []
      if (held.start < over.start) left.push({ ...held, end: over.start })
      if (held.end > over.end) left.push({ ...held, start: over.end })
      return left
    })
  }

  #grant(): void {
    for (let moved = true; moved;) {
      const next = this.#queue.findIndex(({ lock }) => this.#conflicts(lock).length === 0)
      moved = next >= 0
      const [waiting] = moved ? this.#queue.splice(next, 1) : []
      if (waiting === undefined) return
      waiting.grant()
      this.#apply(waiting.lock)
    }
  }

  #waitsFor(lock: Held, target: Held, seen: Set<Held>): boolean {
    for (const held of this.#conflicts(lock)) {
      if (isSame(held, target)) return true
      if (seen.has(held)) continue
      seen.add(held)
      const waits = this.#queue.filter((waiting) => isSame(waiting.lock, held))
      if (waits.some((waiting) => this.#waitsFor(waiting.lock, target, seen))) return true
    }
    return false
  }

  #enqueue(lock: Held, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) throw new PosixError('EINTR')
    return new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        const at = this.#queue.findIndex((waiting) => waiting.lock === lock)
        if (at < 0) return
        this.#queue.splice(at, 1)
        reject(new PosixError('EINTR'))
      }
      signal?.addEventListener('abort', onAbort)
      this.#queue.push({ lock, grant: resolve, fail: reject })
    })
  }
}

function isSame(a: Held, b: Held): boolean {
  return a.kind === b.kind && a.owner === b.owner && a.session === b.session
}

function doConflict(a: Held, b: Held): boolean {
  const both = a.kind === b.kind && a.start < b.end && b.start < a.end
  return both && (a.type === 'write' || b.type === 'write') && !isSame(a, b)
}
