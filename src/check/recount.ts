/**
 * The counters of a partition, counted anew while clients change it: nobody waits, and no script is longer for millions of files.
 *
 *   begin -> which inodes there are, by pages -> sorted -> count a page, up to an ino -> ... -> all are counted -> (set) -> end
 *
 * Invariants:
 * - Inodes are counted in the order of their numbers. Whoever changes a counter because of one that was counted already, or that is newer
 *   than the count, changes what was counted by as much, in the same script (scripts/lib/counts.lua). So what was counted is exact at any moment: the sum of
 *   the inodes up to where the count has come, and of the newer ones.
 * - None is missed. The numbers of new inodes are higher than all before, but for directories that are still to be made: their numbers are reserved. What
 *   was there when it began and is not met in the list of inodes is gone. A list is that of one server: another has another order.
 * - Where it has come to stands beside the counters. A page that is asked for twice counts once; after a failover it goes on from where the new
 *   server knows that it has come.
 * - A change that goes past it (of a program that knows of no counting) shows: then the counters are not what their noted changes make of them, and
 *   nothing is set.
 * - It ends by itself if whoever counts dies. Of two that count the same partition the later goes on.
 */
import { randomUUID } from 'node:crypto'
import type { RedisArg, RedisStore, RedisValue, Script } from '../cluster/contract.js'
import { arrayOf, numberOf, textOf } from '../cluster/reply.js'
import type { PartitionKeys, VolumeKeys } from '../meta/keys.js'
import { areSame, hashPages, type Counters } from '../meta/scan.js'
import { SCRIPTS } from '../meta/scripts.js'

/** Inodes of one script: about a millisecond. */
const PAGE = 500
/** Without a page it is over. */
const LASTS_MS = 60_000
const END_MS = 5_000
const ATTEMPTS = 3

export interface RecountOptions {
  /** What was counted is set. */
  readonly mends: boolean
  /** Inodes that one script counts. Default 500. */
  readonly page?: number | undefined
  /** May throw, which ends it. `all` 0: not known yet. */
  readonly onProgress: (done: number, all: number) => void
}

export interface Recount {
  /** As the counters had it. */
  readonly counted: Counters
  readonly actual: Counters
}

/** null: a failover, another one that counts, or an older program was in the way each time; nothing is set. */
export async function recount(
  store: RedisStore,
  keys: VolumeKeys,
  partition: number,
  options: RecountOptions,
): Promise<Recount | null> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const counting = new Counting(store, keys, partition, options)
    try {
      const done = await counting.run()
      if (done !== null) return done
    } finally {
      // It ends by itself, too.
      await counting.end().catch(() => undefined)
    }
  }
  return null
}

interface Page extends Recount {
  readonly upTo: number
  /** Every change of the counters was noted. */
  readonly isWhole: boolean
}

class Counting {
  readonly #who = randomUUID()
  readonly #store: RedisStore
  readonly #partition: number
  readonly #partitions: number
  readonly #keys: PartitionKeys
  readonly #options: RecountOptions
  readonly #page: number

  constructor(store: RedisStore, keys: VolumeKeys, partition: number, options: RecountOptions) {
    this.#store = store
    this.#partition = partition
    this.#partitions = keys.partitions
    this.#keys = keys.partition(partition)
    this.#options = options
    this.#page = options.page ?? PAGE
  }

  async run(): Promise<Recount | null> {
    const newest = numberOf(
      await this.#run(SCRIPTS.countBegin, [this.#who, this.#partitions, this.#partition, LASTS_MS]),
      'count-begin',
    )
    const inos = await this.#inosUpTo(newest)
    if (inos === null) return null
    let page: Page | null
    let upTo = 0
    do {
      page = await this.#count(newest, inos, upTo)
      if (page === null) return null
      upTo = page.upTo
      this.#options.onProgress(firstAbove(inos, upTo), inos.length)
    } while (upTo < newest)
    if (!page.isWhole) return null
    const isSet = !this.#options.mends || areSame(page.counted, page.actual) || (await this.#set())
    return isSet ? page : null
  }

  async end(): Promise<void> {
    await this.#run(SCRIPTS.countEnd, [this.#who], END_MS)
  }

  /** In their order. null: it is not certain that these are all. */
  async #inosUpTo(newest: number): Promise<Float64Array | null> {
    const found: number[] = []
    const history = await this.#history()
    // First: whose directory is made meanwhile is found as an inode.
    for await (const page of hashPages(this.#store, this.#keys.reserved)) {
      for (const [ino] of page) found.push(Number(ino))
    }
    let cursor = '0'
    do {
      const reply = await this.#run(SCRIPTS.countList, [cursor, this.#page])
      const [next, inos] = arrayOf(reply, 'count-list')
      for (const ino of arrayOf(inos, 'count-list')) found.push(numberOf(ino, 'count-list'))
      cursor = textOf(next, 'count-list')
      this.#options.onProgress(found.length, 0)
    } while (cursor !== '0')
    if ((await this.#history()) !== history) return null
    const sorted = Float64Array.from(found).sort()
    return sorted.filter((ino, at) => ino <= newest && ino !== sorted[at - 1])
  }

  async #history(): Promise<string> {
    return textOf(await this.#store.run(SCRIPTS.history, [this.#keys.inodes], []), 'history')
  }

  /** null: it is not ours any more. */
  async #count(newest: number, inos: Float64Array, upTo: number): Promise<Page | null> {
    const from = firstAbove(inos, upTo)
    const some = inos.subarray(from, from + this.#page)
    const to = from + some.length < inos.length ? (some.at(-1) ?? newest) : newest
    const reply = await this.#run(SCRIPTS.countPage, [this.#who, newest, LASTS_MS, upTo, to, ...some])
    const [reached = -1, ...figures] = arrayOf(reply, 'count-page').map((one) => numberOf(one, 'count-page'))
    if (reached < 0) return null
    return {
      ...{ upTo: reached, actual: countersOf(figures), counted: countersOf(figures.slice(3)) },
      isWhole: figures[6] === 1,
    }
  }

  async #set(): Promise<boolean> {
    return (await this.#run(SCRIPTS.setCounts, [this.#who])) === 1
  }

  #run(script: Script, args: readonly RedisArg[], deadlineMs?: number): Promise<RedisValue> {
    const { inodes, locks, counters } = this.#keys
    const call = deadlineMs === undefined ? undefined : { deadlineMs }
    return this.#store.run(script, [inodes, locks, counters], args, call)
  }
}

function countersOf([inodes = 0, bytes = 0, inline = 0]: readonly number[]): Counters {
  return { inodes, bytes, inline }
}

/** Index of the first that is above, in a sorted list. */
function firstAbove(sorted: Float64Array, limit: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] ?? 0) <= limit) low = middle + 1
    else high = middle
  }
  return low
}
