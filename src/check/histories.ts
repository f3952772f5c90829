/**
 * Which history of each partition's server the volume is known to have whole: fields r<partition> of {v}:m:n, and rw of the volume's own keys.
 *
 * A replica that takes its master's place begins a history of its own (master_replid of INFO), and so does a server that is started again:
 * either may lack the end of what was acknowledged. What that named looks like orphans, and is somebody's data.
 *
 * Invariants:
 * - While a history is another than the known one, {v}:m:rebuild is there once anybody has looked: nobody frees orphans.
 * - The known ones change only when a rebuild was complete that began after them. Those that nobody has looked at yet are taken as they are.
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
  const found = new Map<string, string>()
  if (store.isLone) return found
  const ask = async (field: string, key: string): Promise<void> => {
    found.set(field, String(await store.run(SCRIPTS.history, [key], [])))
  }
  await ask('rw', keys.wide('n'))
  for (let from = 0; from < keys.partitions; from += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, keys.partitions - from) }, (_, at) => from + at)
    await Promise.all(some.map((p) => ask(`r${p}`, keys.partition(p).counters)))
  }
  return found
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
  const unknown = fields.filter((_, at) => known[at] === null)
  for (const field of unknown) await store.call('HSETNX', keys.wide('n'), field, histories.get(field) ?? '')
  const isNew = fields.some((field, at) => known[at] !== null && String(known[at]) !== histories.get(field))
  if (!isNew) return
  const rebuild = keys.wide('rebuild')
  await store.call('HSETNX', rebuild, 'begun', numberOf(await store.run(SCRIPTS.now, [rebuild], []), 'now'))
}
