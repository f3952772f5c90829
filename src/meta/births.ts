/**
 * Directories are made in two places: the name in the parent's partition, the inode in another, so that directories spread
 * over all. One script makes the name, and that is when the directory exists; the inode follows.
 *
 *   reserve   numbers of a partition, many at a time, for this session                      reserve.lua
 *   mkdir     the name, and beside it the mark b<ino>: all that makes the inode             mkdir.lua
 *   born      the inode, in exchange for the reservation of its number                      born.lua
 *   sweep     the mark
 *
 * Invariants.
 * - The name and its mark come in one script. While the mark is there nobody takes the name away, or moves it: whoever wants
 *   to has the inode made first (STATUS_UNBORN). So who is led by a name to an inode that is not there finds either the mark
 *   beside the name, or that the name is gone or means something else by now.
 * - An inode is made only in exchange for its reservation: once, whoever asks for it, however often, however late; never again
 *   after the directory was removed.
 * - The mark goes only when the inode was made. Reservations of a session that ended go only when no mark of it is left in
 *   any partition, and none can come any more (recovery.ts).
 * - Neither a reservation that is used, nor an inode whose mark goes, nor a name that another client follows is lost with a master whose
 *   replicas keep up (replicas.ts).
 * - What this client sends to a partition comes there behind the births that it has for it: its own directories are
 *   there for it at once. Should they come in another order all the same (a connection was lost), a refusal is asked for again.
 */
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import type { RedisArg, RedisValue } from '../cluster/contract.js'
import type { Background } from './background.js'
import type { CoreOptions } from './core.js'
import type { Replicas } from './replicas.js'
import type { Reply } from './reply.js'
import { pastFreeze } from './freeze.js'
import { SCRIPTS } from './scripts.js'

/** In which births of one partition are gathered, unless something is sent there. */
const GATHER_MS = 2
const BORN_MAX = 32
const PAUSE_FIRST_MS = 100
const PAUSE_MAX_MS = 5_000

/** Where a directory's name is, and what makes its inode. */
export interface Birth {
  readonly ino: number
  readonly partition: number
  readonly birth: Buffer
}

export interface Reserved {
  readonly ino: number
  readonly session: number
}

export interface BirthsOptions extends CoreOptions {
  readonly background: Background
  readonly replicas: Replicas
  readonly lone: '0' | '1'
}

/** Runs reserve.lua: answered when the replicas have it. */
export type Reserve = (p: number, keys: readonly string[], args: readonly RedisArg[]) => Promise<Reply>

export class Births {
  readonly #options: BirthsOptions
  readonly #reserve: Reserve
  /** Not used yet. */
  #numbers: Reserved[] = []
  #reserving: Promise<void> | undefined
  #nextPartition: number
  /** By the partition of the inode: not sent yet; on their way. */
  readonly #waiting = new Map<number, Birth[]>()
  readonly #sending = new Map<number, Promise<void>>()
  /** By the partition of the name: marks to be swept. */
  readonly #marks = new Map<number, number[]>()
  #isEnding = false

  constructor(options: BirthsOptions, reserve: Reserve) {
    this.#options = options
    this.#reserve = reserve
    this.#nextPartition = Math.floor(options.random() * options.keys.partitions)
  }

  /** A number for a directory. Of each run the next is fetched before it comes to its end. */
  async number(): Promise<Reserved> {
    for (;;) {
      const one = this.#numbers.shift()
      if (this.#numbers.length <= this.#options.numbersAhead / 2 - 1) this.#fetch().catch(() => undefined)
      if (one !== undefined && one.session === this.#options.session.id) return one
      if (one === undefined) await this.#fetch()
    }
  }

  /** So that the first does not wait for its number. */
  async prepare(): Promise<void> {
    if (this.#numbers.length === 0) await this.#fetch()
  }

  /** A server lost what this session was told: reservations may be among it. Those of its partition are not used. */
  lost(p: number): void {
    this.#numbers = this.#numbers.filter(({ ino }) => this.#options.keys.home(ino) !== p)
  }

  /** It was not used, and nothing that was sent with it will be done. */
  giveBack(one: Reserved): void {
    this.#numbers.unshift(one)
  }

  #fetch(): Promise<void> {
    this.#reserving ??= this.#fetchRun().finally(() => (this.#reserving = undefined))
    return this.#reserving
  }

  async #fetchRun(): Promise<void> {
    const { keys, session, numbersAhead } = this.#options
    const { partitions } = keys
    const home = this.#nextPartition
    this.#nextPartition = (home + 1) % partitions
    const { id } = session
    const { lone } = this.#options
    const reply = await this.#reserve(home, [keys.partition(home).reserved], [numbersAhead, partitions, home, lone])
    if (session.id !== id) throw new PosixError('EIO', 'the session was ended by another client')
    const first = reply.number(1)
    for (let i = 0; i < numbersAhead; i++) this.#numbers.push({ ino: first + i * partitions, session: id })
  }

  /** A name was made in `partition`. The inode follows, also when Redis cannot be reached for a while. */
  add(ino: number, partition: number, birth: Buffer): void {
    const home = this.#options.keys.home(ino)
    const waiting = this.#waiting.get(home)
    if (waiting !== undefined) {
      waiting.push({ ino, partition, birth })
      return
    }
    this.#waiting.set(home, [{ ino, partition, birth }])
    const gathered = this.#options.onStep === undefined ? this.#options.clock.sleep(GATHER_MS) : Promise.resolve()
    this.#options.background.run(gathered.then(() => this.#send(home)))
  }

  /** Something is about to be sent to partition `p`: what is to come there first is sent. undefined: nothing is. */
  ahead(p: number): Promise<void> | undefined {
    if (this.#marks.has(p)) this.#options.background.run(this.#sweep(p))
    return this.#waiting.has(p) ? this.#send(p) : this.#sending.get(p)
  }

  /** Has a directory made that another client named, or this one. */
  async complete({ ino, partition, birth }: Birth): Promise<void> {
    const { keys, store, replicas, settings } = this.#options
    const { locks } = keys.partition(partition)
    if (settings.metaReplicas > 0) {
      // The name may be one that its server loses, of which nobody was told: what is made in the directory would be lost with it.
      const isThere = await replicas.behind(locks, () => store.call('HEXISTS', locks, markOf(ino)))
      if (isThere === 0) return
    }
    await this.#bear(keys.home(ino), [{ ino, partition, birth }])
    await store.call('HDEL', locks, markOf(ino))
  }

  /** A name of directory `parent` led to an inode that is not there. true: it was still to be made, and is now. */
  async mend(parent: number, ino: number): Promise<boolean> {
    const partition = this.#options.keys.home(parent)
    const birth = await this.#options.store.call('HGET', this.#options.keys.partition(partition).locks, markOf(ino))
    if (!Buffer.isBuffer(birth)) return false
    await this.complete({ ino, partition, birth })
    return true
  }

  /** Makes and sweeps what was added; what cannot be done now is done by who cleans up after the session. */
  async settle(): Promise<void> {
    this.#isEnding = true
    await Promise.all([...this.#waiting.keys()].map((home) => this.#send(home)))
    await Promise.all(this.#sending.values())
    for (const p of [...this.#marks.keys()]) await this.#sweep(p)
  }

  /** One after the other for each partition. */
  #send(home: number): Promise<void> {
    const births = this.#waiting.get(home)
    const before = this.#sending.get(home)
    if (births === undefined) return before ?? Promise.resolve()
    this.#waiting.delete(home)
    const sending: Promise<void> = this.#sendAll(home, births, before).finally(() => {
      if (this.#sending.get(home) === sending) this.#sending.delete(home)
    })
    this.#sending.set(home, sending)
    return sending
  }

  /** The first attempt is sent in this turn, so that what is sent next comes behind it. */
  async #sendAll(home: number, births: readonly Birth[], before: Promise<void> | undefined): Promise<void> {
    for (let at = 0; at < births.length; at += BORN_MAX) await this.#sendSome(home, births.slice(at, at + BORN_MAX))
    await before
  }

  async #sendSome(home: number, births: readonly Birth[]): Promise<void> {
    const { clock, log } = this.#options
    for (let pauseMs = PAUSE_FIRST_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
      try {
        await this.#bear(home, births)
        break
      } catch (error) {
        // Others make them when they meet the names.
        log.warn({ error: messageOf(error) }, 'directories are still to be made')
        if (this.#isEnding) return
        await clock.sleep(pauseMs)
      }
    }
    await this.#options.onStep?.('mkdir:born')
    for (const { ino, partition } of births) this.#mark(partition, ino)
  }

  async #bear(home: number, births: readonly Birth[]): Promise<void> {
    const { store, keys, clock, operationDeadlineMs, replicas } = this.#options
    const { inodes, counters, acls, reserved, locks } = keys.partition(home)
    const args = births.flatMap(({ ino, birth }) => [ino, birth])
    const doubt = { mayHaveRun: false }
    const options = { deadlineMs: operationDeadlineMs, doubt }
    const run = (): Promise<Reply> =>
      pastFreeze(clock, operationDeadlineMs, doubt, () =>
        store.run(SCRIPTS.born, [inodes, locks, counters, acls, reserved], args, options),
      )
    await replicas.behind(inodes, run)
  }

  #mark(partition: number, ino: number): void {
    const marks = this.#marks.get(partition)
    if (marks === undefined) this.#marks.set(partition, [ino])
    else marks.push(ino)
    if (marks !== undefined) return
    const later = this.#options.clock.sleep(GATHER_MS).then(() => this.#sweep(partition))
    this.#options.background.run(later)
  }

  async #sweep(partition: number): Promise<void> {
    const marks = this.#marks.get(partition)
    if (marks === undefined) return
    this.#marks.delete(partition)
    const { store, keys, onStep } = this.#options
    await store.call('HDEL', keys.partition(partition).locks, ...marks.map(markOf))
    await onStep?.('mkdir:swept')
  }
}

/** As a script lists them: ino, what makes it, … */
export function birthsIn(list: readonly RedisValue[], partition: number): Birth[] {
  const births: Birth[] = []
  for (let at = 0; at < list.length; at += 2) {
    const birth = list[at + 1]
    invariant(Buffer.isBuffer(birth), 'what makes a directory is a string')
    births.push({ ino: Number(list[at]), partition, birth })
  }
  return births
}

function markOf(ino: number): string {
  return `b${ino}`
}
