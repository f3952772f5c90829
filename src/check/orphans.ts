/**
 * Chunks that nothing names: what a writer uploaded and died before it committed, or what lost metadata named.
 *
 * Invariants:
 * - Nothing is freed that could still be named. A chunk is noted when it is first seen, with the newest session of that moment. It
 *   is freed only when the grace is over (Redis's clock), every session of that moment has ended (whoever could still commit it, or
 *   read by an old map, was one of them), its block of ids is closed (a client that was declared dead and lives on has it in its next
 *   session), a whole pass just now did not meet it, the janitor does not speak of it, it has no record of holders, and the file that it
 *   was written for does not name it.
 * - Nothing is freed while the metadata are older than the chunks (restored, or lost): if any chunk's id is above what the
 *   counter has given out, or a rebuild is due or not complete ({v}:m:rebuild; a restore and a failover set it), orphans are somebody's data, and only rebuild may touch them.
 */
import type { RedisStore, RedisValue } from '../cluster/contract.js'
import { arrayOf, numberOf } from '../cluster/reply.js'
import { endBlocks } from '../meta/blocks.js'
import { CHUNK_BLOCK, type VolumeKeys } from '../meta/keys.js'
import { chunksOf, hashPages } from '../meta/scan.js'
import { SCRIPTS } from '../meta/scripts.js'
import type { ListedHeader } from '../chunk/contract.js'
import { noteNewHistories } from './histories.js'

const BATCH = 256

export interface OrphansResult {
  /** May be freed now. */
  readonly ripe: readonly number[]
  /** true: the metadata do not know of blocks that chunks are from, or a rebuild is not complete. */
  readonly isMetadataOlder: boolean
}

export interface OrphansParts {
  readonly store: RedisStore
  readonly keys: VolumeKeys
  readonly graceMs: number
  /** What a copy's header says; null: nobody tells. */
  readonly headerOf: (chunk: number) => Promise<ListedHeader | null>
}

/** Or one is under way, or was not complete. */
export async function isRebuildDue(store: RedisStore, keys: VolumeKeys): Promise<boolean> {
  return (await store.call('EXISTS', keys.wide('rebuild'))) === 1
}

/** Nobody may free an orphan before a rebuild is complete: histories.ts. */
export async function isHeldBack(store: RedisStore, keys: VolumeKeys): Promise<boolean> {
  await noteNewHistories(store, keys)
  return await isRebuildDue(store, keys)
}

/** isHeldBack, or the metadata do not know of the block that one of the orphans is from. */
export async function isMetadataOlder(
  store: RedisStore,
  keys: VolumeKeys,
  orphans: Iterable<number>,
): Promise<boolean> {
  if (await isHeldBack(store, keys)) return true
  const last = countOf(await store.call('HGET', keys.wide('n'), 'chunkBlock'))
  for (const chunk of orphans) if (Math.floor(chunk / CHUNK_BLOCK) > last) return true
  return false
}

function countOf(value: RedisValue): number {
  return value === null ? 0 : numberOf(value, 'HGET')
}

/** Notes those that are seen for the first time, forgets those that are named by now, answers those that may go. */
export async function ripeOrphans(parts: OrphansParts, orphans: Iterable<number>): Promise<OrphansResult> {
  const { store, keys, graceMs, headerOf } = parts
  const all = [...orphans]
  if (await isMetadataOlder(store, keys, all)) return { ripe: [], isMetadataOlder: true }
  const ripe: number[] = []
  await forget(store, keys, new Set(all))
  for (let at = 0; at < all.length; at += BATCH) {
    const batch = all.slice(at, at + BATCH)
    const reply = await store.run(
      SCRIPTS.orphans,
      [keys.wide('orphans'), keys.wide('n'), keys.wide('s'), keys.wide('dead')],
      [graceMs, ...batch],
    )
    const ids = arrayOf(reply, 'orphans').map((chunk) => numberOf(chunk, 'orphans'))
    const ended = await endBlocks(store, keys, ids)
    // What was committed before its block was closed is named by now.
    for (const id of ids) {
      if (ended.get(Math.floor(id / CHUNK_BLOCK)) !== 'closed') continue
      if (!(await isHeld(parts, id, await headerOf(id)))) ripe.push(id)
    }
  }
  return { ripe, isMetadataOlder: false }
}

/** Does the file name it that it was written for (in which window, is not certain of appended data), or has it holders? Unknown is yes. */
async function isHeld({ store, keys }: OrphansParts, chunk: number, header: ListedHeader | null): Promise<boolean> {
  if (header === null) return true
  if ((await store.call('HEXISTS', keys.partition(keys.holdersOf(chunk)).holders, chunk)) !== 0) return true
  const named = await chunksOf(store, keys, header.origin.ino).catch(() => null)
  return named === null || named.has(chunk)
}

/** What is named, or gone, is no orphan any more: its grace begins anew should it ever be one again. */
async function forget(store: RedisStore, keys: VolumeKeys, orphans: ReadonlySet<number>): Promise<void> {
  for await (const page of hashPages(store, keys.wide('orphans'))) {
    const gone = page.flatMap(([id]) => (orphans.has(Number(id)) ? [] : [id]))
    if (gone.length > 0) await store.call('HDEL', keys.wide('orphans'), ...gone)
  }
}
