/**
 * Access times. The kernel leaves them to a FUSE filesystem (fs/fuse marks its inodes S_NOATIME), so the mount options
 * relatime, strictatime, noatime and nodiratime are honoured here, with the kernel's rule (fs/inode.c):
 *
 *   relatime     a read counts if the access time is not after mtime and ctime, or is older than a day
 *   strictatime  every read counts
 *   noatime      none does, as on a read-only mount; nodiratime: none of a directory does; O_NOATIME: none of this handle
 *
 * What counts is a read of a file, readdir of a directory, readlink of a symlink, that comes here. Reads that the kernel
 * answers from its page cache do not: so who opens a file to read it while an update is due gets none (`isDue`). A file read
 * through a handle that wrote it, or through a mapping whose pages are there, is not seen.
 *
 * An update is shown here at once, and sent with others, those of one partition together, within about a second, when the
 * file is closed, on sync and at shutdown. One that cannot be sent is dropped.
 *
 * Invariant: an access time that somebody set is never replaced by one of a read before. Each update names the time that it
 * replaces, and is void if the inode has another by then; our own utimes take back what waits and wait for what is on its
 * way, for they may set the very time that it replaces.
 */
import { compareTime, type Clock, type TimeSpec } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { AccessTime, Attr, MetaStore } from '../meta/contract.js'
import type { AttrCache } from './cache.js'
import type { AtimePolicy } from './contract.js'
import type { Freshness } from './freshness.js'

export interface AccessTimesDeps {
  readonly meta: MetaStore
  readonly attrs: AttrCache
  readonly fresh: Freshness
  readonly clock: Clock
  readonly log: Log
  readonly policy: AtimePolicy
  readonly skipsDirectories: boolean
}

const DAY_S = 24 * 60 * 60
const SEND_AFTER_MS = 1_000
const TICK_MS = 50
/** Updates that wait, at most. */
const WAITING_MAX = 4_096

/** Updates by ino. */
type Updates = ReadonlyMap<number, AccessTime>

export class AccessTimes {
  readonly #deps: AccessTimesDeps
  #waiting = new Map<number, AccessTime>()
  #sending: { readonly updates: Updates; readonly done: Promise<void> } | undefined
  #sendAtMs = 0
  #isTicking = false

  constructor(deps: AccessTimesDeps) {
    this.#deps = deps
  }

  /** The attributes with the access time that is still to be sent, if the store's is still the one that it replaces. */
  overlay(attr: Attr): Attr {
    if (this.#sending === undefined && this.#waiting.size === 0) return attr
    const atime = this.#latest(attr.ino, attr.atime)
    return atime === attr.atime ? attr : { ...attr, atime }
  }

  /** Whether a read of it now changes its access time. `shown`: with everything that this process knows. */
  isDue(shown: Attr): boolean {
    const { policy, skipsDirectories, clock } = this.#deps
    if (policy === 'noatime' || (skipsDirectories && shown.type === 'directory')) return false
    const { atime, mtime, ctime } = shown
    if (policy === 'strictatime') return true
    return compareTime(atime, mtime) <= 0 || compareTime(atime, ctime) <= 0 || clock.now().sec - atime.sec >= DAY_S
  }

  /** It was read. `stored`: as the store has it; `shown`: with what this process has not committed yet. */
  accessed(stored: Attr, shown: Attr): void {
    if (!this.isDue(this.overlay(shown))) return
    const { ino } = stored
    const replaces = latest(this.#sending?.updates.get(ino), stored.atime)
    this.#waiting.set(ino, { ino, replaces, atime: this.#deps.clock.now() })
    if (this.#waiting.size === 1) this.#sendAtMs = this.#deps.clock.monotonicMs() + SEND_AFTER_MS
    if (this.#waiting.size >= WAITING_MAX) this.#sendAtMs = 0
    if (!this.#isTicking) void this.#tick()
  }

  /** Its last handle is gone: others may look at it now. */
  closed(ino: number): void {
    if (this.#waiting.has(ino)) this.#sendAtMs = 0
  }

  /** Before utimes: what was read before does not count any more. */
  async overrule(ino: number): Promise<void> {
    this.#waiting.delete(ino)
    while (this.#sending?.updates.has(ino) === true) await this.#sending.done
    this.#waiting.delete(ino)
  }

  /** Sends what waits, and resolves when everything was sent. */
  async flush(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending.done
    if (this.#waiting.size === 0) return
    const updates: Updates = this.#waiting
    this.#waiting = new Map()
    const done = this.#send(updates).finally(() => {
      this.#sending = undefined
    })
    this.#sending = { updates, done }
    await done
  }

  #latest(ino: number, stored: TimeSpec): TimeSpec {
    return latest(this.#waiting.get(ino), latest(this.#sending?.updates.get(ino), stored))
  }

  /** Runs only while there is anything to send. */
  async #tick(): Promise<void> {
    this.#isTicking = true
    while (this.#waiting.size > 0) {
      await this.#deps.clock.sleep(TICK_MS)
      if (this.#deps.clock.monotonicMs() >= this.#sendAtMs) await this.flush()
    }
    this.#isTicking = false
  }

  /** Attributes that are cached stay so, with their new access time: nobody tells us of our own changes. */
  async #send(updates: Updates): Promise<void> {
    const { meta, attrs, fresh, log } = this.#deps
    const changes = [...updates.values()].map((update) => {
      const known = attrs.peek(update.ino)
      return { mutation: fresh.begin(update.ino, false), after: known === undefined ? null : withUpdate(known, update) }
    })
    let isSent = false
    try {
      await meta.touch([...updates.values()])
      isSent = true
    } catch (error) {
      log.debug({ inodes: updates.size, error: messageOf(error) }, 'access times could not be stored')
    } finally {
      for (const { mutation, after } of changes) attrs.settle(mutation, isSent ? after : null)
    }
  }
}

function latest(update: AccessTime | undefined, stored: TimeSpec): TimeSpec {
  return update !== undefined && compareTime(update.replaces, stored) === 0 ? update.atime : stored
}

function withUpdate(attr: Attr, update: AccessTime): Attr {
  return { ...attr, atime: latest(update, attr.atime) }
}
