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
import type { Attr, Invalidation } from '../../vfs/contract.js'
import { ROOT_INO } from '../../base/limits.js'
import { Doubts } from './doubts.js'
import type { GivenAttr, GivenEntry, Name } from './given.js'
import { Handed, LIFETIME_MAX_MS } from './handed.js'
import type { Notifier } from './notifier.js'
import { SymlinkWays, Way } from './way.js'
import { encodeIncEpoch, encodeInvalAttr, encodeInvalData, encodeInvalEntry } from './notify.js'

/** In which whoever asked comes to take the answer, and how long he is waited for at most. */
const GRACE_MS = 2
const GRACE_MAX_MS = 20
/** What was handed out less than this ago and is not known is notified again after each of these. */
const RECENT_MS = 1_000
const AGAIN_MS: readonly number[] = [10, 100, 1_000]
const ENOENT = 2
const DEPTH_MAX = 256
const EPOCH = 'epoch'
const SEVERAL = 0

interface Waiting {
  readonly sinceMs: number
  withData: boolean
}

export interface InvalidationOptions {
  readonly clock: Clock
  readonly notifier: Notifier
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
  readonly #attrs = new Handed<number, GivenAttr>(LIFETIME_MAX_MS)
  readonly #entries = new Handed<string, GivenEntry>(LIFETIME_MAX_MS)
  readonly #waiting = new Map<number, Waiting>()
  /** Notices about pages that are not written yet; true: one of them is about a change by others. */
  readonly #dataDue = new Map<number, boolean>()
  /** Names of which a notice is not written yet that is to be written again where the kernel did not know them. */
  readonly #againDue = new Set<string>()
  readonly #doubts = new Doubts()
  readonly #symlinks = new SymlinkWays()
  /** The kernel knows INC_EPOCH. */
  hasEpoch = false
  #isClosed = false

  constructor(options: InvalidationOptions) {
    this.#options = options
    options.notifier.overdue = () => this.#dropNames()
  }

  /**
   * An answer about the inode goes out. false: it must have no lifetime, since there is no room to remember it. One without a
   * lifetime does not end that of another before it: the kernel ignores an answer that was overtaken (by a write, which
   * makes it ask for size and times, and leaves mode and owner as they were), and goes on by what it had.
   */
  answered(attr: Attr, holds: boolean, thread = SEVERAL, askedMs?: number): boolean {
    const atMs = this.#nowMs()
    const last = this.#attrs.last(attr.ino, atMs)
    const held = last?.holds === true ? last : undefined
    const isAlone = held === undefined || held.to === thread || atMs - held.atMs >= RECENT_MS
    const given = {
      atMs,
      askedMs: askedMs ?? atMs,
      attr: holds ? attr : (held?.attr ?? attr),
      told: attr,
      hasNewRights: hasNewRights(last, attr, atMs),
      isOvertaken: false,
      holds: holds || held !== undefined,
      to: isAlone ? thread : SEVERAL,
      sizeVersion: holds || held === undefined ? attr.dataVersion : held.sizeVersion,
      resizedAtMs: lastOf(last?.resizedAtMs),
      noticedAtMs: lastOf(last?.noticedAtMs),
      isSizeOld: !holds && last?.isSizeOld === true,
      way: last?.way ?? new Way(),
    }
    return this.#attrs.add(attr.ino, given, attr.type === 'directory')
  }

  /** The kernel comes to the inode by a name in this directory, whether the name has a lifetime or not. After `answered`. */
  cameBy(parent: number, ino: number): void {
    this.#attrs.last(ino, this.#nowMs())?.way.add(parent, this.#nowMs())
  }

  /**
   * Whether all directories are held in which the kernel may have found names on its way to the inode. false: some are not, or it is
   * not known which they are. All are asked for, also behind the first that is not held: asking is a wish.
   */
  isWayHeld(ino: number, holds: (directory: number) => boolean): boolean {
    let areHeld = this.#isAboveHeld(ino, holds)
    const throughSymlinks = this.#symlinks.directories(this.#nowMs())
    if (throughSymlinks === undefined) return false
    for (const directory of throughSymlinks) {
      areHeld = holds(directory) && this.#isAboveHeld(directory, holds) && areHeld
    }
    return areHeld
  }

  #isAboveHeld(ino: number, holds: (directory: number) => boolean): boolean {
    let areHeld = true
    for (let at = ino, steps = 0; at !== ROOT_INO; steps++) {
      const parent = this.#attrs.last(at, this.#nowMs())?.way.only
      if (parent === undefined || steps === DEPTH_MAX) return false
      areHeld = holds(parent) && areHeld
      at = parent
    }
    return areHeld
  }

  /** The name goes out with a lifetime; null: that there is none. */
  named(parent: number, name: Buffer, attr: Attr | null): boolean {
    // Else nobody would know by which directories the kernel comes there.
    if (attr !== null && this.#attrs.last(attr.ino, this.#nowMs()) === undefined) return false
    const movedTo = this.#lastEntry({ parent, name })?.movedTo
    if (attr?.type === 'symlink') this.#symlinks.add(parent, this.#nowMs())
    const ino = attr?.ino ?? 0
    const given = { atMs: this.#nowMs(), holds: true, ino, leadsOn: leadsOn(attr), replaced: 0, movedTo }
    return this.#entries.add(entryKey(parent, name), given, given.leadsOn)
  }

  /** Whether somebody may have come to the inode by a name that means something else now. */
  isDoubtful(ino: number): boolean {
    return this.#doubts.has(ino, this.#nowMs())
  }

  /** What the kernel takes the name for without asking, 0 for no inode; undefined: nothing. */
  meaning(name: Name): number | undefined {
    const given = this.#lastEntry(name)
    return given?.holds === true ? given.ino : undefined
  }

  /** What the kernel goes by without asking, if anything. */
  held(ino: number): Attr | undefined {
    const given = this.#attrs.last(ino, this.#nowMs())
    return given?.holds === true ? given.attr : undefined
  }

  /** What was written through the kernel made `version` of the one before. */
  committed(ino: number, version: number): void {
    const given = this.#attrs.last(ino, this.#nowMs())
    if (given?.sizeVersion === version - 1) given.sizeVersion = version
  }

  /** Whether what the kernel goes by, if anything, tells the size of these contents. */
  isSizeOf(ino: number, version: number): boolean {
    const given = this.#attrs.last(ino, this.#nowMs())
    return given?.holds !== true || given.sizeVersion === version
  }

  /** Whether the kernel may take the file for as long as it was before somebody else changed it. */
  hasOldSize(ino: number): boolean {
    return this.#attrs.last(ino, this.#nowMs())?.isSizeOld === true
  }

  /**
   * Whether the kernel may take the file for shorter than it is in this version: it was not told of the change of somebody else, a notice
   * may have had it ignore that, or another thread than this was told and may not have come to take it. `sinceMs`: when it was asked for
   * at the earliest.
   */
  mayEndEarly(ino: number, version: number, thread: number, sinceMs?: number): boolean {
    const given = this.#attrs.last(ino, this.#nowMs())
    if (given === undefined) return false
    if (given.isSizeOld || given.sizeVersion < version) return true
    if (this.#nowMs() - given.resizedAtMs >= RECENT_MS) return false
    const isOfThread = given.to === thread && thread !== SEVERAL
    if (!isOfThread && this.#nowMs() - given.atMs < RECENT_MS) return true
    const { notifier } = this.#options
    const isNoticed = given.noticedAtMs > (sinceMs ?? given.askedMs - GRACE_MAX_MS)
    return isNoticed || !notifier.isSettled('attr', ino) || !notifier.isSettled('data', ino)
  }

  /** Whether the kernel was told the size of these contents, or has made them of those whose size it was told. */
  wasToldSizeOf(ino: number, version: number): boolean {
    return this.#attrs.last(ino, this.#nowMs())?.sizeVersion === version
  }

  /** The kernel has cut the file itself. */
  cut(ino: number, version: number): void {
    const given = this.#attrs.last(ino, this.#nowMs())
    if (given === undefined) return
    given.sizeVersion = version
    given.isSizeOld = false
  }

  add(what: Invalidation): void {
    switch (what.kind) {
      case 'attr':
        if (this.held(what.ino) !== undefined) this.#whenTaken(what.ino, false)
        return
      case 'data':
        if (this.#options.hasPages(what.ino)) this.#whenTaken(what.ino, true)
        else if (this.held(what.ino) !== undefined) this.#whenTaken(what.ino, false)
        return
      case 'entry':
        this.#dropEntry(what.parent, what.name)
        return
      case 'all':
        this.#dropAll()
    }
  }

  /** What the name means may have changed, and with it what it meant before, and its directory. */
  doubt({ parent, name }: Name): void {
    const { ino = 0, replaced = 0 } = this.#lastEntry({ parent, name }) ?? {}
    this.#dropEntry(parent, name)
    for (const one of [parent, ino, replaced]) if (one !== 0) this.drop(one, false)
  }

  /**
   * Now, whoever is asking: somebody waits for it. `isSizeKnown`: since the kernel knew the size, only it has changed the
   * contents. But this overtakes an answer that is on its way to it: if that was to tell what others did, it is not known.
   */
  drop(ino: number, alsoData: boolean, isSizeKnown = false): void {
    const withData = alsoData || this.#waiting.get(ino)?.withData === true
    const given = this.#attrs.last(ino, this.#nowMs())
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
    if (!withData || this.held(ino) !== undefined) {
      this.drop(ino, withData)
      return
    }
    this.#overtake(ino, this.#attrs.last(ino, this.#nowMs()), false)
    this.#postData(ino, true)
  }

  /** A notice is about to be posted. */
  #overtake(ino: number, given: GivenAttr | undefined, isSizeKnown: boolean): void {
    this.#waiting.delete(ino)
    if (given === undefined) return
    given.holds = false
    given.isOvertaken ||= this.#nowMs() - given.atMs < GRACE_MS
    if (!isSizeKnown) given.resizedAtMs = this.#nowMs()
    given.isSizeOld ||= this.#nowMs() - given.resizedAtMs < RECENT_MS
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
    this.#noticed(ino, isOfOthers)
  }

  #postAttr(ino: number, onDone: (errno: number) => void = () => undefined): void {
    this.#options.notifier.post('attr', ino, ino, encodeInvalAttr(ino), (errno) => {
      this.#noticed(ino, false)
      onDone(errno)
    })
  }

  /** A notice is written. One about pages that others changed may have been held back for long. */
  #noticed(ino: number, isOfOthers: boolean): void {
    const given = this.#attrs.last(ino, this.#nowMs())
    if (given === undefined) return
    given.noticedAtMs = this.#nowMs()
    if (isOfOthers) given.resizedAtMs = this.#nowMs()
  }

  /** For a change that the kernel makes known to itself without a new version: an answer from before may still be on its way. */
  dropRecent(ino: number): void {
    const given = this.#attrs.last(ino, this.#nowMs())
    if (given?.holds === true && this.#nowMs() - given.atMs < RECENT_MS) this.drop(ino, false)
  }

  /**
   * The thread changed a directory, whose attributes the kernel marks as old by itself, without a new version. Its own
   * earlier answers it has taken; those of other threads may be on their way still, and would count.
   */
  dropOfOthers(ino: number, thread: number): void {
    const given = this.#attrs.last(ino, this.#nowMs())
    if (given === undefined || (given.to === thread && thread !== SEVERAL)) return
    this.dropRecent(ino)
  }

  /**
   * A name is about to move here, and the kernel lets the new one live for as long as the old one was to. It does so by what it
   * knew of the old name: what becomes known to be false of that is false of the new one.
   */
  moving(from: Name, to: Name, isExchange: boolean): void {
    const [given, other] = [this.#lastEntry(from), this.#lastEntry(to)]
    this.#move(from, given, to, other)
    if (isExchange) this.#move(to, other, from, given)
  }

  #move(from: Name, given: GivenEntry | undefined, to: Name, other: GivenEntry | undefined): void {
    if (given === undefined) return
    const { notifier } = this.#options
    const isDropped = !given.holds && !notifier.isSettled('entry', entryKey(from.parent, from.name))
    const { ino, leadsOn } = given
    if (this.#attrs.last(ino, this.#nowMs())?.attr.type === 'symlink') this.#symlinks.add(to.parent, this.#nowMs())
    const replaced = other?.ino ?? 0
    const moved = { ino, leadsOn, replaced, atMs: this.#nowMs(), holds: true, movedTo: other?.movedTo }
    const isKept = this.#entries.add(entryKey(to.parent, to.name), moved)
    this.cameBy(to.parent, ino)
    const left = this.#lastEntry(from)
    if (left !== undefined) left.movedTo = to
    // Written when the directory is unlocked, so after the move.
    if (!isKept || isDropped) this.#postEntry(to)
  }

  #lastEntry({ parent, name }: Name): GivenEntry | undefined {
    return this.#entries.last(entryKey(parent, name), this.#nowMs())
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
    return this.#options.isAsked(ino) || this.#attrs.last(ino, this.#nowMs())?.hasNewRights === true
  }

  #graceMs(ino: number): number {
    if (this.#options.isAsked(ino)) return GRACE_MS
    const given = this.#attrs.last(ino, this.#nowMs())
    return given === undefined ? 0 : given.atMs + GRACE_MS - this.#nowMs()
  }

  #dropEntry(parent: number, name: Buffer): void {
    const key = entryKey(parent, name)
    const given = this.#entries.last(key, this.#nowMs())
    const moved = given?.movedTo
    if (given !== undefined && moved !== undefined) {
      given.movedTo = undefined
      this.#dropEntry(moved.parent, moved.name)
    }
    if (given?.holds !== true) return
    given.holds = false
    this.#doubts.add(given, this.#nowMs())
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
    const nowMs = this.#nowMs()
    if (!this.#dropNames()) for (const key of this.#entries.keys(nowMs)) this.#expire(key)
    for (const ino of this.#options.withPages()) this.#whenTaken(ino, true)
    for (const ino of this.#attrs.keys(nowMs)) if (this.held(ino) !== undefined) this.#whenTaken(ino, false)
  }

  /** All names at once, without waiting for anybody. false: that cannot be. */
  #dropNames(): boolean {
    if (!this.hasEpoch || this.#options.hasNested()) return false
    this.#options.notifier.post('attr', EPOCH, 0, encodeIncEpoch())
    return true
  }

  #expire(key: string): void {
    const slash = key.indexOf('/')
    const parent = Number(key.slice(0, slash))
    const name = Buffer.from(key.slice(slash + 1), 'latin1')
    this.#options.notifier.post('entry', `${key}/`, parent, encodeInvalEntry(parent, name, true))
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

function lastOf(atMs: number | undefined): number {
  return atMs ?? -Infinity
}

/** Of who is not known to have them: nothing was answered for long, or something else, or what was answered was overtaken. */
function hasNewRights(last: GivenAttr | undefined, { mode, uid, gid }: Attr, atMs: number): boolean {
  if (last === undefined) return true
  const isTaken = !last.isOvertaken && atMs - last.atMs >= GRACE_MS
  const { told } = last
  return (last.hasNewRights && !isTaken) || told.mode !== mode || told.uid !== uid || told.gid !== gid
}

function leadsOn(attr: Attr | null): boolean {
  return attr?.type === 'directory' || attr?.type === 'symlink'
}

/** latin1 keeps every byte of the name apart. */
function entryKey(parent: number, name: Buffer): string {
  return `${parent}/${name.toString('latin1')}`
}
