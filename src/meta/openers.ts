/**
 * Which inodes this session has open, and telling Redis so.
 *
 * Invariant: while an inode is open here, or its opening is under way, the session stands in the inode's list of openers
 * (so that the last unlink keeps it). Closings are sent in batches, and never while one is being opened: an opening waits
 * for the batch that has its inode, and takes it out of those not sent yet.
 *
 * What was opened by a delegation (holdings.ts) is owed: the session stands in the list before anybody may take the last
 * name away, that is before the delegation is given back, and before an own change that may do so; else after OWED_MS.
 * What is closed before that is never told. What is owed never waits for closings of other inodes: a freeze holds those up, for longer than
 * a delegation lasts.
 *
 * A closing that could not be told is told again when the partition takes changes again: else the file would stay, when its last name goes,
 * for as long as the session lives. So is that of a file whose registration failed: nobody knows whether it was made.
 *
 * A copy of a closing that failed may come later still, and must not come behind an opening, which waits for that (late-copies.ts).
 */
import type { Core } from './core.js'
import { messageOf } from '../base/errors.js'
import { LateCopies } from './late-copies.js'
import { SCRIPTS } from './scripts.js'

const FLUSH_DELAY_MS = 20
const BATCH_MAX = 64
const OWED_MS = 50

interface Sending {
  /** Of which it is not known yet that they were told, or are kept. */
  readonly inos: Set<number>
  /** By partition: ends when it has none of these any more. */
  readonly parts: ReadonlyMap<number, Promise<void>>
  readonly done: Promise<void>
}

export class Openers {
  readonly #core: Core
  readonly #counts = new Map<number, number>()
  readonly #closing = new Set<number>()
  #sending: Sending | undefined
  #timer: NodeJS.Timeout | undefined
  /** The session stands in their lists, or is about to. */
  readonly #registered = new Set<number>()
  /** By partition: inodes that are open and not registered, and since when. */
  readonly #owed = new Map<number, Map<number, number>>()
  readonly #paying = new Map<number, Promise<void>>()
  /** By partition: inodes in whose lists the session may stand, since their closing or their registration failed. */
  readonly #untold = new Map<number, Set<number>>()
  /** Closings, by inode. */
  readonly #late = new LateCopies<number>()
  #owedTimer: NodeJS.Timeout | undefined

  constructor(core: Core) {
    this.#core = core
  }

  get inos(): Iterable<number> {
    return this.#counts.keys()
  }

  /** `register` runs the script that makes this session an opener. */
  async open<T>(ino: number, register: () => Promise<T>): Promise<T> {
    this.#count(ino, 1)
    const { session } = this.#core
    const { id } = session
    try {
      while (this.#isSending(ino) || this.#late.has(ino)) {
        await (this.#late.end(ino) ?? this.#sending?.parts.get(this.#core.keys.home(ino)))
      }
      const reply = await register()
      // The session in which it was opened may be over by now.
      if (session.id === id) this.#isRegistered(ino)
      else this.#owe(ino)
      return reply
    } catch (error) {
      // It may have been made, and others here may have it open, who would not tell what they owe.
      if (session.id === id) this.#keepUntold(this.#core.keys.home(ino), ino)
      this.close(ino)
      throw error
    }
  }

  /** An inode that a script has just created and registered. */
  opened(ino: number): void {
    this.#count(ino, 1)
    this.#isRegistered(ino)
  }

  /** Opened by a delegation of its partition. false: not, its closing is being told, or may come yet. */
  openHeld(ino: number): boolean {
    if (this.#isSending(ino) || this.#late.has(ino)) return false
    this.#count(ino, 1)
    if (!this.#registered.has(ino)) this.#owe(ino)
    return true
  }

  close(ino: number): void {
    const left = (this.#counts.get(ino) ?? 0) - 1
    if (left > 0) {
      this.#counts.set(ino, left)
      return
    }
    this.#counts.delete(ino)
    const wasOwed = this.#forgive(ino)
    if (this.#takeUntold(ino) || !wasOwed) this.#tell(ino)
  }

  #tell(ino: number): void {
    this.#closing.add(ino)
    if (this.#closing.size >= BATCH_MAX) void this.flush()
    else this.#timer ??= setTimeout(() => void this.flush(), FLUSH_DELAY_MS)
  }

  /** The session is over: it stands in no list any more. What is open is owed by the next. */
  ended(): void {
    this.#registered.clear()
    this.#closing.clear()
    this.#untold.clear()
    this.#late.clear()
    for (const ino of this.#counts.keys()) this.#owe(ino)
  }

  /** A change of the partition was judged. */
  judged(p: number): void {
    const untold = this.#untold.get(p)
    if (untold === undefined) return
    this.#untold.delete(p)
    for (const ino of untold) {
      if (!this.#counts.has(ino)) this.#tell(ino)
      // What is owed may never be told.
      else if (!this.#registered.has(ino)) this.#keepUntold(p, ino)
    }
  }

  #keepUntold(p: number, ino: number): void {
    const untold = this.#untold.get(p)
    if (untold === undefined) this.#untold.set(p, new Set([ino]))
    else untold.add(ino)
  }

  #takeUntold(ino: number): boolean {
    const p = this.#core.keys.home(ino)
    const untold = this.#untold.get(p)
    if (untold?.delete(ino) !== true) return false
    if (untold.size === 0) this.#untold.delete(p)
    return true
  }

  /** The session has been made its opener beside the above. */
  registered(ino: number): void {
    if (this.#counts.has(ino)) this.#isRegistered(ino)
    else this.#tell(ino)
  }

  #count(ino: number, by: number): void {
    this.#counts.set(ino, (this.#counts.get(ino) ?? 0) + by)
    // One that is told once more, or was told beside: what is owed may never be told.
    if (this.#closing.delete(ino) && !this.#registered.has(ino)) this.#keepUntold(this.#core.keys.home(ino), ino)
  }

  #isSending(ino: number): boolean {
    return this.#sending?.inos.has(ino) === true
  }

  #isRegistered(ino: number): void {
    this.#registered.add(ino)
    this.#forgive(ino)
  }

  #owe(ino: number): void {
    const p = this.#core.keys.home(ino)
    const owed = this.#owed.get(p)
    const nowMs = this.#core.options.clock.monotonicMs()
    if (owed === undefined) this.#owed.set(p, new Map([[ino, nowMs]]))
    else if (!owed.has(ino)) owed.set(ino, nowMs)
    this.#owedTimer ??= setTimeout(() => this.#payOld(), OWED_MS)
  }

  #forgive(ino: number): boolean {
    const p = this.#core.keys.home(ino)
    const owed = this.#owed.get(p)
    if (owed?.delete(ino) !== true) return false
    if (owed.size === 0) this.#owed.delete(p)
    return true
  }

  #payOld(): void {
    this.#owedTimer = undefined
    const oldMs = this.#core.options.clock.monotonicMs() - OWED_MS
    for (const [p, owed] of this.#owed) {
      if ([...owed.values()].some((sinceMs) => sinceMs <= oldMs)) {
        this.pay(p).catch((error: unknown) => {
          this.#core.options.log.warn({ error: messageOf(error) }, 'open files could not be registered yet')
        })
      }
    }
    if (this.#owed.size > 0) this.#owedTimer ??= setTimeout(() => this.#payOld(), OWED_MS)
  }

  /** Nothing is owed in the partition, or about to be registered. */
  isPaid(p: number): boolean {
    return !this.#paying.has(p) && !this.#owed.has(p)
  }

  /**
   * Registers what is owed in the partition. `token`: in the same script, or the last of them, the delegation that has it, or an
   * older one, ends. Throws what keeps it from that; it is owed still then.
   */
  pay(p: number, token = 0): Promise<void> {
    if (token === 0 && this.isPaid(p)) return Promise.resolve()
    const before = this.#paying.get(p)
    const paying = Promise.allSettled([before])
      .then(() => this.#pay(p, token))
      .finally(() => {
        if (this.#paying.get(p) === paying) this.#paying.delete(p)
      })
    this.#paying.set(p, paying)
    return paying
  }

  async #pay(p: number, token: number): Promise<void> {
    const { session } = this.#core
    for (let isLast = false; !isLast;) {
      const inos = this.#owedIn(p)
      // A closing that is being sent would come behind its registration.
      if (inos.some((ino) => this.#isSending(ino))) {
        await this.#sending?.parts.get(p)
        continue
      }
      for (const ino of inos) this.#isRegistered(ino)
      isLast = !this.#owed.has(p)
      if (inos.length === 0 && token === 0) return
      const { id } = session
      try {
        await this.#core.change(SCRIPTS.register, p, [], [isLast ? token : 0, ...inos])
      } catch (error) {
        for (const ino of inos) {
          this.#registered.delete(ino)
          if (!this.#counts.has(ino)) continue
          this.#owe(ino)
          // It may have been made: what is closed before it is tried again is told.
          if (session.id === id) this.#keepUntold(p, ino)
        }
        throw error
      }
    }
  }

  #owedIn(p: number): number[] {
    return [...(this.#owed.get(p)?.keys() ?? [])].slice(0, BATCH_MAX)
  }

  /** Sends all closings that wait. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (this.#sending !== undefined || this.#paying.size > 0) {
      await (this.#sending?.done ?? Promise.allSettled([...this.#paying.values()]))
    }
    if (this.#closing.size === 0) return
    const inos = new Set(this.#closing)
    this.#closing.clear()
    for (const ino of inos) this.#registered.delete(ino)
    const parts = new Map([...this.#byPartition(inos)].map(([p, list]) => [p, this.#sendTo(p, list, inos)]))
    const done = Promise.all(parts.values()).then(() => {
      this.#sending = undefined
    })
    this.#sending = { inos, parts, done }
    await done
  }

  #byPartition(inos: ReadonlySet<number>): Map<number, number[]> {
    const byPartition = new Map<number, number[]>()
    for (const ino of inos) {
      const p = this.#core.keys.home(ino)
      const list = byPartition.get(p)
      if (list === undefined) byPartition.set(p, [ino])
      else list.push(ino)
    }
    return byPartition
  }

  /** In pieces: after an outage they may be many, and Redis does nothing else while a script runs. */
  async #sendTo(p: number, list: readonly number[], sending: Set<number>): Promise<void> {
    const { session, options } = this.#core
    const { id } = session
    for (let at = 0; at < list.length; at += BATCH_MAX) {
      const piece = list.slice(at, at + BATCH_MAX)
      try {
        await this.#core.change(SCRIPTS.close, p, [], [id, ...piece])
        for (const ino of piece) sending.delete(ino)
      } catch (error) {
        options.log.warn({ error: messageOf(error) }, 'a close was not told')
        const past = session.id === id ? session.past(p) : undefined
        for (const ino of piece) this.#late.add(ino, past)
        for (const ino of list.slice(at)) {
          sending.delete(ino)
          // One that is over has nothing open.
          if (session.id === id) this.#keepUntold(p, ino)
        }
        return
      }
    }
  }

  /** Nothing is told any more. */
  stop(): void {
    clearTimeout(this.#owedTimer)
    clearTimeout(this.#timer)
    this.#owed.clear()
    this.#untold.clear()
  }
}
