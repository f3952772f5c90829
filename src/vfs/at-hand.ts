/**
 * What needs no waiting: answered in the turn in which it is asked, without promises. Most requests of a kernel that works on
 * many small files are of this kind, and a promise for each of the layers above costs more than the answer.
 *
 * Invariant: what is answered here is what the call of the same name would answer now. Where that would wait for anything,
 * or throw, nothing is done and undefined or false is answered.
 */
import { isDot, isDotDot } from '../base/dots.js'
import { FILE_MAX_BYTES, NAME_MAX_BYTES } from '../base/limits.js'
import { NEGATIVE } from './cache.js'
import type { VfsContext } from './context.js'
import type { Attr, VfsAtHand } from './contract.js'
import type { FileHandle } from './handles.js'

/** S_ISUID and S_ISGID, whatever the second means without the right to execute. */
const SET_ID = 0o6000

export class AtHand implements VfsAtHand {
  readonly #context: VfsContext
  readonly #isEnded: () => boolean

  constructor(context: VfsContext, isEnded: () => boolean) {
    this.#context = context
    this.#isEnded = isEnded
  }

  getattr(ino: number): Attr | undefined {
    const attr = this.#attr(ino)
    if (attr !== undefined) this.#context.attrs.hits++
    return attr
  }

  lookup(parent: number, name: Buffer): Attr | null | undefined {
    if (this.#isEnded() || name.length > NAME_MAX_BYTES || isDot(name) || isDotDot(name)) return undefined
    const { dentries } = this.#context
    const ino = dentries.peek(parent, name)
    if (ino === undefined) return undefined
    const attr = ino === NEGATIVE ? null : this.#attr(ino)
    if (attr !== undefined) dentries.hits++
    return attr
  }

  hasNoXattrs(ino: number): boolean {
    return !this.#isEnded() && this.#context.attrs.peek(ino)?.hasXattrs === false
  }

  /** What there is no room for, or fills a batch or a window, goes the other way. */
  write(handle: number, offset: number, data: Uint8Array, kills: boolean): number | undefined {
    const { handles, attrs, locks, clock, durability, early } = this.#context
    const file = this.#isEnded() ? undefined : handles.peekFile(handle)
    if (file?.writable !== true || file.append || file.sync || file.hasFailure) return undefined
    const { state, clearSuid } = file
    if (data.length === 0 || !(offset >= 0 && offset + data.length <= FILE_MAX_BYTES)) return undefined
    if (!state.isSettled || !locks.isSure(file)) return undefined
    if (kills && ((attrs.peek(state.ino)?.mode ?? SET_ID) & SET_ID) !== 0) return undefined
    const info = { mtime: clock.now(), clearSuid, durability }
    if (!state.writer.writeNow(offset, data, info)) return undefined
    early.wrote(state, offset + data.length)
    return data.length
  }

  flush(handle: number, owner?: string): boolean {
    const file = this.#quiet(handle)
    if (file === undefined || file.hasFailure || (owner !== undefined && this.#context.locks.mayHold(file.state.ino)))
      return false
    this.#context.early.flushed(file.state)
    return true
  }

  release(handle: number): boolean {
    const file = this.#quiet(handle)
    if (file === undefined || file.unreported !== null || this.#context.locks.mayHold(file.state.ino)) return false
    const { handles, states, meta, extents, atimes } = this.#context
    const { ino, users } = file.state
    handles.remove(handle)
    extents.closed(ino)
    if (users === 1) atimes.closed(ino)
    meta.close(ino)
    states.leave(file.state)
    return true
  }

  /** As Coherence.attr: not while anything of it is unwritten, or changing. */
  #attr(ino: number): Attr | undefined {
    return this.#isEnded() ? undefined : this.#context.coherence.attr(ino)
  }

  /** An open file of which nothing is unwritten. */
  #quiet(handle: number): FileHandle | undefined {
    if (this.#isEnded()) return undefined
    const file = this.#context.handles.peekFile(handle)
    return file === undefined || file.state.writer.isDirty ? undefined : file
  }
}

/** For a VFS that waits for all. */
export const NOTHING_AT_HAND: VfsAtHand = {
  getattr: () => undefined,
  lookup: () => undefined,
  hasNoXattrs: () => false,
  write: () => undefined,
  flush: () => false,
  release: () => false,
}
