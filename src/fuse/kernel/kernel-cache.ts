/**
 * What the kernel caches of this mount: lifetimes in answers (kernel-view.ts), and notifications that end
 * them early (invalidations.ts).
 *
 * Rules, and what each is for:
 * - A lifetime is given only to what the VFS holds in its own caches in the turn in which the answer is encoded: an answer that
 *   was overtaken while it was on its way is in none (vfs/coherence.ts).
 * - No lifetime is longer than what is left of the session's lease: a kernel whose mount process is stopped believes nothing
 *   beyond the time for which others wait for us.
 * - An event may come when the answer is written and the process that asked has not yet run to take it. The kernel orders
 *   these two by itself for attributes of inodes that it knows (attr_version), for names (the directory's lock, or the
 *   entry being dropped and not just expired), and for pages (their locks). The rest is in invalidations.ts.
 * - Answers to SETATTR and LINK, and to CREATE of a file that was there, the kernel takes whatever came in between: they
 *   have no lifetime for the attributes.
 * - AUTO_INVAL_DATA stays on (init.ts): a read of cached pages first looks at the attributes. So these guard the pages, too,
 *   when a data notification has to wait, and in a mount process that is stopped.
 * - An open asks the store, where no delegation says that nothing changed. Attributes and pages that are not as the store says
 *   now are dropped before the open is answered: a second opener must not find them because the first has not yet come to
 *   drop them.
 * - Dropping attributes does not change the size by which the kernel ends reads of cached pages: the next answer does, unless
 *   another notification comes before that is taken. So who opens a file that others changed reads past the cache. That does not help
 *   sendfile, copy_file_range and mappings, which go by that size however the file was opened: so who opens it to read, and may not have
 *   taken the size, is sent back once, to walk the path again with an answer for each name.
 * - Of a name that changes here the kernel changes the links and times of the inode that it took the name for. Where the store had
 *   another by then, that one's are dropped before the change is answered.
 * - What is written through this kernel is in its pages, and in its size: a commit that follows at once on the version of
 *   the pages leaves them as they are. Whether another's change came between, the number of the version tells.
 */
import { compareTime, type Clock } from '../../base/clock.js'
import type { Attr, VfsCoherence, VfsContract } from '../../vfs/contract.js'
import { Lru } from '../../vfs/lru.js'
import type { Name } from './given.js'
import { LIFETIME_MAX_MS } from './handed.js'
import { Invalidations } from './invalidations.js'
import { KernelView } from './kernel-view.js'
import type { Notifier } from './notifier.js'
import { SecondWalks } from './second-walks.js'
import type { Touched } from './touched.js'
import type { Lifetimes } from './wire.js'

const PAGES_MAX = 100_000
/** Of pages that may be of several. */
const NO_VERSION = -1

export interface KernelCacheOptions {
  readonly coherence: VfsCoherence
  readonly pins: Pick<VfsContract, 'pin' | 'unpin'>
  readonly clock: Clock
  /** null: the kernel cannot be told anything, so it may keep nothing. */
  readonly notifier: Notifier | null
  /** Whether a question about the inode's attributes is under way. */
  readonly isAsked: (ino: number) => boolean
  /** Whether anything is mounted below this mount. */
  readonly hasNested: () => boolean
  /** Files whose pages' versions are known. Default 100,000. */
  readonly pagesMax?: number
}

/** How the kernel is to read a file that was opened. */
export interface OpenedAs {
  readonly keepsPages: boolean
  /** Past the page cache, whatever it believes the size to be. */
  readonly isPast: boolean
  /** Until it takes an answer about the file, it may take it for as long as it was before others changed it. */
  readonly isSizeOld: boolean
}

export class KernelCache {
  /** The kernel can map files shared that are read past its page cache (init.ts). */
  canReadPast = false
  /** Who was sent back to walk a path again. */
  readonly secondWalks: SecondWalks
  readonly #coherence: VfsCoherence
  readonly #notifier: Notifier | null
  /** Empty where the kernel cannot be told anything. */
  readonly #view: KernelView
  readonly #told: Invalidations | null
  readonly #holds: (directory: number) => boolean
  /**
   * Data version of what the page cache holds of a file, if it holds anything. Of what is not in here it holds nothing, or a notice that has it
   * drop that is on its way, which the next open waits for. Nothing comes to it of a file that is not open.
   */
  readonly #pages: Lru<number, number>

  constructor({ coherence, pins, clock, notifier, pagesMax = PAGES_MAX, ...uses }: KernelCacheOptions) {
    this.secondWalks = new SecondWalks(clock, pins)
    this.#coherence = coherence
    this.#holds = (directory) => coherence.holds(directory)
    this.#notifier = notifier
    this.#pages = new Lru(
      pagesMax,
      (ino) => this.#told?.dropPages(ino),
      (ino) => !coherence.isOpen(ino) && this.#told?.isBeingTaken(ino) !== true,
    )
    const hasPages = (ino: number): boolean => this.#pages.has(ino)
    const withPages = (): Iterable<number> => this.#pages.keys()
    const view = new KernelView(clock)
    this.#view = view
    this.#told = notifier && new Invalidations({ clock, notifier, view, hasPages, withPages, ...uses })
    coherence.onInvalidate((what) => {
      if (what.kind === 'data') this.wroteBeside(what.ino)
      this.#told?.add(what)
    })
    coherence.onCommitted((ino, dataVersion) => this.#committed(ino, dataVersion))
  }

  /**
   * What is to be encoded of an inode now: the newest attributes that are known, and for how long they hold. `thread`: who
   * asked, 0 if that is not known; `askedMs`: when, on the monotonic clock, if not just now.
   */
  attr(given: Attr, thread = 0, askedMs?: number): { readonly attr: Attr; readonly attrMs: number } {
    const lifetimeMs = this.#lifetimeMs()
    const known = lifetimeMs === 0 ? undefined : this.#coherence.attr(given.ino)
    const attr = known ?? given
    const isKept = this.#told !== null && this.#view.answered(attr, known !== undefined, thread, askedMs)
    return { attr, attrMs: isKept && known !== undefined ? lifetimeMs : 0 }
  }

  entry(parent: number, name: Buffer, given: Attr, thread = 0, askedMs?: number): Lifetimes & { readonly attr: Attr } {
    const { attr, attrMs } = this.attr(given, thread, askedMs)
    this.#view.cameBy(parent, given.ino)
    return { attr, attrMs, entryMs: this.#entryMs(parent, name, given) }
  }

  /** How long the kernel may believe that there is no such name. */
  noEntryMs(parent: number, name: Buffer): number {
    return this.#entryMs(parent, name, null)
  }

  #entryMs(parent: number, name: Buffer, attr: Attr | null): number {
    const lifetimeMs = this.#lifetimeMs()
    if (lifetimeMs === 0 || this.#coherence.entry(parent, name) !== (attr?.ino ?? 0)) return 0
    return this.#view.named(parent, name, attr) ? lifetimeMs : 0
  }

  /** Whether the way to an inode that is to be opened was walked by true names. Resolves when all changes until now are known. */
  async isPathTrue(ino: number): Promise<boolean> {
    if (this.#told === null) return true
    if (!this.#view.isWayHeld(ino, this.#holds)) await this.#coherence.caughtUp()
    return !this.#told.isDoubtful(ino)
  }

  /**
   * For an open that is to be answered: the kernel forgets what is not as the store said just now, although the event may not
   * have come yet. Resolves when that is done. `thread`: who opens; `isSecond`: at the end of a second walk.
   */
  async opened(attr: Attr, thread = 0, isSecond = false): Promise<OpenedAs> {
    const { ino, dataVersion } = attr
    const known = this.#pages.get(ino)
    // Who is told nothing is not told either to drop what is forgotten here.
    const hasOtherPages = known === undefined ? this.#told === null : known !== dataVersion
    // Before any wait: what is written past them meanwhile, or committed, counts on from here.
    this.#setPages(ino, dataVersion)
    let [isPast, isSizeOld] = [false, false]
    if (this.#told !== null) {
      const isOther = hasOtherPages || this.#holdsOther(attr)
      const isOurs = !hasOtherPages && this.#view.isSizeOf(ino, dataVersion)
      // What has no lifetime is asked for before each open.
      const sinceMs = isSecond ? this.secondWalks.beganMs(thread) : undefined
      isSizeOld = this.#lifetimeMs() > 0 && this.#told.mayEndEarly(ino, dataVersion, thread, sinceMs)
      // Pages may be others because bytes of ours went past them.
      if (isOther) this.#told.drop(ino, hasOtherPages, this.#view.wasToldSizeOf(ino, dataVersion))
      isPast = this.canReadPast && (!isOurs || isSizeOld || this.#view.hasOldSize(ino))
      // Pages that somebody is reading just now are left to the kernel to drop, for each opener until they are gone.
      if (!(await this.#settled(ino))) {
        // What is in use stays, and more may come through this handle.
        this.#setPages(ino, NO_VERSION)
        return { keepsPages: false, isPast: this.canReadPast, isSizeOld }
      }
    }
    return { keepsPages: this.#told !== null || !hasOtherPages, isPast, isSizeOld }
  }

  /**
   * Contents change without passing through the kernel's pages: a commit that has such bytes does not make them newer. What
   * the kernel may have read in between is dropped by the next open.
   */
  wroteBeside(ino: number): void {
    if (this.#pages.has(ino)) this.#setPages(ino, NO_VERSION)
  }

  /** Contents that passed through the kernel's pages may lie elsewhere in the file: it drops the pages when it has its answer. */
  wroteElsewhere(ino: number): void {
    this.wroteBeside(ino)
    this.#told?.add({ kind: 'data', ino })
  }

  #committed(ino: number, dataVersion: number): void {
    this.#view.committed(ino, dataVersion)
    if (this.#pages.get(ino) === dataVersion - 1) this.#setPages(ino, dataVersion)
  }

  /** For an open that cut the file: the kernel drops all pages itself, and knows its size. */
  cut({ ino, dataVersion }: Attr): void {
    this.#view.cut(ino, dataVersion)
    this.#setPages(ino, dataVersion)
  }

  /**
   * Resolves when the kernel has been told all that is known of the inode, whoever is asking about it, or uses its pages, just now:
   * who reads through a mapping does not look at the attributes first.
   */
  async caughtUp(ino: number): Promise<void> {
    this.#told?.dropWaiting(ino)
    await this.#toldAttr(ino)
    await this.#notifier?.written('data', ino)
  }

  /**
   * A write or a cut has left this mode, which the kernel did not see in its request. Resolves when it goes by no other: who wrote
   * may look as soon as he has his answer.
   */
  async leftMode({ ino, mode }: Attr): Promise<void> {
    if ((this.#view.held(ino)?.mode ?? mode) !== mode) this.#told?.drop(ino, false)
    await this.#toldAttr(ino)
  }

  /**
   * A change of ours by which the kernel marks the inode's attributes as old without giving them a new version: an answer
   * that was given just before, and is taken after, would count. This gives them one. Resolves when that is done: what the kernel
   * asks after the change must not be overtaken by it, for it would judge access by the mode of before.
   */
  async overtook(ino: number): Promise<void> {
    this.#told?.dropRecent(ino)
    await this.#toldAttr(ino)
  }

  /** Whether these were changed is not known: the kernel, which takes them for unchanged, must ask. */
  doubt({ names, attrs, contents }: Touched): void {
    for (const name of names) this.#told?.doubt(name)
    for (const ino of attrs) this.#told?.drop(ino, false)
    for (const ino of contents) this.#told?.drop(ino, this.#pages.has(ino))
  }

  /** A thread changed names in a directory: the same for what other threads were answered about it. */
  namesChanged(directory: number, thread: number): void {
    this.#told?.dropOfOthers(directory, thread)
  }

  /** What the kernel takes the name for, if that is known: for `changedBy`, before a change of the name is begun. */
  meaning(parent: number, name: Buffer): number | undefined {
    return this.#view.meaning({ parent, name })
  }

  /**
   * Our change of a name has changed links or times of this inode, and the kernel those of the one that it took the name for. If
   * that is another, or may be: resolves when it goes by nothing of this one any more.
   */
  async changedBy(taken: number | undefined, ino: number): Promise<void> {
    if (ino === 0 || taken === ino) return
    if (this.#view.held(ino) !== undefined) this.#told?.drop(ino, false)
    await this.#toldAttr(ino)
  }

  /** A rename is about to be done. It may fail: nothing is lost by that. */
  moving(from: Name, to: Name, isExchange: boolean): void {
    this.#told?.moving(from, to, isExchange)
  }

  /** Minor version of the kernel's protocol. */
  set hasEpoch(hasEpoch: boolean) {
    if (this.#told !== null) this.#told.hasEpoch = hasEpoch
  }

  close(): void {
    this.secondWalks.close()
    this.#told?.close()
    this.#notifier?.close()
  }

  /** false: only the attributes, for the pages are in use. */
  async #settled(ino: number): Promise<boolean> {
    const notifier = this.#notifier
    if (notifier === null) return true
    await this.#toldAttr(ino)
    return notifier.isSettled('data', ino) || (await notifier.settled('data', ino))
  }

  async #toldAttr(ino: number): Promise<void> {
    if (this.#notifier?.isSettled('attr', ino) === false) await this.#notifier.settled('attr', ino)
  }

  #lifetimeMs(): number {
    return this.#told === null ? 0 : Math.min(this.#coherence.lifetimeMs(), LIFETIME_MAX_MS)
  }

  #holdsOther(attr: Attr): boolean {
    const held = this.#view.held(attr.ino)
    if (held === undefined) return false
    return held.dataVersion !== attr.dataVersion || compareTime(held.ctime, attr.ctime) !== 0
  }

  #setPages(ino: number, version: number): void {
    this.#pages.set(ino, version)
  }
}
