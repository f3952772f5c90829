/**
 * File locks of this session: taken and given back by scripts on the inode's partition (scripts/lib/filelocks.lua).
 *
 *   asked --free--> held                       asked --taken, no waiting--> EAGAIN
 *     +--taken, waiting--> queued, with a ticket --message 'granted'--> held
 *                            |--caller's signal--> taken out of the queue: EINTR; or granted just before: held
 *                            |--a circle found (deadlock.ts)--> taken out of the queue: EDEADLK
 *                            |--session ended by another client--> EIO
 *                            +--messages missed, or none for long--> asks once: queued still, held, or unknown (a failover): asks anew
 *
 * Invariants. A ticket is known here before it is sent, so that a message that overtakes the reply finds it. Who
 * gives up knows whether it was granted before it answers, or owes: what could not be told to Redis is told later, and
 * before the same owner asks for anything of that inode again. So no lock is left behind that nobody knows of, but with
 * the session, or beside others of the same owner: of these none is taken away. What failed may be carried out later still: the same owner asks for nothing before it cannot any more
 * (late-copies.ts), so that no old unlock takes a new lock away, and an old lock is given back behind that.
 *
 * What another client did before it gave the lock back is told here, too, before the lock is answered: its messages may take
 * longer than the reply, which comes over another connection.
 *
 * Nobody is passed over for ever: who asks for a lock that somebody already waits for is held back, but only for a moment:
 * on a local disk he would not be, and he who waits may wait for something that he does.
 */
import { leavesDoubt } from '../base/doubt.js'
import { PosixError, isErrno } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import { orInterrupted } from '../base/interrupted.js'
import type { RedisArg, Script } from '../cluster/contract.js'
import { LOCK_END, type Attr, type FileLock, type LockConflict, type LockRange } from './contract.js'
import type { Core } from './core.js'
import { WaitGraph } from './deadlock.js'
import { LateCopies } from './late-copies.js'
import { decodeLockNotices } from './lock-events.js'
import { Owed } from './owed.js'
import { decodeInode } from './records.js'
import { Reply, STATUS_WAITING } from './reply.js'
import { SCRIPTS } from './scripts.js'
import { tellIfLost } from './strays.js'
import { Waiter } from './waiter.js'

/** How long a newcomer lets those go first who wait already for what he could have at once. */
const COURTESY_MS = 500
/** 2^63 has so many. */
const POSITION_DIGITS = 19
const OWNER = /^[0-9a-zA-Z]{1,64}$/
/** Refusals that say for certain that nothing is held or queued. */
const CERTAIN: ReadonlySet<string> = new Set(['EAGAIN', 'ENOLCK', 'ENOENT', 'EINTR', 'EDEADLK', 'EINVAL'])

export interface WaitOptions {
  readonly wait: boolean
  readonly signal?: AbortSignal
}

export interface LocksDeps {
  readonly getattr: (ino: number) => Promise<Attr>
  /** Resolves when all that others published before was received. */
  readonly caughtUp: () => Promise<void>
}

export class Locks {
  readonly #core: Core
  readonly #deps: LocksDeps
  readonly #graph: WaitGraph
  readonly #owed: Owed
  /** By owedKey(). */
  readonly #late = new LateCopies<string>()
  readonly #waiters = new Map<number, Waiter>()
  /** Calls that are not over; resolves when the first answer to one is here, or will not come. */
  readonly #asking = new Map<Waiter, Promise<void>>()
  /** By holderKey(): inodes on which an owner may hold locks of a kind. */
  readonly #holdings = new Map<string, Set<number>>()
  #lastTicket = 0

  constructor(core: Core, deps: LocksDeps) {
    this.#core = core
    this.#deps = deps
    this.#graph = new WaitGraph(core)
    this.#owed = new Owed(core)
  }

  async get(ino: number, lock: FileLock): Promise<LockConflict | null> {
    check(lock)
    const { session, keys } = this.#core
    const args = [ino, ...kindAndType(lock), ...bounds(lock), session.id, lock.owner]
    const reply = new Reply(await this.#core.run(SCRIPTS.lockGet, [keys.of(ino).fileLocks], args))
    if (reply.length === 0) return null
    return {
      type: reply.buffer(0).toString() === 'w' ? 'write' : 'read',
      start: BigInt(reply.buffer(1).toString()),
      end: BigInt(reply.buffer(2).toString()),
      pid: reply.number(4),
      isOurs: reply.number(3) === session.id,
    }
  }

  async set(ino: number, lock: FileLock, { wait, signal }: WaitOptions): Promise<Attr> {
    check(lock)
    const settled = this.#settled(owedKey(ino, lock))
    if (settled !== undefined) await orInterrupted(settled, signal)
    const waiter = new Waiter(wait ? ++this.#lastTicket : 0, ino, lock, signal)
    if (!wait) return await this.#try(waiter)
    const onAbort = (): void => waiter.tell('aborted')
    this.#waiters.set(waiter.ticket, waiter)
    signal?.addEventListener('abort', onAbort)
    if (signal?.aborted === true) onAbort()
    try {
      let attr = await this.#sendFirst(waiter)
      while (attr === null) attr = await this.#hear(waiter)
      return attr
    } catch (error) {
      this.#failed(waiter, error)
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#waiters.delete(waiter.ticket)
      this.#asking.delete(waiter)
      this.#graph.over(waiter)
    }
  }

  async unlock(ino: number, range: LockRange): Promise<void> {
    check(range)
    const isWhole = range.kind === 'flock' || (range.start === 0n && range.end === LOCK_END)
    if (isWhole) this.#gave(holderKey(range), ino)
    try {
      await this.#settled(owedKey(ino, range))
      await this.#unlock(ino, range)
    } catch (error) {
      this.#core.options.log.warn({ ino, error: messageOf(error) }, 'a file could not be unlocked: it is tried again')
      this.#owe(ino, range, () => this.#unlock(ino, range))
    }
  }

  /** A message of the subscription. */
  receive(message: Buffer): void {
    if (this.#waiters.size === 0) return
    for (const { what, session, ticket, holder } of decodeLockNotices(message)) {
      const waiter = this.#waiters.get(ticket)
      if (waiter?.session !== session) continue
      if (what === 'G') waiter.tell('granted')
      else waiter.moved(holder)
    }
  }

  get inosWaitedFor(): Iterable<number> {
    return Array.from(this.#waiters.values(), ({ ino }) => ino)
  }

  /** Messages may have been missed. */
  back(): void {
    for (const waiter of this.#waiters.values()) waiter.tell('back')
  }

  /** Locks on these inodes may be lost, and places in their queues. */
  lost(of: (ino: number) => boolean): void {
    for (const [holder, inos] of this.#holdings) for (const ino of inos) if (of(ino)) this.#gave(holder, ino)
    for (const waiter of this.#waiters.values()) if (of(waiter.ino)) waiter.tell('back')
  }

  /** The session is over: nothing of it is left in Redis, or will be. */
  ended(): void {
    this.#holdings.clear()
    this.#owed.forget()
    this.#late.clear()
    for (const waiter of this.#waiters.values()) waiter.tell('ended')
  }

  /** As #send; who gives back what another thread of the owner was not answered waits for it. */
  async #sendFirst(waiter: Waiter): Promise<Attr | null> {
    const sent = this.#send(waiter, false)
    const answered = sent.then(
      () => undefined,
      () => undefined,
    )
    this.#asking.set(waiter, answered)
    return sent
  }

  /** null: it waits. */
  async #send(waiter: Waiter, pushes: boolean): Promise<Attr | null> {
    const interrupt = await this.#interruptBefore(waiter)
    if (interrupt !== undefined) return this.#giveUp(waiter, interrupt)
    const { ino, lock, ticket, heard } = waiter
    waiter.session = this.#core.session.id
    const args = [...kindAndType(lock), ...bounds(lock), lock.owner, lock.pid, ticket, pushes ? 1 : 0]
    const reply = await this.#change(SCRIPTS.lock, ino, lock, args).catch((error: unknown) => {
      // Out of memory.
      throw isErrno(error, 'ENOSPC') ? new PosixError('ENOLCK', error.message) : error
    })
    if (reply.status === STATUS_WAITING) {
      waiter.wasQueued = true
      return this.#follow(waiter, reply.buffer(1).toString(), heard)
    }
    await this.#deps.caughtUp()
    this.#took(waiter)
    return decodeInode(ino, reply.buffer(1)).attr
  }

  /**
   * Waits, as the change would, until what failed cannot come any more. EINTR meanwhile: nothing was asked for; answered where it stands in the
   * queue already.
   */
  async #interruptBefore({ ino, signal, wasQueued }: Waiter): Promise<PosixError | undefined> {
    const { session, keys } = this.#core
    try {
      const settled = session.settled(keys.home(ino))
      if (settled !== undefined) await orInterrupted(settled, signal)
      return undefined
    } catch (error) {
      if (wasQueued && error instanceof PosixError && error.code === 'EINTR') return error
      throw error
    }
  }

  async #hear(waiter: Waiter): Promise<Attr | null> {
    switch (await waiter.next(this.#core.options.clock)) {
      case 'ended':
        throw new PosixError('EIO', 'the session ended while it waited for a lock')
      case 'granted':
        return this.#granted(waiter)
      case 'aborted':
        return this.#giveUp(waiter, new PosixError('EINTR'))
      case 'back':
        return this.#ask(waiter)
      case 'moved':
        return this.#follow(waiter, waiter.holder, waiter.heard)
      case 'impatient':
        return waiter.holder === '' ? this.#send(waiter, true) : null
    }
  }

  /** It waits, as was said when so many messages had come. Not for itself? */
  async #follow(waiter: Waiter, holder: string, heard: number): Promise<Attr | null> {
    if (heard === waiter.heard) waiter.holder = holder
    if (waiter.holder === '') {
      void this.#core.options.clock.sleep(COURTESY_MS).then(() => waiter.tell('impatient'))
      return null
    }
    const { lock } = waiter
    if (lock.kind !== 'posix' || !this.#holdings.has(holderKey(lock))) return null
    if (!(await this.#graph.closesCircle(waiter))) return null
    return this.#giveUp(waiter, new PosixError('EDEADLK', 'the holder of the lock waits for this one'))
  }

  /** Was it granted while messages were missed? */
  async #ask(waiter: Waiter): Promise<Attr | null> {
    const { heard } = waiter
    const reply = await this.#askTicket(waiter)
    const what = reply.buffer(0).toString()
    if (what === 'G') return this.#granted(waiter)
    if (what !== 'W') return this.#send(waiter, false)
    const holder = reply.buffer(1).toString()
    await this.#checkHolder(holder)
    return this.#follow(waiter, holder, heard)
  }

  /** `session.owner`, or ''. A lock of a session that is over came back with a replica that had not heard of it: the reaper is told. */
  async #checkHolder(holder: string): Promise<void> {
    const [session = ''] = holder.split('.')
    if (session !== '') await tellIfLost(this.#core, Number(session))
  }

  async #askTicket({ ino, session, ticket, lock }: Waiter): Promise<Reply> {
    const args = [ino, session, ticket, ...kindAndType(lock), ...bounds(lock), lock.owner, '']
    return new Reply(await this.#core.run(SCRIPTS.lockAsk, [this.#core.keys.of(ino).fileLocks], args))
  }

  /** Out of the queue. If the lock was granted just before, then it is ours after all. */
  async #giveUp(waiter: Waiter, reason: PosixError): Promise<Attr> {
    if (await this.#cancel(waiter)) throw reason
    return this.#granted(waiter)
  }

  /** false: it was granted before. */
  async #cancel(waiter: Waiter): Promise<boolean> {
    const reply = await this.#change(SCRIPTS.lockCancel, waiter.ino, waiter.lock, [waiter.ticket])
    if (waiter.session !== this.#core.session.id || reply.number(1) === 1) return true
    return (await this.#askTicket(waiter)).buffer(0).toString() !== 'G'
  }

  /** Resolves when nothing of this owner is owed, or may come late; undefined: nothing is. */
  #settled(key: string): Promise<void> | undefined {
    return this.#owed.has(key) || this.#late.has(key) ? this.#settle(key) : undefined
  }

  async #settle(key: string): Promise<void> {
    for (;;) {
      await this.#owed.pay(key)
      const end = this.#late.end(key)
      if (end === undefined) return
      await end
    }
  }

  async #try(waiter: Waiter): Promise<Attr> {
    try {
      const attr = await this.#sendFirst(waiter)
      if (attr === null) throw new PosixError('EAGAIN')
      return attr
    } catch (error) {
      this.#failed(waiter, error)
      throw error
    } finally {
      this.#asking.delete(waiter)
    }
  }

  /** What may be held all the same is given back at once, for those who wait for it; and once more behind a copy of what failed. */
  #failed(waiter: Waiter, error: unknown): void {
    if (isCertain(error, waiter)) return
    const { ino, lock } = waiter
    const owe = (): void => this.#owe(ino, lock, () => this.#abandon(waiter))
    owe()
    void this.#late.end(owedKey(ino, lock))?.then(owe)
  }

  /**
   * Nobody waits for the answer any more. What its owner holds, or may be granted at any moment, is not given back with it, for it goes on under that:
   * it may hold more than it knows then, until it unlocks all or closes the file.
   */
  async #abandon(waiter: Waiter): Promise<void> {
    const { ino, lock } = waiter
    const isGone = await this.#cancel(waiter)
    if (isGone || (await this.#isQueuedBeside(waiter))) return
    if (this.#holdings.get(holderKey(lock))?.has(ino) !== true) await this.#unlock(ino, lock)
  }

  /**
   * Whether another thread of its owner stands in the queue. All that were asking already have had their answers then; who asks later does so
   * behind what is owed.
   */
  async #isQueuedBeside(waiter: Waiter): Promise<boolean> {
    const key = owedKey(waiter.ino, waiter.lock)
    const others = [...this.#asking].filter(([other]) => other !== waiter && owedKey(other.ino, other.lock) === key)
    await Promise.all(others.map(([, answered]) => answered))
    return others.some(([other]) => other.wasQueued && this.#asking.has(other))
  }

  async #granted(waiter: Waiter): Promise<Attr> {
    const { ino } = waiter
    const [attr] = await Promise.all([this.#deps.getattr(ino), this.#deps.caughtUp(), this.#mustKeep(waiter)])
    this.#took(waiter)
    return attr
  }

  /** A replica that did not know of the grant would give the lock to somebody else. */
  async #mustKeep(waiter: Waiter): Promise<void> {
    const { replicas, options, keys } = this.#core
    if (options.settings.metaReplicas === 0) return
    const reply = await replicas.behind(keys.of(waiter.ino).fileLocks, () => this.#askTicket(waiter))
    if (reply.buffer(0).toString() === 'G') return
    throw new PosixError('EIO', 'a Redis server has lost the lock that it had granted')
  }

  /** Last of all: of what fails after a grant its owner is told that it failed, and what he does not hold is given back. */
  #took({ ino, lock, ticket }: Waiter): void {
    const holder = holderKey(lock)
    const inos = this.#holdings.get(holder)
    if (inos !== undefined) inos.add(ino)
    else this.#holdings.set(holder, new Set([ino]))
    if (lock.kind !== 'posix') return
    // Whoever waits for this one may have to wait for what another thread of its process waits for.
    for (const other of this.#waiters.values()) {
      if (other.lock.owner === lock.owner && other.ticket !== ticket && !other.hasEdge) other.tell('moved')
    }
  }

  /** Owners come and go with processes: none that holds nothing is remembered. */
  #gave(holder: string, ino: number): void {
    const inos = this.#holdings.get(holder)
    inos?.delete(ino)
    if (inos?.size === 0) this.#holdings.delete(holder)
  }

  async #unlock(ino: number, range: LockRange): Promise<void> {
    await this.#change(SCRIPTS.unlock, ino, range, [kindCode(range.kind), range.owner, ...bounds(range)])
  }

  #owe(ino: number, range: LockRange, job: () => Promise<void>): void {
    this.#owed.add(owedKey(ino, range), job)
  }

  async #change(script: Script, ino: number, range: LockRange, args: readonly RedisArg[]): Promise<Reply> {
    const { keys, session } = this.#core
    const { id } = session
    const p = keys.home(ino)
    try {
      return await this.#core.change(script, p, [keys.of(ino).fileLocks], [ino, ...args])
    } catch (error) {
      if (leavesDoubt(error) && session.id === id) this.#late.add(owedKey(ino, range), session.past(p))
      throw error
    }
  }
}

function check({ owner, start, end }: LockRange): void {
  if (!OWNER.test(owner)) throw new PosixError('EINVAL', 'no owner of locks')
  if (start < 0n || end <= start || end > LOCK_END) throw new PosixError('EINVAL', 'no such range of a file')
}

function isCertain(error: unknown, { wasQueued }: Waiter): boolean {
  if (!(error instanceof PosixError)) return false
  // No memory, or too many locks, for one who asked again: he stands in the queue still.
  return CERTAIN.has(error.code) && !(wasQueued && error.code === 'ENOLCK')
}

function owedKey(ino: number, { kind, owner }: LockRange): string {
  return `${ino}/${kind}/${owner}`
}

function holderKey({ kind, owner }: Pick<LockRange, 'kind' | 'owner'>): string {
  return `${kind}/${owner}`
}

function kindCode(kind: LockRange['kind']): string {
  return kind === 'posix' ? 'p' : 'f'
}

function kindAndType({ kind, type }: FileLock): [string, string] {
  return [kindCode(kind), type === 'write' ? 'w' : 'r']
}

function bounds({ start, end }: Pick<LockRange, 'start' | 'end'>): [string, string] {
  return [start.toString().padStart(POSITION_DIGITS, '0'), end.toString().padStart(POSITION_DIGITS, '0')]
}
