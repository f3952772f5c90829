/** Attributes as this process must show them: the store's, with what is written here and not committed yet on top. */
import { compareTime, type TimeSpec } from '../base/clock.js'
import { PosixError, isErrno } from '../base/errno.js'
import { TIME_MAX_S, TIME_MIN_S } from '../base/limits.js'
import type { Attr, AttrChange } from '../meta/contract.js'
import type { VfsContext } from './context.js'
import type { Caller } from './contract.js'
import { MODE_BITS, S_ISGID, S_ISUID } from './flags.js'
import { checkSize, keepsSetid } from './names.js'
import type { DirtyView } from './dirty-map.js'

export class Attributes {
  readonly #context: VfsContext

  constructor(context: VfsContext) {
    this.#context = context
  }

  async get(ino: number, anew = false): Promise<Attr> {
    if (anew) this.#context.attrs.drop(ino)
    try {
      return await this.#get(ino)
    } catch (error) {
      const removed = isMissing(error) ? this.#context.directories.removed(ino) : undefined
      if (removed === undefined) throw error
      return removed
    }
  }

  async #get(ino: number): Promise<Attr> {
    const { attrs, states } = this.#context
    const state = states.peek(ino)
    if (state === undefined) return this.#context.atimes.overlay(await attrs.get(ino))
    await state.settled()
    const known = attrs.peek(ino)
    if (known !== undefined) return this.#overlay(known, state.writer.view())
    // An append whose commit is under way would be counted twice, or not at all, on top of a size that is asked for now.
    if (state.writer.hasAppends) await state.writer.flush()
    const view = state.writer.view()
    return this.#overlay(await attrs.get(ino), view)
  }

  /** For attributes that came from the store just now; undefined when only `get` can tell. */
  overlayNow(attr: Attr): Attr | undefined {
    const writer = this.#context.states.peek(attr.ino)?.writer
    if (writer === undefined) return this.#context.atimes.overlay(attr)
    return writer.hasAppends ? undefined : this.#overlay(attr, writer.view())
  }

  #overlay(attr: Attr, view: DirtyView | null): Attr {
    return this.#context.atimes.overlay(overlay(attr, view))
  }

  /** The inode was read. `stored`: as the store has it. */
  accessed(stored: Attr): void {
    const view = this.#context.states.peek(stored.ino)?.writer.view() ?? null
    this.#context.atimes.accessed(stored, overlay(stored, view))
  }

  /** The same, whatever it takes. */
  async complete(attr: Attr): Promise<Attr> {
    return this.overlayNow(attr) ?? (await this.get(attr.ino))
  }

  async set(caller: Caller, ino: number, change: AttrChange): Promise<Attr> {
    try {
      return await this.#set(caller, ino, change)
    } catch (error) {
      const { directories, clock } = this.#context
      const removed = isMissing(error) ? directories.changeRemoved(ino, change, clock.now()) : undefined
      if (removed === undefined) throw error
      return removed
    }
  }

  async #set(caller: Caller, ino: number, asked: AttrChange): Promise<Attr> {
    const { states } = this.#context
    let change = withinTime(asked)
    if (change.mode !== undefined) change = { ...change, mode: change.mode & MODE_BITS }
    if (change.atime !== undefined) await this.#context.atimes.overrule(ino)
    if (change.sizeBytes !== undefined) return await this.#resize(caller, ino, change, change.sizeBytes)
    // Times and modes set now must not be overwritten by the commit of what was written before.
    const state = states.peek(ino)
    if (state !== undefined) this.#context.early.changed(state)
    const writer = state?.writer
    const attr = writer?.isDirty
      ? await writer.changeAttributes(change, () => this.#change(ino, change))
      : (this.#unchanged(ino, change) ?? (await this.#change(ino, change)))
    return await this.complete(attr)
  }

  /** Who changes the size without CAP_FSETID takes the rights away that the file gave to others (inode(7)). */
  async #resize(caller: Caller, ino: number, change: AttrChange, size: number): Promise<Attr> {
    checkSize(size)
    const { attrs, states, extents, fresh } = this.#context
    const before = await attrs.get(ino)
    if (before.type === 'directory') throw new PosixError('EISDIR', 'a directory has no size to set')
    if (before.type !== 'file') throw new PosixError('EINVAL', `a ${before.type} has no size to set`)
    const whole = keepsSetid(caller) ? change : { ...change, dropPrivileges: true }
    const state = states.enter(ino)
    try {
      return await state.exclusive(() =>
        state.writer.barrier(async () => {
          const attr = await this.#change(ino, whole)
          extents.drop(ino)
          extents.atVersion(attr, fresh.mark())
          return attr
        }),
      )
    } finally {
      states.leave(state)
    }
  }

  /**
   * The attributes, if the change makes nothing of them another, and is so soon after the last that its time is the same as
   * far as we tell times apart; undefined: it has to be made. Only where nobody else can have changed them: under a delegation.
   */
  #unchanged(ino: number, change: AttrChange): Attr | undefined {
    const { attrs, fresh, meta, clock } = this.#context
    const known = attrs.peek(ino)
    if (known === undefined || known.hasXattrs || known.nlink === 0 || fresh.isChanging(ino)) return undefined
    if (!changesNothing(known, change) || !isWithinTick(known.ctime, clock.now())) return undefined
    return meta.holds(ino) ? known : undefined
  }

  async #change(ino: number, change: AttrChange): Promise<Attr> {
    const { meta, states } = this.#context
    const attr = await this.#context.mutate(ino, () => meta.setattr(ino, change))
    states.peek(ino)?.writer.forgetTimes()
    return attr
  }
}

function isMissing(error: unknown): boolean {
  return isErrno(error, 'ENOENT')
}

/** Linux takes file times from a clock that ticks every 1 to 10 ms. */
const TICK_NS = 4e6

function isWithinTick(last: TimeSpec, now: TimeSpec): boolean {
  const passedNs = (now.sec - last.sec) * 1e9 + now.nsec - last.nsec
  return passedNs >= 0 && passedNs < TICK_NS
}

/** chown(2) and chmod(2) to what is there already. Of files with rights of their own more may change than is asked for. */
function changesNothing(
  attr: Attr,
  { mode = attr.mode, uid = attr.uid, gid = attr.gid, seen = attr, ...times }: AttrChange,
): boolean {
  if (seen.uid !== attr.uid || (seen.gid ?? attr.gid) !== attr.gid || (seen.mode ?? attr.mode) !== attr.mode)
    return false
  if (times.atime !== undefined || times.mtime !== undefined || times.sizeBytes !== undefined) return false
  return mode === attr.mode && uid === attr.uid && gid === attr.gid && (attr.mode & (S_ISUID | S_ISGID)) === 0
}

function withinTime(change: AttrChange): AttrChange {
  const { atime, mtime } = change
  return {
    ...change,
    ...(atime === undefined ? {} : { atime: nearest(atime) }),
    ...(mtime === undefined ? {} : { mtime: nearest(mtime) }),
  }
}

function nearest(time: TimeSpec | 'now'): TimeSpec | 'now' {
  if (time === 'now' || (time.sec <= TIME_MAX_S && time.sec >= TIME_MIN_S)) return time
  return { sec: time.sec > 0 ? TIME_MAX_S : TIME_MIN_S, nsec: 0 }
}

function overlay(attr: Attr, view: DirtyView | null): Attr {
  if (view === null) return attr
  return {
    ...attr,
    sizeBytes: view.sizeOver(attr.sizeBytes),
    allocatedBytes: attr.allocatedBytes + view.bytes,
    // Also an earlier one: utimes may have set one in the future before, and what was written then is committed.
    mtime: view.mtime,
    ctime: compareTime(view.mtime, attr.ctime) > 0 ? view.mtime : attr.ctime,
  }
}
