/**
 * The metadata against the chunks on the nodes, while others write and delete.
 *
 * Missing is a chunk only if every node answered that it does not have it, and afterwards its window still names it: a chunk that
 * is named no more is never named again, so it was named when the nodes were asked. Too few copies are counted the same way. It is lost
 * only if no node and no disk was away, and no folder of one could not be listed: these may have it.
 *
 * An orphan is a chunk that the pass over the metadata did not meet and that a node has, only if afterwards the file that it was written for
 * does not name it (it was committed meanwhile), then nobody speaks of it (it ceased to be named meanwhile), and then a node has it still (the
 * janitor deleted it meanwhile): in this order, in which a chunk goes from one to the next. What nobody tells counts against that.
 */
import { CHUNK_MAX_BYTES } from '../base/limits.js'
import { messageOf } from '../base/errors.js'
import type { ListedChunk } from '../chunk/contract.js'
import { firstBadLeaf, rootOf } from '../chunk/hash.js'
import type { RedisStore, RingContract } from '../cluster/contract.js'
import { chunkPosition } from '../cluster/ring.js'
import type { VolumeKeys } from '../meta/keys.js'
import { chunksOf, isNamed, scanSpoken } from '../meta/scan.js'
import type { ChunkUse } from './tree.js'
import { headOf, holdersOf, inventory, shortOfDisks, type NodesParts } from './nodes.js'

const GET_DEADLINE_MS = 30_000
const BUCKET_BITS = 20
const AT_ONCE = 16

export interface ChunkProblem {
  readonly chunk: number
  readonly use: ChunkUse
  readonly kind: 'missing-chunk' | 'few-copies' | 'bad-copy'
  /** Nodes that have it, as far as known good. */
  readonly on: readonly string[]
  /** Owners that should have it, or nodes whose copy is bad. */
  readonly nodes: readonly string[]
  readonly why?: string
}

export interface ChunksResult {
  readonly problems: readonly ChunkProblem[]
  /** Chunks that nothing names, and of which nobody speaks: where they are. */
  readonly orphans: ReadonlyMap<number, readonly string[]>
  readonly copies: number
  readonly away: ReadonlyMap<string, string>
  /** Nodes that answered for some of their disks only, or cannot list all that they have, with why: they may have what is missing. */
  readonly short: ReadonlyMap<string, string>
}

export interface ChunksParts extends NodesParts {
  readonly store: RedisStore
  readonly keys: VolumeKeys
  readonly ring: () => RingContract
  readonly replicas: number
  /** true: every copy is read and hashed, here. */
  readonly deep: boolean
  readonly onProgress: (done: number, all: number) => void
}

export async function checkChunks(parts: ChunksParts, uses: ReadonlyMap<number, ChunkUse>): Promise<ChunksResult> {
  const away = new Map<string, string>()
  const problems: ChunkProblem[] = []
  const orphans = new Map<number, readonly string[]>()
  const byBucket = inBuckets(uses)
  const few: [number, ChunkUse][] = []
  // Before and afterwards: a disk may come back, or fail, while its node is asked.
  const short = new Map(shortOfDisks(parts))
  let copies = 0
  for await (const { fromBucket, toBucket, copies: here } of inventory(parts, false, away, short)) {
    for (let bucket = fromBucket; bucket < toBucket; bucket++) {
      for (const chunk of byBucket.get(bucket) ?? []) {
        const use = uses.get(chunk)
        if (use === undefined) continue
        if (owing(parts, chunk, here.get(chunk) ?? [], away).length > 0) few.push([chunk, use])
      }
    }
    const deep: [number, string, ChunkUse][] = []
    for (const [chunk, nodes] of here) {
      copies += nodes.length
      const use = uses.get(chunk)
      if (use === undefined) orphans.set(chunk, nodes)
      else if (parts.deep) deep.push(...nodes.map((node): [number, string, ChunkUse] => [chunk, node, use]))
    }
    await inLanes(deep, async ([chunk, node, use]) => {
      const why = await badCopy(parts, chunk, node)
      if (why !== null) problems.push({ kind: 'bad-copy', chunk, use, on: [], nodes: [node], why })
    })
    parts.onProgress(toBucket, 4096)
  }
  await inLanes(few, async ([chunk, use]) => {
    const problem = await lookAgain(parts, chunk, use, away)
    if (problem !== null) problems.push(problem)
  })
  await withoutNamed(parts, orphans, away)
  await withoutSpoken(parts, orphans)
  await withoutGone(parts, orphans, away)
  return { problems, orphans, copies, away, short: new Map([...short, ...shortOfDisks(parts)]) }
}

function bucketOf(chunk: number): number {
  return chunkPosition(chunk) >>> BUCKET_BITS
}

function inBuckets(uses: ReadonlyMap<number, ChunkUse>): Map<number, number[]> {
  const buckets = new Map<number, number[]>()
  for (const chunk of uses.keys()) {
    const list = buckets.get(bucketOf(chunk))
    if (list === undefined) buckets.set(bucketOf(chunk), [chunk])
    else list.push(chunk)
  }
  return buckets
}

/** Owners that answer and do not have it; [''] where nobody at all has it. */
function owing(
  { ring, replicas }: ChunksParts,
  chunk: number,
  on: readonly string[],
  away: ReadonlyMap<string, string>,
): readonly string[] {
  const owners = ring().owners(chunk, replicas)
  const lacking = owners.filter((id) => !on.includes(id) && !away.has(id))
  return lacking.length === 0 && on.length === 0 ? [''] : lacking
}

/** The nodes first, then the window. null: nothing is wrong with it, or any more. */
async function lookAgain(
  parts: ChunksParts,
  chunk: number,
  use: ChunkUse,
  away: Map<string, string>,
): Promise<ChunkProblem | null> {
  const on: string[] = []
  await Promise.all(
    holdersOf(parts.view())
      .filter((id) => !away.has(id))
      .map(async (id) => {
        try {
          if ((await headOf(parts, id, chunk, bucketOf(chunk))) !== null) on.push(id)
        } catch (error) {
          away.set(id, messageOf(error))
        }
      }),
  )
  const nodes = owing(parts, chunk, on, away).filter((id) => id !== '')
  if (on.length > 0 && nodes.length === 0) return null
  if (!(await isNamed(parts.store, parts.keys, use.ino, use.window, chunk))) return null
  return { kind: on.length === 0 ? 'missing-chunk' : 'few-copies', chunk, use, on, nodes }
}

/** Why the copy is bad; null: it is good, or gone. */
async function badCopy({ volume, node }: ChunksParts, chunk: number, id: string): Promise<string | null> {
  const request = { volume, id: chunk, offset: 0, lengthBytes: CHUNK_MAX_BYTES }
  try {
    const { data, leaves, release } = await node(id).get(request, { deadlineMs: GET_DEADLINE_MS })
    try {
      const bad = firstBadLeaf([data], leaves, 0)
      return bad < 0
        ? null
        : `leaf ${bad} does not match its hash (root ${rootOf(leaves).toString('hex').slice(0, 12)})`
    } finally {
      release()
    }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    return code === 'CHUNK_CORRUPT' ? messageOf(error) : null
  }
}

type Orphans = Map<number, readonly string[]>

/** What came to be named by the file that it was written for. */
async function withoutNamed(parts: ChunksParts, orphans: Orphans, away: Map<string, string>): Promise<void> {
  const byIno = new Map<number, number[]>()
  await inLanes([...orphans], async ([chunk, nodes]) => {
    const ino = (await firstHead(parts, chunk, nodes, away))?.header?.origin.ino
    if (ino === undefined) return
    const list = byIno.get(ino)
    if (list === undefined) byIno.set(ino, [chunk])
    else list.push(chunk)
  })
  await inLanes([...byIno], async ([ino, chunks]) => {
    const named = await chunksOf(parts.store, parts.keys, ino).catch(() => null)
    for (const chunk of chunks) if (named?.has(chunk) === true) orphans.delete(chunk)
  })
}

/** What the janitor has still to look at, and what is cloned. */
async function withoutSpoken({ store, keys }: ChunksParts, orphans: Orphans): Promise<void> {
  if (orphans.size === 0) return
  for (let p = 0; p < keys.partitions; p++) for (const chunk of await scanSpoken(store, keys, p)) orphans.delete(chunk)
}

/** What was deleted meanwhile. */
async function withoutGone(parts: ChunksParts, orphans: Orphans, away: Map<string, string>): Promise<void> {
  await inLanes([...orphans], async ([chunk, nodes]) => {
    if ((await firstHead(parts, chunk, nodes, away)) === null) orphans.delete(chunk)
  })
}

/** What the first node tells that has it now; null: none of them has it, undefined: one that may does not answer, and is not asked again. */
async function firstHead(
  parts: ChunksParts,
  chunk: number,
  nodes: readonly string[],
  away: Map<string, string>,
): Promise<ListedChunk | null | undefined> {
  for (const id of nodes.filter((one) => !away.has(one))) {
    try {
      const head = await headOf(parts, id, chunk, bucketOf(chunk))
      if (head !== null) return head
    } catch (error) {
      away.set(id, messageOf(error))
    }
  }
  return nodes.some((id) => away.has(id)) ? undefined : null
}

async function inLanes<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values()
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of rest) await work(item)
    }),
  )
}
