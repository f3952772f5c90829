/**
 * A long chunk whose only owner is the node in this process is hashed by the job that writes it: one look at the bytes, one hop to a thread. What
 * comes of it otherwise is the business of ChunkWrite.
 */
import { codeOf, messageOf } from '../../base/errors.js'
import type { ChunkOrigin, ChunkNodeApi, ChunkWriteOptions, StoredTogether, UnhashedReply } from '../contract.js'
import { withDeadline } from '../deadline.js'
import { isNoAnswer } from '../node-health.js'
import { ownersAtHand } from './at-hand.js'
import type { ClientParts } from './options.js'

interface Alone {
  readonly id: string
  readonly put: NonNullable<ChunkNodeApi['putUnhashed']>
}

export interface StoredAlone extends StoredTogether {
  readonly leaves: Buffer
}

/**
 * null: it is not so, or it failed, and the data are as they were. Nobody else writes the data before it settles; what is left behind by then
 * stores nothing.
 */
export async function writeAlone(
  parts: ClientParts,
  chunkId: number,
  data: readonly Uint8Array[],
  origin: ChunkOrigin,
  options: ChunkWriteOptions,
): Promise<StoredAlone | null> {
  const alone = onlyOwner(parts, chunkId)
  if (alone === null) return null
  const { clock, health, counts, log } = parts
  const startMs = clock.monotonicMs()
  try {
    const { stored, epoch = 0, leaves } = await put(parts, alone, chunkId, data, origin, options)
    health.succeeded(alone.id, clock.monotonicMs() - startMs)
    return { stored, epoch, leaves }
  } catch (error) {
    if (isNoAnswer(codeOf(error))) health.failed(alone.id)
    counts.failures++
    log.debug({ chunk: chunkId, node: alone.id, err: messageOf(error) }, 'chunk not written here')
    return null
  }
}

function onlyOwner(parts: ClientParts, chunkId: number): Alone | null {
  const { localNode, writeQuorum } = parts
  if (localNode === undefined || writeQuorum > 1) return null
  const owners = ownersAtHand(parts, chunkId)
  const node = owners?.size === 1 ? owners.get(localNode) : undefined
  const put = node?.putUnhashed?.bind(node)
  return put === undefined ? null : { id: localNode, put }
}

async function put(
  { volume, placement, attemptMs, deadlineMs, clock }: ClientParts,
  alone: Alone,
  chunkId: number,
  data: readonly Uint8Array[],
  origin: ChunkOrigin,
  options: ChunkWriteOptions,
): Promise<UnhashedReply> {
  const { epoch } = placement.current().view
  const request = { volume, id: chunkId, origin, sync: options.sync, epoch }
  const ms = Math.max(1, Math.min(attemptMs, options.deadlineMs ?? deadlineMs))
  return await withDeadline(
    ms,
    (signal) => alone.put(request, data, { deadlineMs: ms, signal }),
    `put of chunk ${chunkId} to node ${alone.id}`,
    undefined,
    clock,
  )
}
