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
 * - A lone server (`ringfs up`) has no replica; each start of it is a history of its own that lacks nothing that was synced.
 */
import type { RedisStore } from '../cluster/contract.js'
import { arrayOf, numberOf } from '../cluster/reply.js'
import type { VolumeKeys } from '../meta/keys.js'
import { SCRIPTS } from '../meta/scripts.js'

const AT_ONCE = 32

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
  for (const [field, history] of await askFor(store, unknown)) {
    await store.call('HSETNX', keys.wide('n'), field, history)
  }
}

/** Nothing of them is lost, or rebuilt by now. */
export async function knowHistories(store: RedisStore, keys: VolumeKeys, histories: Histories): Promise<void> {
  if (histories.size > 0) await store.call('HSET', keys.wide('n'), ...[...histories].flat())
}

/** Sets {v}:m:rebuild when one of them is new. */
export async function noteNewHistories(store: RedisStore, keys: VolumeKeys): Promise<void> {
  const histories = await historiesOf(store, keys)
  if (histories.size === 0) return
  const fields = [...histories.keys()]
  const known = arrayOf(await store.call('HMGET', keys.wide('n'), ...fields), 'HMGET')
  for (const field of fields.filter((_, at) => known[at] === null)) {
    await store.call('HSETNX', keys.wide('n'), field, histories.get(field) ?? '')
  }
  const isNew = fields.some((field, at) => known[at] !== null && String(known[at]) !== histories.get(field))
  if (!isNew) return
  const rebuild = keys.wide('rebuild')
  await store.call('HSETNX', rebuild, 'begun', numberOf(await store.run(SCRIPTS.now, [rebuild], []), 'now'))
}
