/**
 * Directories that are open here. One that is removed meanwhile is gone from the store at once, but whoever has it open goes
 * on as on a local disk: fstat(2) shows no links any more, fchmod(2) and its like change what it shows.
 *
 * Invariant: what is kept of a directory is no older than its opening, nor than what was known of it when it was removed, here or
 * elsewhere (AttrCache.drop tells). Its removal here renews it, if the name was known to be its own.
 */
import type { TimeSpec } from '../base/clock.js'
import type { Attr, AttrChange } from '../meta/contract.js'
import { MODE_BITS } from './flags.js'

interface OpenDirectory {
  handles: number
  attr: Attr
  /** Changed after its removal, which only its handles know of. */
  isChanged: boolean
}

export class OpenDirectories {
  readonly #open = new Map<number, OpenDirectory>()

  has(ino: number): boolean {
    return this.#open.has(ino)
  }

  opened(attr: Attr): void {
    const handles = (this.#open.get(attr.ino)?.handles ?? 0) + 1
    this.#open.set(attr.ino, { handles, attr, isChanged: false })
  }

  closed(ino: number): void {
    const directory = this.#open.get(ino)
    if (directory !== undefined && --directory.handles === 0) this.#open.delete(ino)
  }

  /** As it is now, if it is open. */
  saw(attr: Attr): void {
    const directory = this.#open.get(attr.ino)
    if (directory?.isChanged === false) directory.attr = attr
  }

  /** For a directory that the store does not know any more; undefined if it is not open either. */
  removed(ino: number): Attr | undefined {
    const directory = this.#open.get(ino)
    return directory && { ...directory.attr, nlink: 0 }
  }

  changeRemoved(ino: number, change: AttrChange, now: TimeSpec): Attr | undefined {
    const directory = this.#open.get(ino)
    if (directory === undefined) return undefined
    const { attr } = directory
    directory.isChanged = true
    const timeOf = (time: TimeSpec | 'now' | undefined, before: TimeSpec): TimeSpec =>
      time === 'now' ? now : (time ?? before)
    directory.attr = {
      ...attr,
      mode: change.mode === undefined ? attr.mode : change.mode & MODE_BITS,
      uid: change.uid ?? attr.uid,
      gid: change.gid ?? attr.gid,
      atime: timeOf(change.atime, attr.atime),
      mtime: timeOf(change.mtime, attr.mtime),
      ctime: now,
    }
    return this.removed(ino)
  }
}
