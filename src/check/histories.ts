/**
 * Which history of each partition's server the volume is known to have whole: fields r<partition> of {v}:m:n, and rw of the volume's own keys.
 *
 * A replica that takes its master's place begins a history of its own (master_replid of INFO), and so does a server that is started again:
 * either may lack the end of what was acknowledged. What that named looks like orphans, and is somebody's data.
 *
 * Invariants:
 * - While a history is another than the known one, {v}:m:rebuild is there once anybody has looked: nobody frees orphans.
 * - The known ones change only when a rebuild was complete that began after them. Those of a new volume are taken as they are when its first
 *   node starts, before there is a chunk; later no failover goes unseen, however long nobody looks.
 * - Since when the histories of now go on is noted while a rebuild is due (field `seen`), and the newest of what no file named when all nodes
 *   had told what they have: what is newer than both was written after that, and no failover has lost it. By the time alone that cannot be
 *   told: a promoted replica has a clock of its own, and what its master's clients wrote may be of an hour from now.
 * - A lone server (`ringfs up`) has no replica; each start of it is a history of its own that lacks nothing that was synced.
 */
import { createHash } from 'node:crypto'
import type { RedisStore } from '../cluster/contract.js'
import { arrayOf } from '../cluster/reply.js'
import type { VolumeKeys } from '../meta/keys.js'
import { noteRebuildDue, redisMs } from '../meta/rebuild-due.js'
import { SCRIPTS } from '../meta/scripts.js'

const AT_ONCE = 32
/** Field of {v}:m:rebuild: ms of Redis time, the SHA-256 of the histories that were there then, and the newest chunk: `Seen`. */
export const SEEN = 'seen'

/** Field -> history. */
export type Histories = ReadonlyMap<string, string>

export async function historiesOf(store: RedisStore, keys: VolumeKeys): Promise<Histories> {
  return await askFor(store, fieldsOf(store, keys))
}

/** Field -> a key of that server. None of a lone one. */
function fieldsOf(store: RedisStore, keys: VolumeKeys): ReadonlyMap<string, string> {
  if (store.isLone) return new Map()
  const partitions = Array.from({ length: keys.partitions }, (_, p) => [`r${p}`, keys.partition(p).counters] as const)
  return new Map([['rw', keys.wide('n')], ...partitions])
}

async function askFor(store: RedisStore, fields: ReadonlyMap<string, string>): Promise<Histories> {
  const found = new Map<string, string>()
  const all = [...fields]
  for (let from = 0; from < all.length; from += AT_ONCE) {
    const some = all.slice(from, from + AT_ONCE)
    const ask = async ([field, key]: readonly [string, string]): Promise<void> =>
      void found.set(field, String(await store.run(SCRIPTS.history, [key], [])))
    await Promise.all(some.map(ask))
  }
  return found
}

/** Those that nobody knows yet are known from now on. */
export async function knowFirstHistories(store: RedisStore, keys: VolumeKeys): Promise<void> {
  const fields = fieldsOf(store, keys)
  if (fields.size === 0) return
  const known = arrayOf(await store.call('HMGET', keys.wide('n'), ...fields.keys()), 'HMGET')
  const unknown = new Map([...fields].filter((_, at) => known[at] === null))
  await knowFirst(store, keys, await askFor(store, unknown))
}

async function knowFirst(store: RedisStore, keys: VolumeKeys, histories: Histories): Promise<void> {
  for (const [field, history] of histories) await store.call('HSETNX', keys.wide('n'), field, history)
}

/** Nothing of them is lost, or rebuilt by now. */
export async function knowHistories(store: RedisStore, keys: VolumeKeys, histories: Histories): Promise<void> {
  if (histories.size > 0) await store.call('HSET', keys.wide('n'), ...[...histories].flat())
}

/** Sets {v}:m:rebuild when one of them is new. */
export async function noteNewHistories(store: RedisStore, keys: VolumeKeys): Promise<void> {
  const histories = await historiesOf(store, keys)
  if (histories.size === 0) return
  const known = arrayOf(await store.call('HMGET', keys.wide('n'), ...histories.keys()), 'HMGET')
  const all = [...histories]
  await knowFirst(store, keys, new Map(all.filter((_, at) => known[at] === null)))
  const isNew = all.some(([, history], at) => known[at] !== null && String(known[at]) !== history)
  if (!isNew) return
  await noteRebuildDue(store, keys)
}

/** What is noted of the histories of now. */
export interface Seen {
  /** Since when they are known to go on, ms of Redis time. */
  readonly sinceMs: number
  /**
   * Since then all nodes have told what they have, and this is the newest that no file named, in microseconds since 1970 by the clocks of
   * their writers, whatever these showed. Infinity: not all have told yet.
   */
  readonly newestUs: number
}

/**
 * Since when these have gone on: since now, unless it is noted that the very same were there before. To be asked after the histories
 * were, and while a rebuild is due.
 */
export async function seenOf(store: RedisStore, keys: VolumeKeys, histories: Histories): Promise<Seen> {
  const noted = await store.call('HGET', keys.wide('rebuild'), SEEN)
  const [sinceMs = '', of, newestUs] = noted === null ? [] : String(noted).split(' ')
  if (of === digestOf(histories)) {
    return { sinceMs: Number(sinceMs), newestUs: newestUs === undefined ? Infinity : Number(newestUs) }
  }
  const seen = { sinceMs: await redisMs(store, keys), newestUs: Infinity }
  await noteSeen(store, keys, histories, seen)
  return seen
}

export async function noteSeen(store: RedisStore, keys: VolumeKeys, histories: Histories, seen: Seen): Promise<void> {
  const { sinceMs, newestUs } = seen
  const words = [sinceMs, digestOf(histories), ...(newestUs === Infinity ? [] : [newestUs])]
  await store.call('HSET', keys.wide('rebuild'), SEEN, words.join(' '))
}

function digestOf(histories: Histories): string {
  return createHash('sha256')
    .update(JSON.stringify([...histories].sort()))
    .digest('hex')
}
