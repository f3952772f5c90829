/** Are the chunks still there, and is any copy of each good? */
import { CHUNK_MAX_BYTES, MIB } from '../../base/limits.js'
import type { NodesParts } from '../nodes.js'
import type { Looked, RestoreParts } from './restore-file.js'
import type { LostChunk } from './survey.js'

const DEADLINE_MS = 60_000
const ASK_IDS = 1000
/** Read and hashed by a node in one call. */
const VERIFY_IDS = (64 * MIB) / CHUNK_MAX_BYTES

/** A node that does not answer says nothing of its copies: they count as good. */
export function lookAt(parts: NodesParts & { readonly deep: boolean }): RestoreParts['look'] {
  return async (chunks): Promise<Looked> => {
    const gone = await lackedByAll(parts, chunks, false)
    if (!parts.deep) return { gone, bad: new Set() }
    const there = chunks.filter(({ id }) => !gone.has(id))
    return { gone, bad: await lackedByAll(parts, there, true) }
  }
}

async function lackedByAll(
  { volume, node }: NodesParts,
  chunks: readonly LostChunk[],
  verify: boolean,
): Promise<ReadonlySet<number>> {
  const byNode = new Map<string, number[]>()
  for (const { id, nodes } of chunks) {
    for (const one of nodes) {
      const list = byNode.get(one)
      if (list === undefined) byNode.set(one, [id])
      else list.push(id)
    }
  }
  const had = new Map(chunks.map(({ id, nodes }) => [id, nodes.length]))
  const step = verify ? VERIFY_IDS : ASK_IDS
  await Promise.all(
    [...byNode].map(async ([id, ids]) => {
      for (let at = 0; at < ids.length; at += step) {
        const request = { volume, ids: ids.slice(at, at + step), verify }
        const lacking = await node(id)
          .lacks(request, { deadlineMs: DEADLINE_MS })
          .catch(() => [])
        for (const chunk of lacking) had.set(chunk, (had.get(chunk) ?? 0) - 1)
      }
    }),
  )
  return new Set([...had].filter(([, count]) => count <= 0).map(([id]) => id))
}
