/** What the nodes have, range by range of the ring. */
import { hasCode, messageOf } from '../base/errors.js'
import { CHUNK_BUCKETS, type ChunkNodeApi, type GetReply, type ListedChunk } from '../chunk/contract.js'
import { rootOf } from '../chunk/hash.js'
import type { ClusterView } from '../cluster/contract.js'

const LIST_DEADLINE_MS = 60_000
const LIST_PAGE = 10_000
/** Ranges that are compared one after the other: so much of all chunks is in memory at once. */
const RANGE_BUCKETS = 128

export interface NodesParts {
  /** Volume uuid. */
  readonly volume: string
  readonly view: () => ClusterView
  readonly node: (id: string) => ChunkNodeApi
  /** Default: those of the view. */
  readonly holders?: () => readonly string[]
  /** Disks that the node had and does not use now, in words; undefined: none. Default: what it reports of itself. */
  readonly lacking?: (id: string) => string | undefined
}

export interface RangeInventory {
  readonly fromBucket: number
  readonly toBucket: number
  /** Chunk -> nodes that have it. */
  readonly copies: ReadonlyMap<number, readonly string[]>
  /** With headers: what one of the copies says. */
  readonly headers: ReadonlyMap<number, ListedChunk>
}

/** All members that are to have chunks, those that are down included. */
export function holdersOf(view: ClusterView): readonly string[] {
  return view.members.filter(({ state }) => state !== 'gone').map(({ id }) => id)
}

export function nodesOf({ view, holders }: NodesParts): readonly string[] {
  return holders?.() ?? holdersOf(view())
}

/** Nodes that answer for some of their disks only: what is on the others nobody can tell. */
export function shortOfDisks(parts: NodesParts): ReadonlyMap<string, string> {
  const lacking = parts.lacking ?? ((id) => disksLacking(parts.view(), id))
  return new Map(
    nodesOf(parts).flatMap((id) => {
      const why = lacking(id)
      return why === undefined ? [] : [[id, why] as const]
    }),
  )
}

/** As the node reports it. */
export function disksLacking({ members }: ClusterView, id: string): string | undefined {
  const disks = members.find((member) => member.id === id)?.report?.disks ?? []
  const lacking = disks.flatMap(({ folder, state, unlistedWhy }) => {
    if (state !== 'up') return [`${folder} ${SAID[state]}`]
    return unlistedWhy === '' ? [] : [`${folder} cannot be listed all (${unlistedWhy})`]
  })
  return lacking.length === 0 ? undefined : lacking.join(', ')
}

const SAID = { failed: 'has failed', missing: 'is missing' } as const

/**
 * One range after the other. A node that does not answer is named in `away`, and not asked again; one that cannot list all that it has, in `short`:
 * what it tells is true, and there may be more.
 */
export async function* inventory(
  parts: NodesParts,
  headers: boolean,
  away: Map<string, string>,
  short: Map<string, string>,
): AsyncGenerator<RangeInventory> {
  for (let fromBucket = 0; fromBucket < CHUNK_BUCKETS; fromBucket += RANGE_BUCKETS) {
    const toBucket = Math.min(fromBucket + RANGE_BUCKETS, CHUNK_BUCKETS)
    const copies = new Map<number, string[]>()
    const found = new Map<number, ListedChunk>()
    const nodes = nodesOf(parts).filter((id) => !away.has(id))
    await Promise.all(
      nodes.map(async (id) => {
        try {
          const onGap = (): unknown => short.set(id, 'folders of chunks there cannot be listed')
          for (const chunk of await listRange(parts, id, { fromBucket, toBucket, headers, onGap })) {
            copies.set(chunk.id, [...(copies.get(chunk.id) ?? []), id])
            if (chunk.header !== undefined) found.set(chunk.id, chunk)
          }
        } catch (error) {
          away.set(id, messageOf(error))
        }
      }),
    )
    yield { fromBucket, toBucket, copies, headers: found }
  }
}

interface Range {
  readonly fromBucket: number
  readonly toBucket: number
  readonly headers: boolean
  /** The node cannot list all of it. */
  readonly onGap: () => void
}

async function listRange(
  { volume, node }: NodesParts,
  id: string,
  { fromBucket, toBucket, headers, onGap }: Range,
): Promise<ListedChunk[]> {
  const chunks: ListedChunk[] = []
  let from: { readonly bucket: number; readonly id: number } | null = { bucket: fromBucket, id: 0 }
  while (from !== null) {
    const range = { fromBucket: from.bucket, toBucket, fromId: from.id }
    const request = { volume, ...range, limit: LIST_PAGE, headers, withGaps: true }
    const page = await node(id).list(request, { deadlineMs: LIST_DEADLINE_MS })
    if (page.gaps !== undefined) onGap()
    chunks.push(...page.chunks)
    from = page.next
  }
  return chunks
}

/** Has the node this chunk now? Errors: those of the node. */
export async function headOf(
  parts: NodesParts,
  id: string,
  chunk: number,
  bucket: number,
): Promise<ListedChunk | null> {
  const request = {
    volume: parts.volume,
    fromBucket: bucket,
    toBucket: bucket + 1,
    fromId: chunk,
    limit: 1,
    headers: true,
    withGaps: true,
  }
  const { chunks, gaps } = await parts.node(id).list(request, { deadlineMs: LIST_DEADLINE_MS })
  const listed = chunks.find((one) => one.id === chunk)
  if (listed !== undefined || gaps === undefined) return listed ?? null
  return await headByName(parts, id, chunk)
}

/** Of one in a folder that cannot be listed. */
async function headByName({ volume, node }: NodesParts, id: string, chunk: number): Promise<ListedChunk | null> {
  const request = { volume, id: chunk, offset: 0, lengthBytes: 1, withOrigin: true }
  let reply: GetReply
  try {
    reply = await node(id).get(request, { deadlineMs: LIST_DEADLINE_MS })
  } catch (error) {
    if (hasCode(error, 'CHUNK_MISSING')) return null
    if (hasCode(error, 'CHUNK_CORRUPT')) return { id: chunk }
    throw error
  }
  const { chunkLengthBytes: lengthBytes, leaves, origin, release } = reply
  release()
  return origin === undefined ? { id: chunk } : { id: chunk, header: { lengthBytes, root: rootOf(leaves), origin } }
}
