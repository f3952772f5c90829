/** What a disk that fails meanwhile answers: nothing of it is here. */
import { CHUNK_MAX_BYTES } from '../../base/limits.js'
import { PosixError } from '../../base/errno.js'
import { RingfsError, codeOf, messageOf } from '../../base/errors.js'
import type { ListReply, ListRequest } from '../contract.js'
import { rootOf } from '../hash.js'
import type { StoredRange } from './chunk-files.js'
import type { StoredChunk } from './disk.js'
import type { NodeDisk } from './node-disk.js'
import type { Space } from './space.js'
import type { ChunkStore } from './store.js'
import type { Verdict } from './tasks.js'
import { isUnreadable } from './unreadable.js'

/** A copy that is bad because its disk is dead is not here. */
export async function verdictOf(disk: NodeDisk, look: (store: ChunkStore) => Promise<Verdict>): Promise<Verdict> {
  try {
    const verdict = await disk.run(look)
    if (verdict.state !== 'bad') return verdict
    await disk.suspect(verdict.why)
    return disk.isUp ? verdict : { state: 'missing' }
  } catch (error) {
    if (disk.isUp) throw error
    return { state: 'missing' }
  }
}

/** `all`: those that were asked for, all of which are missing when the disk has failed. */
export async function lackedBy(
  disk: NodeDisk,
  ask: (store: ChunkStore) => Promise<readonly number[]>,
  all: readonly number[],
): Promise<readonly number[]> {
  try {
    const missing = await disk.run(ask)
    return disk.isUp ? missing : all
  } catch (error) {
    if (disk.isUp) throw error
    return all
  }
}

/** Errors: EIO also where folders cannot be listed since the disk has failed. */
export async function listedOn(disk: NodeDisk, request: ListRequest): Promise<ListReply> {
  const page = await disk.run((store) => store.list(request))
  if (page.gaps === undefined) return page
  await disk.suspect('folders of chunks cannot be listed')
  return await disk.run(() => Promise.resolve(page))
}

/** All of a chunk. `range` is lent. */
export interface WholeChunk extends StoredChunk {
  readonly range: StoredRange
}

/** Read and compared with its hashes. Errors: what the disk says. */
export async function goodChunkOn(disk: NodeDisk, id: number): Promise<WholeChunk | 'gone' | 'bad'> {
  const verdict = await disk.run((store) => store.verify(id))
  if (verdict.state !== 'good') return verdict.state === 'bad' ? 'bad' : 'gone'
  const range = await readChecked(disk, id)
  if (typeof range === 'string') return range
  const { origin, leaves, data, chunkLengthBytes } = range
  const root = rootOf(leaves)
  if (origin !== null && root.equals(verdict.root) && data.length === chunkLengthBytes)
    return { id, root, leaves, origin, range }
  range.release()
  return 'bad'
}

async function readChecked(disk: NodeDisk, id: number): Promise<StoredRange | 'gone' | 'bad'> {
  try {
    return await disk.run(
      (store) => store.read(id, 0, CHUNK_MAX_BYTES, true, true),
      ({ release }) => release(),
    )
  } catch (error) {
    if (codeOf(error) === 'CHUNK_MISSING') return 'gone'
    if (codeOf(error) === 'CHUNK_CORRUPT') return 'bad'
    throw error
  }
}

/** What a disk that works cannot read is a bad copy, as one that has rotted: who wants it tells, and it is replaced. */
export function badCopyOr(error: unknown, id: number): Error {
  if (!isUnreadable(error)) return toError(error)
  return new RingfsError('CHUNK_CORRUPT', `chunk ${id} cannot be read: ${messageOf(error)}`, { cause: error })
}

/** A node is full only when every disk that works is. */
export function notStored(failures: readonly Error[]): Error {
  const [first = noDisk()] = failures
  const full = failures.find((one) => codeOf(one) === 'ENOSPC')
  if (full !== undefined) return full
  return first instanceof RingfsError ? first : new PosixError('EIO', messageOf(first), { cause: first })
}

export function noDisk(): PosixError {
  return new PosixError('EIO', 'no disk of this node works')
}

export function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(messageOf(reason))
}

/** Folders of one file system count once. */
export function spaceOf(disks: readonly NodeDisk[]): Space {
  const all = [...new Map(disks.map((disk) => [disk.device, disk.space()])).values()]
  return {
    totalBytes: all.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
    freeBytes: all.reduce((sum, { freeBytes }) => sum + freeBytes, 0),
  }
}
