/**
 * Settles claims: which of the chunks that a window is said to name no more are held by nobody (clone.ts has the
 * invariants).
 *
 *   record of holders read -> window looked at -> named: the claim was wrong, or is by now
 *                                              -> not named, version above the holder's (or no file): the holder goes
 *                                              -> not named, version the holder's: a clone may be under way: it is made
 *                                                 unable to commit, and all is looked at again
 *
 * Each step may be repeated, also by another janitor at the same time. Nothing goes for what a window does not name before the replicas have that:
 * the server that takes the place of a lost one would name chunks that are deleted.
 */
import { invariant } from '../base/invariant.js'
import { writeU56, encodeHolder, holderVersion, readU56, type Claim } from './records.js'
import type { Core } from './core.js'
import type { RedisArg } from '../cluster/contract.js'
import { Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'

/** Looks at a chunk that others are at, too. */
const LOOKS_MAX = 4
/** At most: as many as one script may take time for. */
const WINDOWS_AT_ONCE = 16
const CHUNKS_AT_ONCE = 512
const ID_BYTES = 7

export interface Settled {
  /** Chunks that nobody holds. */
  readonly unused: readonly number[]
  /** false: some could not be settled now. */
  readonly isSettled: boolean
}

interface Item {
  readonly claim: Claim
  readonly chunk: number
  readonly holder: Buffer
}

interface Look {
  /** -1: the file is gone. */
  readonly version: number
  readonly named: ReadonlySet<number>
}

/** A record; null if there is none. */
type Holders = ReadonlyMap<number, Buffer | null>

export class Claims {
  readonly #core: Core
  readonly #p: number

  /** Claims of partition `p`. */
  constructor(core: Core, p: number) {
    this.#core = core
    this.#p = p
  }

  async settle(claims: readonly Claim[]): Promise<Settled> {
    const unused = new Set<number>()
    let open = claims.flatMap((claim) => {
      const holder = encodeHolder(claim.ino, claim.window)
      return claim.chunks.map((chunk): Item => ({ claim, chunk, holder }))
    })
    for (let looks = 0; open.length > 0 && looks < LOOKS_MAX; looks++) open = await this.#round(open, unused)
    return { unused: [...unused], isSettled: open.length === 0 }
  }

  /** Forgets the empty records of chunks that are deleted. */
  async bury(chunks: readonly number[]): Promise<void> {
    await this.#eachPart(
      chunks.map((chunk) => ({ chunk })),
      async (holders, part) => {
        await this.#core.run(
          SCRIPTS.bury,
          [holders],
          part.map(({ chunk }) => chunk),
        )
      },
    )
  }

  /** One look at each; answers those that must be looked at again. */
  async #round(items: readonly Item[], unused: Set<number>): Promise<Item[]> {
    // The records first: what changes after the windows were looked at is then seen by release.lua.
    const holders = await this.#holders(items)
    await this.#core.step('claims-read')
    const { replicas, keys } = this.#core
    const looks = await replicas.surely(keys.partition(this.#p).inodes, () => this.#look(items))
    await this.#core.step('claims-looked')
    const again: Item[] = []
    const fences = new Map<number, number>()
    const gone: (Item & { readonly seen: string | number })[] = []
    for (const item of items) {
      const look = looks.get(item.claim)
      if (look === undefined || look.named.has(item.chunk)) continue
      const record = holders.get(item.chunk) ?? null
      const version = record === null ? undefined : holderVersion(record, item.holder)
      if (version !== undefined && version === look.version) {
        fences.set(item.claim.ino, version)
        again.push(item)
      } else gone.push({ ...item, seen: record === null ? 'none' : (version ?? 'absent') })
    }
    await this.#fence(fences)
    await this.#release(gone, unused, again)
    return again
  }

  async #holders(items: readonly Item[]): Promise<Holders> {
    const records = new Map<number, Buffer | null>()
    await this.#eachPart(items, async (key, part) => {
      const [first = 0, ...rest] = part.map(({ chunk }) => chunk)
      const reply = await this.#core.options.store.call('HMGET', key, first, ...rest)
      if (!Array.isArray(reply)) return
      for (const [at, value] of reply.entries()) {
        const item = part[at]
        if (item !== undefined) records.set(item.chunk, Buffer.isBuffer(value) ? value : null)
      }
    })
    return records
  }

  async #look(items: readonly Item[]): Promise<ReadonlyMap<Claim, Look>> {
    const claims = [...groupedBy(items, ({ claim }) => claim)]
    const looks = new Map<Claim, Look>()
    for (let at = 0; at < claims.length;) {
      const some = claims.slice(at, at + WINDOWS_AT_ONCE)
      const partition = this.#core.keys.partition(this.#p)
      const reply = new Reply(
        await this.#core.run(
          SCRIPTS.named,
          [partition.inodes, ...some.map(([{ ino, window }]) => partition.extents(ino, window))],
          some.flatMap(([{ ino, window }, list]): RedisArg[] => [ino, window, packIds(list)]),
        ),
      )
      const seen = some.slice(0, reply.length / 2)
      invariant(seen.length > 0, 'one window at least is looked at')
      at += seen.length
      for (const [i, [claim]] of seen.entries()) {
        looks.set(claim, { version: reply.number(2 * i), named: unpackIds(reply.buffer(2 * i + 1)) })
      }
    }
    return looks
  }

  async #fence(versions: ReadonlyMap<number, number>): Promise<void> {
    const { inodes, channel } = this.#core.keys.partition(this.#p)
    await Promise.all(
      [...versions].map(([ino, version]) => this.#core.run(SCRIPTS.fence, [inodes, channel], [ino, version])),
    )
  }

  async #release(
    items: readonly (Item & { readonly seen: string | number })[],
    unused: Set<number>,
    again: Item[],
  ): Promise<void> {
    await this.#eachPart(items, async (key, part) => {
      const args = part.flatMap(({ chunk, claim, holder, seen }): RedisArg[] => [chunk, claim.kind, holder, seen])
      const reply = await this.#core.run(SCRIPTS.release, [key], args)
      if (!Array.isArray(reply)) return
      for (const [at, item] of part.entries()) {
        if (reply[at] === 1) unused.add(item.chunk)
        else if (reply[at] !== 0) again.push(item)
      }
    })
  }

  /** By the partition that has their records, so many at a time. */
  async #eachPart<T extends { readonly chunk: number }>(
    items: readonly T[],
    work: (holders: string, part: readonly T[]) => Promise<void>,
  ): Promise<void> {
    const { keys } = this.#core
    for (const [p, list] of groupedBy(items, ({ chunk }) => keys.holdersOf(chunk))) {
      for (let at = 0; at < list.length; at += CHUNKS_AT_ONCE) {
        await work(keys.partition(p).holders, list.slice(at, at + CHUNKS_AT_ONCE))
      }
    }
  }
}

function packIds(items: readonly Item[]): Buffer {
  const out = Buffer.alloc(items.length * ID_BYTES)
  for (const [at, { chunk }] of items.entries()) writeU56(out, chunk, at * ID_BYTES)
  return out
}

function unpackIds(ids: Buffer): Set<number> {
  const found = new Set<number>()
  for (let at = 0; at + ID_BYTES <= ids.length; at += ID_BYTES) found.add(readU56(ids, at))
  return found
}

function groupedBy<T, K>(items: readonly T[], key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const group = groups.get(key(item))
    if (group === undefined) groups.set(key(item), [item])
    else group.push(item)
  }
  return groups
}
