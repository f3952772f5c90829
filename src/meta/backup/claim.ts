/**
 * One restore at a time, also where one stood still and goes on when another has done its work, and the volume is in use.
 *
 *   {v}:m:restore, the mark: "<checksum of the backup> <number> <token>", from the beginning to the settings
 *   {v.p}:c restore, the fence: "<number> <token>" while the records of partition p are written, then "<number> closed"
 *
 *   claim: no settings, mark := number + 1 --fences raised in all partitions--> records --fences closed--> settings := , mark gone
 *
 * Invariants:
 * - Claim, settings and `format` are one script each, in one slot: settings are written by the restore whose mark is there, or by a
 *   format while there is none. So a claim is before a format (which refuses), or sees its settings (and refuses).
 * - A fence only rises, and stays: nobody who claimed earlier opens one again that somebody later has opened or closed.
 * - A record is written while the fence of its partition, or the mark for what is volume-wide, is the writer's own, which the server
 *   looks at in the same script. Once there are settings all fences are closed and there is no mark: nothing that is late, of whichever
 *   restore, changes a volume in use. No clock is needed for that.
 * - The lease {v}:m:restorer only keeps a second restore from taking the place of one that lives.
 */
import { randomUUID } from 'node:crypto'
import { systemClock } from '../../base/clock.js'
import { RingfsError } from '../../base/errors.js'
import type { RedisArg, RedisStore, RedisValue } from '../../cluster/contract.js'
import { numberOf } from '../../cluster/reply.js'
import { wideKey, type VolumeKeys } from '../keys.js'
import { withLease } from '../lease.js'
import { SCRIPTS } from '../scripts.js'
import { WIDE } from './format.js'
import type { Lasting } from './lasting.js'

const AT_ONCE = 64
const POLL_MS = 500
/** Longer than a lease: that of a process that was killed runs out. */
export const LEASE_WAIT_MS = 40_000

/** The field of a partition's counters that has its fence. */
export const FENCE = 'restore'

export interface Waiting {
  /** How long to wait for a restore that may have been killed. */
  readonly waitMs?: number
  readonly onWait?: () => void
}

/** Errors: ALREADY_RUNNING, those of `work`. */
export async function withRestoreLease<T>(
  store: RedisStore,
  volume: string,
  work: () => Promise<T>,
  { waitMs = LEASE_WAIT_MS, onWait }: Waiting,
): Promise<T> {
  const untilMs = systemClock.monotonicMs() + waitMs
  for (;;) {
    const done = await withLease(store, wideKey(volume, 'restorer'), async () => ({ result: await work() }))
    if (done !== undefined) return done.result
    if (systemClock.monotonicMs() > untilMs) {
      throw new RingfsError('ALREADY_RUNNING', `volume ${volume} is being restored by another process: let it end`)
    }
    onWait?.()
    await systemClock.sleep(POLL_MS)
  }
}

/** Errors of all methods: ALREADY_RUNNING when another restore has claimed the volume since. */
export class Claim {
  readonly #store: RedisStore
  readonly #keys: VolumeKeys
  readonly #volume: string
  readonly #mark: string
  readonly #fence: string
  readonly #closed: string

  private constructor(store: RedisStore, keys: VolumeKeys, volume: string, mark: string, number: number) {
    this.#store = store
    this.#keys = keys
    this.#volume = volume
    this.#mark = mark
    this.#fence = mark.slice(mark.indexOf(' ') + 1)
    this.#closed = `${number} closed`
  }

  /** Errors: VOLUME_EXISTS; USAGE when another backup was being restored; NO_QUORUM. */
  static async take(
    store: RedisStore,
    keys: VolumeKeys,
    volume: string,
    checksum: string,
    lasting: Pick<Lasting, 'claimed'>,
  ): Promise<Claim> {
    await refuseVolume(store, volume)
    if ((await store.call('EXISTS', markKey(volume))) === 0) await refuseRemains(store, keys, volume)
    const token = randomUUID()
    const args = [checksum, token]
    const number = numberOf(
      await store.run(SCRIPTS.restoreClaim, [keys.wide('settings'), markKey(volume)], args),
      'claim',
    )
    if (number === -1) throw isThere(volume)
    if (number === -2) {
      throw new RingfsError('USAGE', `the restore of another backup of ${volume} was interrupted: give that file again`)
    }
    await lasting.claimed()
    const claim = new Claim(store, keys, volume, `${checksum} ${number} ${token}`, number)
    await claim.#fences('', claim.#fence)
    return claim
  }

  /** `how`: a command that may be given twice; or the length that the list `key` has before `args` come behind it. */
  async write(partition: number, key: string, how: string | number, args: readonly RedisArg[]): Promise<void> {
    const isWide = partition === WIDE
    const guard = isWide ? markKey(this.#volume) : this.#keys.partition(partition).counters
    const ours = isWide ? '' : this.#fence
    this.#check(await this.#store.run(SCRIPTS.restoreWrite, [key, guard], [ours, this.#mark, how, ...args]))
  }

  /** No more records. */
  async close(): Promise<void> {
    await this.#fences(this.#fence, this.#closed)
  }

  /** There is a volume. */
  async end(settings: Buffer): Promise<void> {
    const keys = [this.#keys.wide('settings'), markKey(this.#volume)]
    this.#check(await this.#store.run(SCRIPTS.restoreEnd, keys, [settings, this.#mark]))
  }

  async #fences(from: string, to: string): Promise<void> {
    for (let at = 0; at < this.#keys.partitions; at += AT_ONCE) {
      const some = Array.from({ length: Math.min(AT_ONCE, this.#keys.partitions - at) }, (_, i) => at + i)
      await Promise.all(some.map((p) => this.#setFence(this.#keys.partition(p).counters, from, to)))
    }
  }

  async #setFence(key: string, from: string, to: string): Promise<void> {
    this.#check(await this.#store.run(SCRIPTS.restoreFence, [key], [from, to]))
  }

  #check(reply: RedisValue): void {
    if (reply === 1) return
    throw new RingfsError(
      'ALREADY_RUNNING',
      `another process restores volume ${this.#volume} since, or its Redis forgot who does: if it is not there soon, give the same file again`,
    )
  }
}

/** Errors: VOLUME_EXISTS. */
export async function refuseVolume(store: RedisStore, volume: string): Promise<void> {
  if ((await store.call('EXISTS', wideKey(volume, 'settings'))) !== 0) throw isThere(volume)
}

function isThere(volume: string): RingfsError {
  return new RingfsError('VOLUME_EXISTS', `volume ${volume} is there: nothing is ever restored over a volume`)
}

async function refuseRemains(store: RedisStore, keys: VolumeKeys, volume: string): Promise<void> {
  const found = await Promise.all(
    Array.from({ length: keys.partitions }, (_, p) => store.call('EXISTS', keys.partition(p).counters)),
  )
  if (found.every((count) => count === 0)) return
  throw new RingfsError('VOLUME_EXISTS', `there are remains of a volume ${volume} on this Redis: use an empty one`)
}

function markKey(volume: string): string {
  return wideKey(volume, 'restore')
}
