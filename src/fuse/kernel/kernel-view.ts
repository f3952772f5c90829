/**
 * What the kernel goes by: what of inodes and names was answered to it with a lifetime that has not run out, and has not been ended by a
 * notice. It only knows; invalidations.ts says what the kernel is told, and when.
 *
 * Invariant: what the kernel may go by without asking is in here (handed.ts). What is in here the kernel may have forgotten.
 */
import type { Clock } from '../../base/clock.js'
import { ROOT_INO } from '../../base/limits.js'
import type { Attr } from '../../vfs/contract.js'
import type { GivenAttr, GivenEntry, Name } from './given.js'
import { Handed, LIFETIME_MAX_MS } from './handed.js'
import { SymlinkWays, Way } from './way.js'

/** In which whoever asked comes to take the answer. */
export const GRACE_MS = 2
/** An answer that was given less than this ago may still be on its way. */
export const RECENT_MS = 1_000
/** In the place of a thread: not only one, or it is not known. */
export const SEVERAL = 0
const DEPTH_MAX = 256

export class KernelView {
  readonly #clock: Clock
  readonly #attrs = new Handed<number, GivenAttr>(LIFETIME_MAX_MS)
  readonly #entries = new Handed<string, GivenEntry>(LIFETIME_MAX_MS)
  readonly #symlinks = new SymlinkWays()

  constructor(clock: Clock) {
    this.#clock = clock
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
    this.lastAttr(ino)?.way.add(parent, this.#nowMs())
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
      const parent = this.lastAttr(at)?.way.only
      if (parent === undefined || steps === DEPTH_MAX) return false
      areHeld = holds(parent) && areHeld
      at = parent
    }
    return areHeld
  }

  /** The name goes out with a lifetime; null: that there is none. */
  named(parent: number, name: Buffer, attr: Attr | null): boolean {
    // Else nobody would know by which directories the kernel comes there.
    if (attr !== null && this.lastAttr(attr.ino) === undefined) return false
    const movedTo = this.lastEntry({ parent, name })?.movedTo
    if (attr?.type === 'symlink') this.#symlinks.add(parent, this.#nowMs())
    const ino = attr?.ino ?? 0
    const given = { atMs: this.#nowMs(), holds: true, ino, leadsOn: leadsOn(attr), replaced: 0, movedTo }
    return this.#entries.add(entryKey(parent, name), given, given.leadsOn)
  }

  /** What the kernel takes the name for without asking, 0 for no inode; undefined: nothing. */
  meaning(name: Name): number | undefined {
    const given = this.lastEntry(name)
    return given?.holds === true ? given.ino : undefined
  }

  /** What the kernel goes by without asking, if anything. */
  held(ino: number): Attr | undefined {
    const given = this.lastAttr(ino)
    return given?.holds === true ? given.attr : undefined
  }

  /** What was written through the kernel made `version` of the one before. */
  committed(ino: number, version: number): void {
    const given = this.lastAttr(ino)
    if (given?.sizeVersion === version - 1) given.sizeVersion = version
  }

  /** Whether what the kernel goes by, if anything, tells the size of these contents. */
  isSizeOf(ino: number, version: number): boolean {
    const given = this.lastAttr(ino)
    return given?.holds !== true || given.sizeVersion === version
  }

  /** Whether the kernel may take the file for as long as it was before somebody else changed it. */
  hasOldSize(ino: number): boolean {
    return this.lastAttr(ino)?.isSizeOld === true
  }

  /** Whether the kernel was told the size of these contents, or has made them of those whose size it was told. */
  wasToldSizeOf(ino: number, version: number): boolean {
    return this.lastAttr(ino)?.sizeVersion === version
  }

  /** The kernel has cut the file itself. */
  cut(ino: number, version: number): void {
    const given = this.lastAttr(ino)
    if (given === undefined) return
    given.sizeVersion = version
    given.isSizeOld = false
  }

  /** The last answer about the inode. Its marks change. */
  lastAttr(ino: number): GivenAttr | undefined {
    return this.#attrs.last(ino, this.#nowMs())
  }

  /** The last answer about the name. Its marks change. */
  lastEntry({ parent, name }: Name): GivenEntry | undefined {
    return this.#entries.last(entryKey(parent, name), this.#nowMs())
  }

  /** Of all that it may have. */
  inos(): Iterable<number> {
    return this.#attrs.keys(this.#nowMs())
  }

  names(): Iterable<Name> {
    return Array.from(this.#entries.keys(this.#nowMs()), nameOf)
  }

  /** A notice about the inode is about to be posted. */
  overtaken(given: GivenAttr, isSizeKnown: boolean): void {
    given.holds = false
    given.isOvertaken ||= this.#nowMs() - given.atMs < GRACE_MS
    if (!isSizeKnown) given.resizedAtMs = this.#nowMs()
    given.isSizeOld ||= this.#nowMs() - given.resizedAtMs < RECENT_MS
  }

  /** A notice is written. One about pages that others changed may have been held back for long. */
  noticed(ino: number, isOfOthers: boolean): void {
    const given = this.lastAttr(ino)
    if (given === undefined) return
    given.noticedAtMs = this.#nowMs()
    if (isOfOthers) given.resizedAtMs = this.#nowMs()
  }

  /** The kernel is about to take `to` for what it took `from` for, and `other` was what it took `to` for. false: there is no room to remember it. */
  moved(from: Name, given: GivenEntry, to: Name, other: GivenEntry | undefined): boolean {
    const { ino, leadsOn } = given
    if (this.lastAttr(ino)?.attr.type === 'symlink') this.#symlinks.add(to.parent, this.#nowMs())
    const replaced = other?.ino ?? 0
    const moved = { ino, leadsOn, replaced, atMs: this.#nowMs(), holds: true, movedTo: other?.movedTo }
    const isKept = this.#entries.add(entryKey(to.parent, to.name), moved)
    this.cameBy(to.parent, ino)
    const left = this.lastEntry(from)
    if (left !== undefined) left.movedTo = to
    return isKept
  }

  #nowMs(): number {
    return this.#clock.monotonicMs()
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
export function entryKey(parent: number, name: Buffer): string {
  return `${parent}/${name.toString('latin1')}`
}

/** Of a key. */
function nameOf(key: string): Name {
  const slash = key.indexOf('/')
  return { parent: Number(key.slice(0, slash)), name: Buffer.from(key.slice(slash + 1), 'latin1') }
}
