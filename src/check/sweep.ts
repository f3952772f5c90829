/**
 * Frees what dead writers have left: chunks that were uploaded and never committed. Part of the janitor's work, without anybody's doing.
 *
 * Only chunks of closed blocks are looked at (meta/blocks.ts): their writer's session ended a grace period ago, so that nobody can commit
 * them any more. One that no file names then is named never again: what could name it anew is a clone, of a file that names it.
 *
 * Invariants:
 * - A chunk is freed only if the file that it was written for does not name it, the janitor does not speak of it, it has no record of
 *   holders, and no rebuild or other sweep is under way (they share a lease) or incomplete. Blocks of which a rebuild has named chunks are left
 *   to `ringfs fsck --repair`, which looks at all files.
 * - A block is forgotten only when every node has told what it has of it, on all its disks and in all their folders.
 * - Nothing is freed after a failover, which may have lost the end of the metadata, until a rebuild was complete (histories.ts): what that
 *   named looks like an orphan, and `ringfs rebuild` restores it.
 */
import type { ChunkClient, ListedHeader } from '../chunk/contract.js'
import type { RedisStore } from '../cluster/contract.js'
import { arrayOf, numberOf } from '../cluster/reply.js'
import { chunkPosition } from '../cluster/ring.js'
import { CHUNK_BLOCK, type VolumeKeys } from '../meta/keys.js'
import { chunksOf, hashPages, scanSpoken } from '../meta/scan.js'
import { SCRIPTS } from '../meta/scripts.js'
import { withRebuildLease } from './lease.js'
import { isHeldBack } from './orphans.js'
import { headOf, inventory, shortOfDisks, type NodesParts } from './nodes.js'

const BLOCKS_AT_ONCE = 256
const REMOVE_BATCH = 500
const BUCKET_BITS = 20
/** Field of a block of which a rebuild has named chunks. */
export const KEPT = 'k'

export interface SweepParts extends NodesParts {
  readonly store: RedisStore
  readonly keys: VolumeKeys
  readonly chunks: Pick<ChunkClient, 'remove'>
  readonly graceMs: number
}

/** Answers how many chunks were freed. */
export async function sweepOrphans(parts: SweepParts): Promise<number> {
  const { store, keys } = parts
  if ((await store.call('EXISTS', keys.wide('blocks'))) === 0) return 0
  const swept = await withRebuildLease(store, keys, async (check) => {
    if (await isHeldBack(store, keys)) return 0
    const blocks = await closedBlocks(parts)
    return blocks.size === 0 ? 0 : await sweepBlocks(parts, blocks, check)
  })
  return swept ?? 0
}

/** Those that are to be swept. */
async function closedBlocks({ store, keys, graceMs }: SweepParts): Promise<Set<number>> {
  const all = new Set<number>()
  const kept = new Set<number>()
  for await (const page of hashPages(store, keys.wide('blocks'))) {
    for (const [field] of page) {
      if (field.startsWith(KEPT)) kept.add(Number(field.slice(KEPT.length)))
      else all.add(Number(field))
    }
  }
  const closed = new Set<number>()
  const list = [...all].filter((block) => !kept.has(block))
  for (let at = 0; at < list.length; at += BLOCKS_AT_ONCE) {
    const reply = await store.run(
      SCRIPTS.closeBlocks,
      [keys.wide('blocks'), keys.wide('s'), keys.wide('dead')],
      [graceMs, ...list.slice(at, at + BLOCKS_AT_ONCE)],
    )
    for (const block of arrayOf(reply, 'close-blocks')) closed.add(numberOf(block, 'close-blocks'))
  }
  return closed
}

async function sweepBlocks(parts: SweepParts, blocks: ReadonlySet<number>, check: () => void): Promise<number> {
  const { store, keys, chunks } = parts
  // Before and afterwards: a disk may come back, or fail, while its node is asked.
  const short = new Map(shortOfDisks(parts))
  const silent = new Map<string, string>()
  const found = new Map<number, readonly string[]>()
  for await (const { copies } of inventory(parts, false, silent, short)) {
    for (const [id, nodes] of copies) if (blocks.has(Math.floor(id / CHUNK_BLOCK))) found.set(id, nodes)
  }
  const { orphans, isSure } = await orphansAmong(parts, found)
  // What the files name was read from servers that lack nothing.
  if (orphans.length > 0 && (await isHeldBack(store, keys))) return 0
  for (let at = 0; at < orphans.length; at += REMOVE_BATCH) {
    check()
    await chunks.remove(orphans.slice(at, at + REMOVE_BATCH))
  }
  const isAll = silent.size === 0 && short.size === 0 && shortOfDisks(parts).size === 0
  if (isAll && isSure) await store.call('HDEL', keys.wide('blocks'), ...blocks)
  return orphans.length
}

interface Judged {
  readonly orphans: readonly number[]
  /** false: of some nobody could tell for which file they were written, or what that names. */
  readonly isSure: boolean
}

async function orphansAmong(parts: SweepParts, found: Map<number, readonly string[]>): Promise<Judged> {
  const { store, keys } = parts
  if (found.size === 0) return { orphans: [], isSure: true }
  const byIno = new Map<number, number[]>()
  let isSure = true
  for (const [id, nodes] of found) {
    const header = await headerOf(parts, id, nodes)
    if (header === null) {
      isSure = false
      continue
    }
    const { ino } = header.origin
    const list = byIno.get(ino)
    if (list === undefined) byIno.set(ino, [id])
    else list.push(id)
  }
  const orphans = new Set<number>()
  for (const [ino, ids] of byIno) {
    const named = await chunksOf(store, keys, ino).catch(() => null)
    if (named === null) {
      isSure = false
      continue
    }
    for (const id of ids) if (!named.has(id)) orphans.add(id)
  }
  // Afterwards: what ceases to be named is spoken of from that moment.
  if (orphans.size === 0) return { orphans: [], isSure }
  for (let p = 0; p < keys.partitions; p++) for (const id of await scanSpoken(store, keys, p)) orphans.delete(id)
  return { orphans: [...orphans], isSure }
}

async function headerOf(parts: SweepParts, id: number, nodes: readonly string[]): Promise<ListedHeader | null> {
  for (const node of nodes) {
    const found = await headOf(parts, node, id, chunkPosition(id) >>> BUCKET_BITS).catch(() => null)
    if (found?.header !== undefined) return found.header
  }
  return null
}
