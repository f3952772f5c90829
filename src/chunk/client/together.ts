/**
 * A small chunk that must be on disk, and whose owners all work and are on this machine, is written to all of them in one go: no deadlines,
 * no attempts, no message. What comes of it otherwise is the business of ChunkWrite.
 */
import { SMALL_CHUNK_BYTES } from '../../base/limits.js'
import type { ChunkNodeApi, ChunkWriteOptions, PutRequest, StoredTogether, TogetherPut } from '../contract.js'
import { ownersAtHand } from './at-hand.js'
import type { ClientParts } from './options.js'
import { ChunkWrite, type HashedChunk } from './writer.js'

const NOWHERE: StoredTogether = { stored: [], epoch: 0 }

/** Errors: those of ChunkWrite. */
export async function writeChunk(
  parts: ClientParts,
  chunk: HashedChunk,
  lengthBytes: number,
  options: ChunkWriteOptions,
): Promise<void> {
  const maybe = options.sync && options.durability !== 'async' && lengthBytes <= SMALL_CHUNK_BYTES
  const together = maybe ? parts.together() : undefined
  const nodes = together === undefined ? null : ownersAtHand(parts, chunk.id)
  if (together === undefined || nodes === null) return await new ChunkWrite(parts, chunk, options).run()
  const { epoch } = parts.placement.current().view
  const done = await putTogether(parts, together, nodes, chunk, lengthBytes)
  // A node that knows a newer ring may have walked for it already.
  if (done.stored.length < nodes.size || done.epoch > epoch) await new ChunkWrite(parts, chunk, options, done).run()
}

/**
 * Whether a chunk that need not be on disk yet may as well be: all of its owners are on this machine, work, and have a quick disk. Three writes
 * into logs and their flushes take less than three messages.
 */
export function syncsAtOnce(parts: ClientParts, chunkId: number, lengthBytes: number): boolean {
  const together = lengthBytes <= SMALL_CHUNK_BYTES ? parts.together() : undefined
  const nodes = together === undefined ? null : ownersAtHand(parts, chunkId)
  return together !== undefined && nodes !== null && together.isQuick([...nodes.keys()], lengthBytes)
}

/** Which of them have it. */
async function putTogether(
  { volume, health, clock }: ClientParts,
  together: TogetherPut,
  nodes: ReadonlyMap<string, ChunkNodeApi>,
  { id, root, leaves, origin, data }: HashedChunk,
  lengthBytes: number,
): Promise<StoredTogether> {
  const startMs = clock.monotonicMs()
  const request: PutRequest = { volume, id, root, leaves, origin, sync: true, forward: [], copies: 1, absent: [] }
  const done = (await together.put([...nodes.keys()], request, data)) ?? NOWHERE
  const tookMs = clock.monotonicMs() - startMs
  for (const one of done.stored) {
    health.succeeded(one, tookMs)
    nodes.get(one)?.notePut?.(lengthBytes, tookMs)
  }
  return done
}
