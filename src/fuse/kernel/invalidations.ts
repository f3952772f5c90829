/**
 * From what became false to what the kernel is told, and when.
 *
 * A notification about an inode makes the kernel ignore every answer about its attributes that is on its way: rightly, but a
 * read() or lseek(SEEK_END) that asked for the size then goes by the old one, and who asked because he comes through a directory is
 * judged by the mode, owner and group of before, however long ago they were changed (fuse_permission asks once). So what nobody
 * waits for is not written while such a question is under way, nor in the moment after its answer, in which the process that
 * asked comes to take it. It need not: the answer itself tells what is true, or has no lifetime (kernel-cache.ts).
 *
 *   changed --kernel holds nothing of it--> nothing to tell
 *           --asked for just now--> waits --moment over, or too long--> notifier.ts
 *           --else-------------------------------------------------->
 *
 * An inode that the kernel does not know (ENOENT) although it was described in an answer a moment ago is one that it is about
 * to know: it is notified once more a little later. Names have the same rule.
 */
import type { Clock } from '../../base/clock.js'
import type { Invalidation } from '../../vfs/contract.js'
import { Doubts } from './doubts.js'
import type { GivenAttr, GivenEntry, Name } from './given.js'
import { GRACE_MS, RECENT_MS, SEVERAL, entryKey, type KernelView } from './kernel-view.js'
import type { Notifier } from './notifier.js'
import { encodeIncEpoch, encodeInvalAttr, encodeInvalData, encodeInvalEntry } from './notify.js'

/** So long is waited at most for whoever asked to take the answer. */
const GRACE_MAX_MS = 20
/** What was handed out a moment ago and is not known is notified again after each of these. */
const AGAIN_MS: readonly number[] = [10, 100, 1_000]
const ENOENT = 2
const EPOCH = 'epoch'

interface Waiting {
  readonly sinceMs: number
  withData: boolean
}

export interface InvalidationOptions {
  readonly clock: Clock
  readonly notifier: Notifier
  /** What the kernel goes by. */
  readonly view: KernelView
  /** Whether the kernel may have pages of the file. */
  readonly hasPages: (ino: number) => boolean
  readonly withPages: () => Iterable<number>
  /** Whether a question about the inode's attributes is under way. */
  readonly isAsked: (ino: number) => boolean
  /** Whether anything is mounted below this mount: INC_EPOCH would take it off. */
  readonly hasNested: () => boolean
}

export class Invalidations {
  readonly #options: InvalidationOptions
  readonly #view: KernelView
  readonly #waiting = new Map<number, Waiting>()
  /** Notices about pages that are not written yet; true: one of them is about a change by others. */
  readonly #dataDue = new Map<number, boolean>()
  /** Names of which a notice is not written yet that is to be written again where the kernel did not know them. */
  readonly #againDue = new Set<string>()
  readonly #doubts = new Doubts()
  /** The kernel knows INC_EPOCH. */
  hasEpoch = false
  #isClosed = false

  constructor(options: InvalidationOptions) {
    this.#options = options
    this.#view = options.view
    options.notifier.overdue = () => this.#dropNames()
  }

  /** Whether somebody may have come to the inode by a name that means something else now. */
  isDoubtful(ino: number): boolean {
    return this.#doubts.has(ino, this.#nowMs())
  }

  /**
   * Whether the kernel may take the file for shorter than it is in this version: it was not told of the change of somebody else, a notice
   * may have had it ignore that, or another thread than this was told and may not have come to take it. `sinceMs`: when it was asked for
   * at the earliest.
   */
  mayEndEarly(ino: number, version: number, thread: number, sinceMs?: number): boolean {
    const given = this.#view.lastAttr(ino)
    if (given === undefined) return false
    if (given.isSizeOld || given.sizeVersion < version) return true
    if (this.#nowMs() - given.resizedAtMs >= RECENT_MS) return false
    const isOfThread = given.to === thread && thread !== SEVERAL
    if (!isOfThread && this.#nowMs() - given.atMs < RECENT_MS) return true
    const { notifier } = this.#options
    const isNoticed = given.noticedAtMs > (sinceMs ?? given.askedMs - GRACE_MAX_MS)
    return isNoticed || !notifier.isSettled('attr', ino) || !notifier.isSettled('data', ino)
  }

  add(what: Invalidation): void {
    switch (what.kind) {
      case 'attr':
        if (this.#view.held(what.ino) !== undefined) this.#whenTaken(what.ino, false)
        return
      case 'data':
        if (this.#options.hasPages(what.ino)) this.#whenTaken(what.ino, true)
        else if (this.#view.held(what.ino) !== undefined) this.#whenTaken(what.ino, false)
        return
      case 'entry':
        this.#dropEntry(what)
        return
      case 'all':
        this.#dropAll()
    }
  }

  /** What the name means may have changed, and with it what it meant before, and its directory. */
  doubt(name: Name): void {
    const { ino = 0, replaced = 0 } = this.#view.lastEntry(name) ?? {}
    this.#dropEntry(name)
    for (const one of [name.parent, ino, replaced]) if (one !== 0) this.drop(one, false)
  }

  /**
   * Now, whoever is asking: somebody waits for it. `isSizeKnown`: since the kernel knew the size, only it has changed the
   * contents. But this overtakes an answer that is on its way to it: if that was to tell what others did, it is not known.
   */
  drop(ino: number, alsoData: boolean, isSizeKnown = false): void {
    const withData = alsoData || this.#waiting.get(ino)?.withData === true
    const given = this.#view.lastAttr(ino)
    const wasRecent = given !== undefined && given.holds && this.#nowMs() - given.atMs < RECENT_MS
    this.#overtake(ino, given, isSizeKnown)
    const onDone = wasRecent ? this.#again(() => this.#postAttr(ino)) : undefined
    this.#postAttr(ino, onDone)
    if (withData) this.#postData(ino, !isSizeKnown)
  }

  /** Somebody asks for its attributes, or comes to take the answer, which a notice would have the kernel ignore. */
  isBeingTaken(ino: number): boolean {
    return this.#graceMs(ino) > 0
  }

  /** The kernel is to have no pages of a file that nobody has open, nor asks about. Their contents are not in doubt. */
  dropPages(ino: number): void {
    this.#postData(ino, false)
  }

  /** Nobody waits for it: for attributes that the kernel does not hold it asks anyway, and a notice would only overtake the answer. */
  #dropTaken(ino: number, withData: boolean): void {
    if (!withData || this.#view.held(ino) !== undefined) {
      this.drop(ino, withData)
      return
    }
    this.#overtake(ino, this.#view.lastAttr(ino), false)
    this.#postData(ino, true)
  }

  /** A notice is about to be posted. */
  #overtake(ino: number, given: GivenAttr | undefined, isSizeKnown: boolean): void {
    this.#waiting.delete(ino)
    if (given !== undefined) this.#view.overtaken(given, isSizeKnown)
  }

  /** It may be held back for as long as the file is read, and be posted again with each change: its end is noted once. */
  #postData(ino: number, isOfOthers: boolean): void {
    const due = this.#dataDue.get(ino)
    this.#dataDue.set(ino, isOfOthers || due === true)
    const onDone = due === undefined ? (): void => this.#dataDone(ino) : undefined
    this.#options.notifier.post('data', ino, ino, encodeInvalData(ino), onDone)
  }

  #dataDone(ino: number): void {
    const isOfOthers = this.#dataDue.get(ino) === true
    this.#dataDue.delete(ino)
    this.#view.noticed(ino, isOfOthers)
  }

  #postAttr(ino: number, onDone: (errno: number) => void = () => undefined): void {
    this.#options.notifier.post('attr', ino, ino, encodeInvalAttr(ino), (errno) => {
      this.#view.noticed(ino, false)
      onDone(errno)
    })
  }

  /** For a change that the kernel makes known to itself without a new version: an answer from before may still be on its way. */
  dropRecent(ino: number): void {
    const given = this.#view.lastAttr(ino)
    if (given?.holds === true && this.#nowMs() - given.atMs < RECENT_MS) this.drop(ino, false)
  }

  /**
   * The thread changed a directory, whose attributes the kernel marks as old by itself, without a new version. Its own
   * earlier answers it has taken; those of other threads may be on their way still, and would count.
   */
  dropOfOthers(ino: number, thread: number): void {
    const given = this.#view.lastAttr(ino)
    if (given === undefined || (given.to === thread && thread !== SEVERAL)) return
    this.dropRecent(ino)
  }

  /**
   * A name is about to move here, and the kernel lets the new one live for as long as the old one was to. It does so by what it
   * knew of the old name: what becomes known to be false of that is false of the new one.
   */
  moving(from: Name, to: Name, isExchange: boolean): void {
    const [given, other] = [this.#view.lastEntry(from), this.#view.lastEntry(to)]
    this.#move(from, given, to, other)
    if (isExchange) this.#move(to, other, from, given)
  }

  #move(from: Name, given: GivenEntry | undefined, to: Name, other: GivenEntry | undefined): void {
    if (given === undefined) return
    const isDropped = !given.holds && !this.#options.notifier.isSettled('entry', entryKey(from.parent, from.name))
    const isKept = this.#view.moved(from, given, to, other)
    // Written when the directory is unlocked, so after the move.
    if (!isKept || isDropped) this.#postEntry(to)
  }

  /** What waits for who is asking waits no longer. */
  dropWaiting(ino: number): void {
    if (this.#waiting.has(ino)) this.drop(ino, false)
  }

  close(): void {
    this.#isClosed = true
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }

  #whenTaken(ino: number, withData: boolean): void {
    const waiting = this.#waiting.get(ino)
    if (waiting !== undefined) {
      waiting.withData ||= withData
      return
    }
    // Only a change of contents has another size with it; rights are seldom new.
    const graceMs = withData || this.#mayBringRights(ino) ? this.#graceMs(ino) : 0
    if (graceMs <= 0) {
      this.#dropTaken(ino, withData)
      return
    }
    const entry = { sinceMs: this.#nowMs(), withData }
    this.#waiting.set(ino, entry)
    void this.#wait(ino, entry, graceMs)
  }

  async #wait(ino: number, entry: Waiting, firstMs: number): Promise<void> {
    for (let ms = firstMs; ms > 0 && this.#nowMs() - entry.sinceMs < GRACE_MAX_MS; ms = this.#graceMs(ino)) {
      await this.#options.clock.sleep(Math.ceil(ms))
    }
    // Dropped meanwhile, for somebody who could not wait.
    if (this.#waiting.get(ino) !== entry || this.#isClosed) return
    this.#dropTaken(ino, entry.withData)
  }

  /** Whether an answer that the kernel may not have taken yet may tell of rights that it does not know. */
  #mayBringRights(ino: number): boolean {
    return this.#options.isAsked(ino) || this.#view.lastAttr(ino)?.hasNewRights === true
  }

  #graceMs(ino: number): number {
    if (this.#options.isAsked(ino)) return GRACE_MS
    const given = this.#view.lastAttr(ino)
    return given === undefined ? 0 : given.atMs + GRACE_MS - this.#nowMs()
  }

  #dropEntry(dropped: Name): void {
    const given = this.#view.lastEntry(dropped)
    const moved = given?.movedTo
    if (given !== undefined && moved !== undefined) {
      given.movedTo = undefined
      this.#dropEntry(moved)
    }
    if (given?.holds !== true) return
    given.holds = false
    this.#doubts.add(given, this.#nowMs())
    const { parent, name } = dropped
    const key = entryKey(parent, name)
    const bytes = encodeInvalEntry(parent, name)
    const post = (): void => {
      this.#options.notifier.post('entry', key, parent, bytes)
    }
    const isRecent = this.#nowMs() - given.atMs < RECENT_MS
    // It may wait for its directory for long, and be posted again with each change: its end is noted once.
    if (!isRecent || this.#againDue.has(key)) return post()
    this.#againDue.add(key)
    const again = this.#again(post)
    this.#options.notifier.post('entry', key, parent, bytes, (errno) => {
      this.#againDue.delete(key)
      again(errno)
    })
  }

  #postEntry({ parent, name }: Name): void {
    this.#options.notifier.post('entry', entryKey(parent, name), parent, encodeInvalEntry(parent, name))
  }

  #dropAll(): void {
    if (!this.#dropNames()) for (const name of this.#view.names()) this.#expire(name)
    for (const ino of this.#options.withPages()) this.#whenTaken(ino, true)
    for (const ino of this.#view.inos()) if (this.#view.held(ino) !== undefined) this.#whenTaken(ino, false)
  }

  /** All names at once, without waiting for anybody. false: that cannot be. */
  #dropNames(): boolean {
    if (!this.hasEpoch || this.#options.hasNested()) return false
    this.#options.notifier.post('attr', EPOCH, 0, encodeIncEpoch())
    return true
  }

  #expire({ parent, name }: Name): void {
    this.#options.notifier.post('entry', `${entryKey(parent, name)}/`, parent, encodeInvalEntry(parent, name, true))
  }

  /** For a notice of what was handed out a moment ago. */
  #again(post: () => void): (errno: number) => void {
    return (errno) => {
      if (errno !== ENOENT) return
      for (const ms of AGAIN_MS) {
        void this.#options.clock.sleep(ms).then(() => {
          if (!this.#isClosed) post()
        })
      }
    }
  }
}
