/**
 * What lies in the folders of a node, in the order of the ring. Synchronous: it runs in a worker.
 *
 * A page ends after so many chunks, bytes of headers or folders, so that no call takes long, however many chunks there are.
 *
 * Invariant: who gets a list that lacks a folder knows it, and which: what is not on it is not known to be absent.
 */
import { codeOf } from '../../base/errors.js'
import { statSync } from 'node:fs'
import { KIB } from '../../base/limits.js'
import { CHUNK_BUCKETS, type ChunkOrigin, type ListedChunk, type ListReply, type ListRequest } from '../contract.js'
import { decodePrefix, type ChunkHeader } from '../format.js'
import { asBuffer } from '../jobs.js'
import { BucketFolders, isUnlisted, type UnlistedBucket } from './bucket-folders.js'
import { readHeader } from './chunk-file.js'
import type { JournalChunk } from './journal.js'
import { ChunkPaths, bucketOf, idOfFile } from './paths.js'
import type { CountResult, CountTask, ListResult, ListTask } from './tasks.js'
import { isUnlistable } from './unreadable.js'

const IDS_MAX = 16_384
/** Each is a file that is opened and read. */
const HEADERS_MAX = 256
const HEADERS_MAX_BYTES = 384 * KIB
const EXTENT_BYTES = 32
const ORDER_BYTES = 12
const HEADER_BYTES = 96
const FOLDERS_MAX = 512

/** Errors: what the disk says; a file whose header is bad is listed without one, a folder that cannot be listed is told. */
export function listChunks(task: ListTask): ListResult {
  const paths = new ChunkPaths(task.folder)
  const folders = new BucketFolders(task.folder)
  const page = new Page(task)
  const unlisted: UnlistedBucket[] = []
  const end = Math.min(task.toBucket, task.fromBucket + FOLDERS_MAX)
  for (let bucket = task.fromBucket; bucket < end; bucket++) {
    const names = folders.namesIn(bucket)
    if (isUnlisted(names)) {
      unlisted.push(names)
      continue
    }
    const from = bucket === task.fromBucket ? task.fromId : 0
    for (const id of idsOf(names).filter((id) => id >= from)) {
      if (page.isFull) return { chunks: page.chunks, next: { bucket, id }, unlisted }
      page.add(id, task.headers ? headerOf(task, paths, id) : undefined)
    }
  }
  return { chunks: page.chunks, next: end < task.toBucket ? { bucket: end, id: 0 } : null, unlisted }
}

/** Errors: what the disk says. */
export function countChunks({ folder }: CountTask): CountResult {
  const folders = new BucketFolders(folder)
  const unlisted: UnlistedBucket[] = []
  let chunks = 0
  for (let bucket = 0; bucket < CHUNK_BUCKETS; bucket++) {
    const names = folders.namesIn(bucket)
    if (isUnlisted(names)) unlisted.push(names)
    else chunks += names.length
  }
  return { chunks, unlisted }
}

export interface ChangedTask {
  readonly folder: string
  readonly bucket: number
  /** Ms since 1970. */
  readonly sinceMs: number
}

export interface ChangedFile {
  readonly id: number
  /** Of its last change, ms since 1970. Infinity: the disk does not say. */
  readonly ms: number
}

/** The chunk files of the bucket that were changed since then; null: they cannot be listed. Errors: what the disk says. */
export function changedFiles({ folder, bucket, sinceMs }: ChangedTask): readonly ChangedFile[] | null {
  const paths = new ChunkPaths(folder)
  const names = new BucketFolders(folder).namesIn(bucket)
  if (isUnlisted(names)) return null
  const changed: ChangedFile[] = []
  for (const id of idsOf(names)) {
    const ms = changedMs(paths.fileOf(id))
    if (ms !== undefined && ms >= sinceMs) changed.push({ id, ms })
  }
  return changed
}

/** undefined: it has gone. */
function changedMs(file: string): number | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false })?.ctimeMs
  } catch (error) {
    if (isUnlistable(error)) return Infinity
    throw error
  }
}

class Page {
  readonly chunks: ListedChunk[] = []
  readonly #max: number
  #bytes = 0

  constructor({ headers, limit }: ListTask) {
    this.#max = Math.min(limit, headers ? HEADERS_MAX : IDS_MAX)
  }

  get isFull(): boolean {
    return this.chunks.length >= this.#max || this.#bytes >= HEADERS_MAX_BYTES
  }

  /** `header` null: the file is gone. */
  add(id: number, header: ChunkHeader | 'bad' | null | undefined): void {
    if (header === null) return
    if (header === undefined || header === 'bad') this.chunks.push({ id })
    else {
      this.chunks.push(listed(id, header))
      this.#bytes += bytesOf(header.origin)
    }
  }
}

function listed(id: number, { lengthBytes, root, origin }: ChunkHeader): ListedChunk {
  return { id, header: { lengthBytes, root, origin } }
}

function idsOf(names: readonly string[]): number[] {
  return names.flatMap((name) => idOfFile(name) ?? []).sort((a, b) => a - b)
}

function headerOf({ volume }: ListTask, paths: ChunkPaths, id: number): ChunkHeader | 'bad' | null {
  try {
    return readHeader({ file: paths.fileOf(id), volume, id })
  } catch (error) {
    return codeOf(error) === 'CHUNK_MISSING' ? null : 'bad'
  }
}

/** A page with the chunks that have no file yet, in their places. */
export function withKept(page: ListReply, request: ListRequest, kept: readonly JournalChunk[]): ListReply {
  const { fromBucket, toBucket, fromId, headers } = request
  const from = { bucket: fromBucket, id: fromId }
  const to = page.next ?? { bucket: toBucket, id: 0 }
  const known = new Set(page.chunks.map(({ id }) => id))
  const extra = kept
    .filter(({ id }) => !known.has(id) && !isBefore(placeOf(id), from) && isBefore(placeOf(id), to))
    .map(({ id, file }) => (headers ? listed(id, decodePrefix(file).header) : { id }))
  const all = [...page.chunks.map(withBuffer), ...extra].map((chunk) => ({ chunk, place: placeOf(chunk.id) }))
  if (extra.length > 0) all.sort((a, b) => (isBefore(a.place, b.place) ? -1 : 1))
  const full = cutOf(all.map(({ chunk }) => chunk))
  const cut = full < 0 ? all.length : full
  return { ...page, chunks: all.slice(0, cut).map(({ chunk }) => chunk), next: all[cut]?.place ?? page.next }
}

/** One page of several disks, each chunk once, as far as all of them have looked. A gap may be told again with the next page. */
export function mergePages(pages: readonly ListReply[], request: ListRequest): ListReply {
  const [only] = pages
  if (only !== undefined && pages.length === 1) return only
  const ends = pages.flatMap(({ next }) => next ?? [])
  const end = ends.reduce<Place | null>((first, one) => (first === null || isBefore(one, first) ? one : first), null)
  const byId = new Map<number, ListedChunk>()
  // Of two copies the one with a good header tells more.
  for (const chunk of pages.flatMap(({ chunks }) => chunks)) {
    if (byId.get(chunk.id)?.header === undefined) byId.set(chunk.id, chunk)
  }
  const all = [...byId.values()].map((chunk) => ({ chunk, place: placeOf(chunk.id) }))
  const seen = end === null ? all : all.filter(({ place }) => isBefore(place, end))
  seen.sort((a, b) => (isBefore(a.place, b.place) ? -1 : 1))
  const full = cutOf(seen.map(({ chunk }) => chunk))
  const max = Math.min(request.limit, request.headers ? HEADERS_MAX : IDS_MAX)
  const cut = Math.min(full < 0 ? seen.length : full, max)
  const gaps = [...new Set(pages.flatMap((page) => page.gaps ?? []))].sort((a, b) => a - b)
  return {
    chunks: seen.slice(0, cut).map(({ chunk }) => chunk),
    next: seen[cut]?.place ?? end,
    ...(gaps.length > 0 ? { gaps } : {}),
  }
}

/** How many of them make a page that fits into a frame; -1: all. */
function cutOf(chunks: readonly ListedChunk[]): number {
  let bytes = 0
  return chunks.findIndex(({ header }) => {
    const isFull = bytes >= HEADERS_MAX_BYTES
    if (header !== undefined) bytes += bytesOf(header.origin)
    return isFull
  })
}

function bytesOf({ extents, orders = [] }: ChunkOrigin): number {
  return HEADER_BYTES + EXTENT_BYTES * extents.length + ORDER_BYTES * orders.length
}

interface Place {
  readonly bucket: number
  readonly id: number
}

function placeOf(id: number): Place {
  return { bucket: bucketOf(id), id }
}

function isBefore(a: Place, b: Place): boolean {
  return a.bucket < b.bucket || (a.bucket === b.bucket && a.id < b.id)
}

/** What comes from a worker has lost that it is a Buffer. */
function withBuffer(chunk: ListedChunk): ListedChunk {
  const { id, header } = chunk
  return header === undefined ? chunk : { id, header: { ...header, root: asBuffer(header.root) } }
}
