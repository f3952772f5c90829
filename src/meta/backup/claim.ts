/**
 * One restore at a time, also where one stood still and goes on when another has done its work, and the volume is in use.
 *
 *   {v}:m:restore, the mark: "<checksum of the backup> <number> <token>", from the beginning to the settings; the token is a uuid and
 *                            the numbers of partitions and of the replicas that are waited for
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
import { keySlot } from '../../cluster/slot.js'
import { wideKey, type VolumeKeys } from '../keys.js'
import { withLease } from '../lease.js'
import { remainsOf } from '../remains.js'
import { SCRIPTS } from '../scripts.js'
import { WIDE } from './format.js'
import type { Lasting } from './lasting.js'

const AT_ONCE = 64
/** Of those that are cleared by one script. */
const KEYS_AT_ONCE = 1000
const POLL_MS = 500
/** Longer than a lease: that of a process that was killed runs out. */
const LEASE_WAIT_MS = 40_000

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

  /** `isForRemains`: also where nothing but what was written says that there was one. Errors: VOLUME_EXISTS; USAGE when another backup was being restored; NO_QUORUM. */
  static async take(
    store: RedisStore,
    keys: VolumeKeys,
    volume: string,
    checksum: string,
    lasting: Pick<Lasting, 'claimed' | 'metaReplicas'>,
    isForRemains = false,
  ): Promise<Claim> {
    await refuseVolume(store, volume)
    const remains = await remainsOf(store, keys)
    const seen = await store.call('GET', markKey(volume))
    if (remains.isMore && seen === null && !isForRemains) throw remain(volume)
    const token = `${randomUUID()} ${keys.partitions} ${lasting.metaReplicas}`
    const args = [checksum, token, remains.highest, seen === null ? '' : String(seen)]
    const number = numberOf(
      await store.run(SCRIPTS.restoreClaim, [keys.wide('settings'), markKey(volume)], args),
      'claim',
    )
    if (number === -1) throw isThere(volume)
    if (number === -3) throw isAnothers(volume)
    if (number === -2) {
      throw new RingfsError(
        'USAGE',
        `the restore of another backup of ${volume} was interrupted: give that file again, or give it up with ringfs restore --abandon`,
      )
    }
    await lasting.claimed()
    const claim = new Claim(store, keys, volume, `${checksum} ${number} ${token}`, number)
    await claim.#fences('', claim.#fence)
    return claim
  }

  /** `how`: a command that may be given twice; or the length that the list `key` has before `args` come behind it, if they are not there yet. */
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

  /** What was written into a partition goes. */
  async clear(partition: number): Promise<void> {
    const { counters } = this.#keys.partition(partition)
    for (let some = KEYS_AT_ONCE; some !== 0;) {
      some = numberOf(
        await this.#store.run(SCRIPTS.restoreClear, [counters], [this.#fence, keySlot(counters), some]),
        'clear',
      )
      this.#check(some === -1 ? 0 : 1)
    }
  }

  async clearWide(name: Parameters<VolumeKeys['wide']>[0]): Promise<void> {
    const keys = [this.#keys.wide(name), markKey(this.#volume)]
    this.#check(await this.#store.run(SCRIPTS.restoreClearWide, keys, [this.#mark]))
  }

  /** Nobody's any more. */
  async drop(): Promise<void> {
    const keys = [this.#keys.wide('settings'), markKey(this.#volume)]
    this.#check(await this.#store.run(SCRIPTS.restoreDrop, keys, [this.#mark]))
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
    if (reply !== 1) throw isAnothers(this.#volume)
  }
}

function isAnothers(volume: string): RingfsError {
  return new RingfsError(
    'ALREADY_RUNNING',
    `another process restores volume ${volume} since, or its Redis forgot who does: if it is not there soon, give the same file again`,
  )
}

/** Errors: VOLUME_EXISTS. */
export async function refuseVolume(store: RedisStore, volume: string): Promise<void> {
  if ((await store.call('EXISTS', wideKey(volume, 'settings'))) !== 0) throw isThere(volume)
}

function isThere(volume: string): RingfsError {
  return new RingfsError('VOLUME_EXISTS', `volume ${volume} is there: nothing is ever restored over a volume`)
}

function remain(volume: string): RingfsError {
  return new RingfsError(
    'VOLUME_EXISTS',
    `there are remains of a volume ${volume} on this Redis: use an empty one; what an interrupted restore has left ringfs restore --abandon takes away`,
  )
}

export interface Mark {
  readonly checksum: string
  /** undefined: a version before. */
  readonly partitions: number | undefined
  readonly metaReplicas: number | undefined
}

/** null: no restore is under way, or was interrupted. */
export async function readMark(store: RedisStore, volume: string): Promise<Mark | null> {
  const text = await store.call('GET', markKey(volume))
  if (text === null) return null
  const [checksum = '', , , partitions, metaReplicas] = String(text).split(' ')
  const number = (word: string | undefined): number | undefined => (word === undefined ? undefined : Number(word))
  return { checksum, partitions: number(partitions), metaReplicas: number(metaReplicas) }
}

function markKey(volume: string): string {
  return wideKey(volume, 'restore')
}
