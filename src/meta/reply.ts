/** Reading the replies of scripts: arrays whose first element is a status, 0 for done, below 0 a negative errno. */
import { invariant } from '../base/invariant.js'
import { ChangedHandsError, PosixError, errnoName } from '../base/errno.js'
import type { RedisValue } from '../cluster/contract.js'

export const STATUS_DONE = 0
/** 1, tx, its commit partition, age in ms, an ino for each of its parts here: a prepared transaction is in the way. */
export const STATUS_LOCKED = 1
/** The inode lives in another partition. */
export const STATUS_FAR = 2
/** What the caller took for granted has changed. */
export const STATUS_RETRY = 3
/** More keys have to be named. */
export const STATUS_KEYS = 4
export const STATUS_CUT = 5
/** A copy of a request that was answered long ago. */
export const STATUS_STALE = 6
export const STATUS_DEAD_SESSION = 7
export const STATUS_ABORTED = 8
/** A file lock is asked for; its ticket waits. */
export const STATUS_WAITING = 10
/** 14, ino, what makes it: a directory's inode is still to be made (births.ts). */
export const STATUS_UNBORN = 14

/** 17, 1 if a partition is not on this server: a transaction cannot be done in one script, and was not (lib/sides.lua). */
export const STATUS_APART = 17

/** The partition is frozen: the request was not judged, and is to be sent again (freeze.ts). */
export const STATUS_FROZEN = 16

/** The inode has another owner, group or mode than the rights to the change were judged by: it is left alone. */
const STATUS_OTHERS = 18

/** What was to be kept in the inode's body is for chunks. */
export const STATUS_REFUSED = 11
/** The file has a body, which has to become a chunk first. */
export const STATUS_BODY = 12
/** 15, ms that are left: others hold the partition's delegation, and were told to give it back. */
export const STATUS_RECALLED = 15

export class Reply {
  readonly #values: readonly RedisValue[]

  constructor(value: RedisValue) {
    invariant(Array.isArray(value), 'a script answers an array')
    this.#values = value
  }

  get status(): number {
    return this.number(0)
  }

  get length(): number {
    return this.#values.length
  }

  number(at: number): number {
    const value = this.#values[at]
    invariant(typeof value === 'number', `value ${at} of a reply is a number`)
    return value
  }

  buffer(at: number): Buffer {
    const value = this.#values[at]
    invariant(Buffer.isBuffer(value), `value ${at} of a reply is a string`)
    return value
  }

  optionalBuffer(at: number): Buffer | null {
    const value = this.#values[at]
    return Buffer.isBuffer(value) ? value : null
  }

  list(at: number): readonly RedisValue[] {
    const value = this.#values[at]
    invariant(
      typeof value === 'object' && value !== null && !Buffer.isBuffer(value),
      `value ${at} of a reply is a list`,
    )
    return value
  }

  numbers(from: number): number[] {
    return this.#values.slice(from).map((value) => {
      invariant(typeof value === 'number', 'a reply ends with numbers')
      return value
    })
  }

  /** Throws what a negative status means, or one that no caller goes on after. */
  check(): this {
    if (this.status < 0) throw new PosixError(errnoName(-this.status))
    if (this.status === STATUS_OTHERS) throw new ChangedHandsError()
    return this
  }
}
