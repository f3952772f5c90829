/**
 * File locks of this mount: fcntl(2) record locks, open file description locks, flock(2).
 *
 * Between the moment a lock is granted and the moment it is given back, the file here is what all clients see: what is
 * cached of it is compared with the store when the lock comes, and what was written here is committed before the lock
 * changes or goes, also when it goes with a close.
 *
 * Invariant: every lock that this mount may hold is noted here under its inode, its owner and the handles through which it
 * was taken, so that it is given back: at the close of any handle by its owner (fcntl), or with the last reference of the
 * handle (the others, whose owner is the open file itself). A note too many costs a round trip at a close, one missing
 * would leave the file locked: so it is made before the lock is asked for and, since another thread's unlock may have
 * removed it, once more after; it is removed before the unlock is sent.
 *
 * The store takes locks away from a session whose lease ran out. A process that held one does not know, so it must not
 * go on: what it wrote under the lock is not committed any more, and its reads and writes are EIO until it closes the
 * file. While the lease is in doubt, its reads and writes wait for certainty.
 */
import { PosixError } from '../base/errno.js'
import { orInterrupted } from '../base/interrupted.js'
import { LOCK_END, type Attr, type FileLock, type LockConflict, type LockRange } from '../meta/contract.js'
import type { LockChange } from './contract.js'
import type { VfsContext } from './context.js'
import type { FileHandle } from './handles.js'
import { Lru } from './lru.js'

type Owners = Map<string, Set<number>>

/** Files of which it is remembered that they were locked here. */
const USED_MAX = 4_096

export class FileLocks {
  readonly #context: VfsContext
  readonly #notes = new Map<number, Owners>()
  /** Locks that closed handles give back: who asks next must not find them held still. */
  readonly #goings = new Map<number, Promise<void>>()
  /** Of those who wait. Not AbortSignal.any: a signal that lives as long as the mount would remember each of them. */
  readonly #waiting = new Set<AbortController>()
  #isShutDown = false
  readonly #used = new Lru<number, true>(USED_MAX)

  constructor(context: VfsContext) {
    this.#context = context
  }

  async get(handle: number, lock: FileLock): Promise<LockConflict | null> {
    const { ino } = this.#context.handles.file(handle).state
    await this.#goings.get(ino)
    return this.#context.meta.getlk(ino, lock)
  }

  /** Errors: as MetaStore.setlk. EIO: locks of the file were lost. */
  async set(handle: number, change: LockChange, wait: boolean, signal?: AbortSignal): Promise<void> {
    const file = this.#context.handles.file(handle)
    const { type, ...range } = change
    if (type === 'unlock') {
      await this.#ready(file)
      await this.#unlock(file.state.ino, range)
    } else {
      await orInterrupted(this.#ready(file), wait ? signal : undefined)
      await this.#lock(file, handle, { ...range, type }, wait, signal)
    }
  }

  async #ready(file: FileHandle): Promise<void> {
    await this.confirm(file)
    await file.state.writer.flush()
  }

  /** Whether this mount may hold locks on the inode, or be giving them back. */
  mayHold(ino: number): boolean {
    return this.#notes.has(ino) || this.#goings.has(ino)
  }

  /** Whether it was locked here, and may be again: closes of it mean more than those of other files. */
  wasUsed(ino: number): boolean {
    return this.#notes.has(ino) || this.#used.get(ino) === true
  }

  /** Nothing to find out: reads and writes go on at once. */
  isSure(file: FileHandle): boolean {
    if (file.lostLocks) return false
    return this.#notes.size === 0 || this.#context.meta.leased || !this.#notes.has(file.state.ino)
  }

  /** Resolves when it is certain that the locks of the file are still ours. EIO: they are not. */
  async confirm(file: FileHandle): Promise<void> {
    if (!this.isSure(file) && !file.lostLocks) await this.#context.meta.confirmLease()
    if (file.lostLocks) throw new PosixError('EIO', 'locks of the file were lost: another client may hold them')
  }

  /** fcntl(2): when a process closes any descriptor of a file, all its record locks on the file go. */
  async closed(ino: number, owner: string): Promise<void> {
    const range = { kind: 'posix', owner, start: 0n, end: LOCK_END } as const
    if (this.#notes.get(ino)?.has(keyOf(range)) === true) await this.#unlock(ino, range)
  }

  /** The open file is gone: so are the locks that it owned. Called when what it wrote is committed. */
  async released(ino: number, handle: number): Promise<void> {
    const keys = [...(this.#notes.get(ino) ?? [])].flatMap(([key, handles]) => {
      return handles.delete(handle) && handles.size === 0 ? [key] : []
    })
    await Promise.all(keys.map((key) => this.#unlock(ino, wholeOf(key))))
  }

  /** What a release does, from its beginning, for who asks for a lock meanwhile. */
  async releasing(ino: number, release: () => Promise<void>): Promise<void> {
    if (!this.#notes.has(ino)) return release()
    const before = this.#goings.get(ino)
    const running = release()
    const going = Promise.allSettled([before, running]).then(() => {
      if (this.#goings.get(ino) === going) this.#goings.delete(ino)
    })
    this.#goings.set(ino, going)
    await running
  }

  /** All our locks are lost, or those on the inodes of which it is said. */
  lost(of: (ino: number) => boolean = () => true): void {
    const inos = new Set([...this.#notes.keys()].filter(of))
    for (const ino of inos) this.#notes.delete(ino)
    if (inos.size === 0) return
    this.#context.log.error({ inos: [...inos] }, 'file locks were lost: their files are to be closed')
    for (const [, file] of this.#context.handles.files()) {
      if (!inos.has(file.state.ino)) continue
      file.lostLocks = true
      file.state.writer.abandon(new PosixError('EIO', 'the lock under which it was written was lost'))
    }
  }

  /** Who waits now waits no longer. */
  shutdown(): void {
    this.#isShutDown = true
    for (const one of this.#waiting) one.abort()
  }

  async #lock(file: FileHandle, handle: number, lock: FileLock, wait: boolean, signal?: AbortSignal): Promise<void> {
    const { fresh } = this.#context
    const { ino } = file.state
    this.#used.set(ino, true)
    const going = this.#goings.get(ino)
    if (going !== undefined) await orInterrupted(going, wait ? signal : undefined)
    this.#note(ino, lock, handle)
    // From here: what was asked for before it is not kept.
    fresh.touchInode(ino)
    const mark = fresh.mark()
    const attr = await (wait ? this.#wait(ino, lock, signal) : this.#context.meta.setlk(ino, lock, { wait }))
    this.#note(ino, lock, handle)
    try {
      await this.confirm(file)
    } catch (error) {
      // It was granted after earlier ones were lost. Who is told that it failed holds nothing: he may never come back to give it back.
      await this.#unlock(ino, lock)
      throw error
    }
    this.#refresh(attr, mark)
  }

  async #wait(ino: number, lock: FileLock, signal?: AbortSignal): Promise<Attr> {
    const waiting = new AbortController()
    const abort = (): void => waiting.abort()
    this.#waiting.add(waiting)
    signal?.addEventListener('abort', abort)
    if (this.#isShutDown || signal?.aborted === true) abort()
    try {
      return await this.#context.meta.setlk(ino, lock, { wait: true, signal: waiting.signal })
    } finally {
      signal?.removeEventListener('abort', abort)
      this.#waiting.delete(waiting)
    }
  }

  async #unlock(ino: number, range: LockRange): Promise<void> {
    const owners = this.#notes.get(ino)
    const key = keyOf(range)
    if (owners?.has(key) !== true) return
    if (range.kind === 'flock' || (range.start === 0n && range.end === LOCK_END)) {
      owners.delete(key)
      if (owners.size === 0) this.#notes.delete(ino)
    }
    await this.#context.meta.unlock(ino, range)
  }

  #note(ino: number, range: LockRange, handle: number): void {
    let owners = this.#notes.get(ino)
    if (owners === undefined) this.#notes.set(ino, (owners = new Map<string, Set<number>>()))
    const key = keyOf(range)
    const handles = owners.get(key)
    if (handles !== undefined) handles.add(handle)
    else owners.set(key, new Set([handle]))
  }

  /** The store's word on the file at the moment of the grant; nothing older stays. */
  #refresh(attr: Attr, mark: number): void {
    const { attrs, extents, fresh } = this.#context
    const known = attrs.peek(attr.ino)
    if (fresh.inodeIsFresh(attr.ino, mark)) {
      attrs.put(attr, mark)
      extents.atVersion(attr, mark)
    } else if (known !== undefined && known.dataVersion < attr.dataVersion) {
      attrs.drop(attr.ino)
      extents.drop(attr.ino)
    }
  }
}

function keyOf({ kind, owner }: LockRange): string {
  return `${kind}/${owner}`
}

function wholeOf(key: string): LockRange {
  const [kind, owner = ''] = key.split('/')
  return { kind: kind === 'flock' ? 'flock' : 'posix', owner, start: 0n, end: LOCK_END }
}
