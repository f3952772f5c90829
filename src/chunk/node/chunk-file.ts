/**
 * One chunk file: store, read, verify. Everything is synchronous: it runs in a worker (workers/disk.ts), or on the calling
 * thread for small chunks (store.ts decides).
 *
 * Invariants:
 * - What gets its final name is whole, and was compared with its hashes behind the write (or nobody else could have changed it since it was hashed; of a
 *   prepared file that is its writer's word): it is written under a temporary name and renamed at the end. It is not flushed: after a loss
 *   of power the name may be there without all of the bytes.
 * - A final name that holds a good chunk is never replaced: chunks are immutable.
 * - A bad copy keeps its name until a whole and verified one takes it: its other leaves may be the last good ones.
 * The caller sees to it that no two jobs on one id run at once.
 */
import { closeSync, existsSync, fstatSync, linkSync, openSync, readSync, renameSync, unlinkSync } from 'node:fs'
import { PosixError } from '../../base/errno.js'
import { HASH_BYTES, LEAF_BYTES } from '../../base/limits.js'
import { RingfsError, codeOf, hasCode, messageOf } from '../../base/errors.js'
import { invariant } from '../../base/invariant.js'
import { makeFolders } from '../../base/make-folders.js'
import { inPlace } from '../../base/thread-places.js'
import {
  PREFIX_PROBE_BYTES,
  decodePrefix,
  encodePrefix,
  prefixBytesOf,
  type ChunkHeader,
  type ChunkPrefix,
} from '../format.js'
import { firstBadLeaf, leafHashes, rootOf, sumBytes } from '../hash.js'
import { compact } from '../jobs.js'
import { readDirect, writeDirect } from './direct-file.js'
import type {
  ChunkLayout,
  HashStoreResult,
  HashStoreTask,
  KnownRange,
  PrepareResult,
  PrepareTask,
  ReadResult,
  ReadTask,
  StoreResult,
  StoreTask,
  TakeResult,
  TakeTask,
  Verdict,
  VerifyTask,
} from './tasks.js'
import { writeAll } from './write-all.js'
import { isUnreadable } from './unreadable.js'

/** Whole leaves that are read at once to be verified. */
const VERIFY_BYTES = 8 * LEAF_BYTES

type Range = Pick<ReadTask, 'offset' | 'lengthBytes'>
/** Where the data are in the file, and how long. */
type Place = Omit<ChunkLayout, 'leaves'>
type LeavesRead = Pick<ReadResult, 'firstLeaf' | 'dataBytes' | 'direct'>

/** Errors: RingfsError CHUNK_CORRUPT (data does not match its hashes), CHUNK_CONFLICT, or what the disk says. */
export function storeChunkFile(task: StoreTask): StoreResult {
  if (!rootOf(task.leaves).equals(task.root)) {
    throw new RingfsError('CHUNK_CORRUPT', `chunk ${task.id}: the leaf table does not match the root hash`)
  }
  return storeFile(task, () => verifyData(task))
}

/**
 * As storeChunkFile, of data that nobody has hashed yet. They are hashed once, before the write: as long as nobody had given them up when all was
 * written, nobody had changed them. Errors: CANCELLED (they were given up), CHUNK_CONFLICT, or what the disk says.
 */
export function hashAndStoreChunkFile(task: HashStoreTask): HashStoreResult {
  const { volume, id, origin, data } = task
  // Who has waited in line for a slow disk until nobody wants it must not keep the disk from the next.
  mustBeWanted(task)
  const leaves = inPlace(task.places, () => leafHashes(data))
  const root = rootOf(leaves)
  const prefix = encodePrefix({ volume, id, lengthBytes: sumBytes(data), root, origin }, leaves)
  const stored = storeFile({ ...task, root, prefix }, () => mustBeWanted(task))
  return { ...stored, leaves: compact(leaves), dataOffset: prefix.length }
}

function mustBeWanted({ id, givenUp }: HashStoreTask): void {
  if (Atomics.load(givenUp, 0) !== 0) throw new RingfsError('CANCELLED', `chunk ${id}: given up before it was written`)
}

/** `mayTakeName`: called when all is written; what it throws leaves nothing. */
function storeFile(task: TakeTask & PrepareTask, mayTakeName: () => void): StoreResult {
  const existing = existingCopy(task)
  if (existing === 'good') return { created: false, replacedBad: false, direct: false, writeUs: 0 }
  let written: PrepareResult
  try {
    written = timedWrite(task)
    mayTakeName()
    giveName(task, existing)
  } catch (error) {
    unlinkQuietly(task.temporary)
    throw error
  }
  return { created: true, replacedBad: existing === 'bad', ...written }
}

/** Writes the file of a chunk for another process. Errors: what the disk says; then there is none. */
export function prepareChunkFile(task: PrepareTask): PrepareResult {
  try {
    return timedWrite(task)
  } catch (error) {
    unlinkQuietly(task.temporary)
    throw error
  }
}

/**
 * Gives a prepared file its name. That its data match the hashes is its writer's word, as it has just computed them.
 * Errors: PosixError EINVAL (there is no such file, or it is not one of this chunk), CHUNK_CONFLICT, or what the disk says. The file is left then.
 */
export function takeChunkFile(task: TakeTask): TakeResult {
  const layout = layoutOfPrepared(task)
  const existing = existingCopy(task)
  if (existing === 'good') {
    unlinkQuietly(task.temporary)
    return { created: false, replacedBad: false, layout }
  }
  preparedIs(task, () => giveName(task, existing))
  return { created: true, replacedBad: existing === 'bad', layout }
}

function layoutOfPrepared(task: TakeTask): ChunkLayout {
  const { id, volume, temporary: file } = task
  return preparedIs(task, () =>
    withFile({ id, volume, file }, (fd) => {
      const { header, leaves, dataOffset } = checkedPrefix({ id, volume, file }, readStart(fd))
      const { lengthBytes, root } = header
      if (Buffer.compare(root, task.root) !== 0 || fstatSync(fd).size !== dataOffset + lengthBytes) {
        throw new RingfsError('CHUNK_CORRUPT', `what is prepared for chunk ${id} is not what it should be`)
      }
      return { lengthBytes, dataOffset, leaves: compact(leaves) }
    }),
  )
}

function preparedIs<T>(task: TakeTask, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!['CHUNK_MISSING', 'CHUNK_CORRUPT', 'ENOENT'].includes(codeOf(error))) throw error
    throw new PosixError('EINVAL', `chunk ${task.id} cannot be taken: ${messageOf(error)}`)
  }
}

/**
 * After the write, not before: the memory is shared, and its owner may have given up waiting and used it again. What matches still
 * was right when it was written, unless other bytes came and these came back meanwhile: then it is a bad copy as any other, which
 * readers find.
 */
function verifyData(task: StoreTask): void {
  const bad = firstBadLeaf(task.data, task.leaves, 0)
  if (bad >= 0) throw new RingfsError('CHUNK_CORRUPT', `chunk ${task.id}: leaf ${bad} does not match its hash`)
}

/** A put may be repeated. A bad copy in the way (after a loss of power, say) does not count. */
function existingCopy(task: TakeTask): 'none' | 'good' | 'bad' {
  if (!existsSync(task.file)) return 'none'
  const verdict = verifyChunkFile(task)
  if (verdict.state === 'missing') return 'none'
  if (verdict.state === 'bad') return 'bad'
  if (Buffer.compare(verdict.root, task.root) === 0) return 'good'
  throw new RingfsError('CHUNK_CONFLICT', `chunk ${task.id} exists already with other contents`)
}

function timedWrite(task: PrepareTask): PrepareResult {
  const startMs = performance.now()
  const direct = writeTemporary(task)
  return { direct, writeUs: (performance.now() - startMs) * 1000 }
}

/** true: past the page cache. */
function writeTemporary(task: PrepareTask): boolean {
  if (task.direct) {
    if (writeDirect(task.temporary, task.prefix, task.data)) return true
    unlinkQuietly(task.temporary)
  }
  writeThroughCache(task)
  return false
}

function writeThroughCache(task: PrepareTask): void {
  const fd = openSync(task.temporary, 'wx', 0o600)
  try {
    writeAll(fd, [task.prefix, ...task.data])
  } finally {
    closeSync(fd)
  }
}

function giveName(task: TakeTask, existing: 'none' | 'bad'): void {
  if (existing === 'bad') keepAside(task)
  renameIntoFolder(task)
}

/** Under both names until the new one takes its own, where the disk has links. */
function keepAside({ file, quarantine }: TakeTask): void {
  try {
    linkSync(file, quarantine)
  } catch {
    renameSync(file, quarantine)
  }
}

function renameIntoFolder(task: TakeTask): void {
  try {
    renameSync(task.temporary, task.file)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
    makeFolders(task.folder, 0o700)
    renameSync(task.temporary, task.file)
  }
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // It was never made, or the disk refuses everything now: the next start empties the folder.
  }
}

/**
 * Whole leaves that cover the range. The data is not verified here: the reader does that.
 * Errors: RingfsError CHUNK_MISSING, CHUNK_CORRUPT (header bad, file too short), or what the disk says.
 */
function readRange(task: ReadTask): Omit<ReadResult, 'readUs'> {
  const { known, withOrigin } = task
  if (known !== null && !withOrigin) {
    const read = readPastCache(task, known) ?? withFile(task, (fd) => readLeaves(fd, task, known, null))
    return { ...read, layout: null, origin: null }
  }
  return withFile(task, (fd) => {
    const start = readStart(fd)
    const { header, leaves, dataOffset } = checkedPrefix(task, start)
    const layout = { lengthBytes: header.lengthBytes, dataOffset, leaves }
    const read = readPastCache(task, layout) ?? readLeaves(fd, task, layout, start)
    return { ...read, layout, origin: withOrigin ? header.origin : null }
  })
}

/** As readRange; with `check` the data match the leaf table: hashed while they are in the processor's cache. */
export function readChecked(task: ReadTask): ReadResult {
  const startMs = performance.now()
  const result = { ...readRange(task), readUs: (performance.now() - startMs) * 1000 }
  if (!task.check) return result
  const hashes = result.layout === null ? task.known?.hashes : hashesOf(result.layout, task)
  const bad = firstBadLeaf([task.into.subarray(0, result.dataBytes)], hashes ?? new Uint8Array(), 0)
  if (bad < 0) return result
  throw new RingfsError('CHUNK_CORRUPT', `chunk ${task.id}: leaf ${result.firstLeaf + bad} does not match its hash`)
}

/** What a job needs of a layout: the hashes of 1 MiB are a quarter of the longest table. */
export function knownRange(layout: ChunkLayout, range: Range, check: boolean): KnownRange {
  const { lengthBytes, dataOffset } = layout
  return { lengthBytes, dataOffset, hashes: check ? compact(hashesOf(layout, range)) : new Uint8Array() }
}

function hashesOf({ leaves, lengthBytes }: ChunkLayout, range: Range): Uint8Array {
  const { firstLeaf, to } = leafSpan(range.offset, range.lengthBytes, lengthBytes)
  return leaves.subarray(firstLeaf * HASH_BYTES, Math.ceil(to / LEAF_BYTES) * HASH_BYTES)
}

/** null: not asked for, or it cannot be done. */
function readPastCache(task: ReadTask, place: Place): LeavesRead | null {
  if (!task.direct) return null
  const { firstLeaf, from, to } = leafSpan(task.offset, task.lengthBytes, place.lengthBytes)
  const into = task.into.subarray(0, to - from)
  const got = missingIs(task, () => readDirect(task.file, place.dataOffset + from, into))
  if (got === null) return null
  if (got < into.length) throw new RingfsError('CHUNK_CORRUPT', `chunk ${task.id}: the file is too short`)
  return { firstLeaf, dataBytes: into.length, direct: true }
}

function withFile<T>(task: VerifyTask, work: (fd: number) => T): T {
  const fd = missingIs(task, () => openSync(task.file, 'r'))
  try {
    return work(fd)
  } finally {
    closeSync(fd)
  }
}

/** Errors: RingfsError CHUNK_MISSING where the file is not there. */
function missingIs<T>(task: VerifyTask, open: () => T): T {
  try {
    return open()
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw new RingfsError('CHUNK_MISSING', `chunk ${task.id} is not here`)
    throw error
  }
}

/** The start of the file: all of the prefix, and of a small chunk usually the data too. */
function readStart(fd: number): Buffer {
  const probe = readUpTo(fd, 0, PREFIX_PROBE_BYTES)
  const prefixBytes = prefixBytesOf(probe)
  return prefixBytes <= probe.length ? probe : readUpTo(fd, 0, prefixBytes)
}

function checkedPrefix(task: VerifyTask, start: Buffer): ChunkPrefix {
  const prefix = decodePrefix(start)
  if (prefix.header.id !== task.id || prefix.header.volume !== task.volume) {
    const { id, volume } = prefix.header
    throw new RingfsError('CHUNK_CORRUPT', `file of chunk ${task.id} holds chunk ${id} of volume ${volume}`)
  }
  return prefix
}

/** `start`: what was read of the file already. Errors: RingfsError CHUNK_CORRUPT, or what the disk says. */
export function readLeaves(
  fd: number,
  task: Range & Pick<ReadTask, 'id' | 'into'>,
  place: Place,
  start: Buffer | null,
): LeavesRead {
  const { firstLeaf, from, to } = leafSpan(task.offset, task.lengthBytes, place.lengthBytes)
  const into = task.into.subarray(0, to - from)
  invariant(into.length === to - from, 'the leaves of the range fit')
  if (start !== null && place.dataOffset + to <= start.length) {
    into.set(start.subarray(place.dataOffset + from, place.dataOffset + to))
  } else if (readInto(fd, place.dataOffset + from, into) < into.length) {
    throw new RingfsError('CHUNK_CORRUPT', `chunk ${task.id}: the file is too short`)
  }
  return { firstLeaf, dataBytes: into.length, direct: false }
}

/** Bytes [from, to) of a chunk: the whole leaves that cover the range, at least one. */
export function leafSpan(
  offset: number,
  lengthBytes: number,
  chunkLengthBytes: number,
): { readonly firstLeaf: number; readonly from: number; readonly to: number } {
  const end = Math.min(offset + lengthBytes, chunkLengthBytes)
  const firstLeaf = Math.floor(Math.min(offset, chunkLengthBytes - 1) / LEAF_BYTES)
  const to = Math.min(Math.max(Math.ceil(end / LEAF_BYTES), firstLeaf + 1) * LEAF_BYTES, chunkLengthBytes)
  return { firstLeaf, from: firstLeaf * LEAF_BYTES, to }
}

/** Short only at the end of the file. */
function readUpTo(fd: number, position: number, lengthBytes: number): Buffer {
  const out = Buffer.allocUnsafe(lengthBytes)
  return out.subarray(0, readInto(fd, position, out))
}

/** Answers how many bytes there were: fewer than fit only at the end of the file. */
export function readInto(fd: number, position: number, out: Uint8Array): number {
  let got = 0
  while (got < out.length) {
    const count = readSync(fd, out, got, out.length - got, position + got)
    if (count === 0) break
    got += count
  }
  return got
}

/** Errors: RingfsError CHUNK_MISSING, CHUNK_CORRUPT, or what the disk says. */
export function readHeader(task: VerifyTask): ChunkHeader {
  return withFile(task, (fd) => checkedPrefix(task, readStart(fd)).header)
}

/** Reads and hashes all of it. Errors: only what the disk says; a bad copy is a verdict. */
export function verifyChunkFile(task: VerifyTask): Verdict {
  let root: Buffer | null = null
  try {
    return withFile(task, (fd) => {
      const prefix = checkedPrefix(task, readStart(fd))
      root = prefix.header.root
      return verifyBody(fd, prefix)
    })
  } catch (error) {
    if (hasCode(error, 'CHUNK_MISSING')) return { state: 'missing' }
    if (hasCode(error, 'CHUNK_CORRUPT')) return { state: 'bad', root, why: messageOf(error) }
    // This copy is lost, and others are not.
    if (isUnreadable(error)) return { state: 'bad', root, why: messageOf(error) }
    throw error
  }
}

function verifyBody(fd: number, prefix: ChunkPrefix): Verdict {
  const { header, leaves, dataOffset } = prefix
  const bad = (why: string): Verdict => ({ state: 'bad', root: header.root, why })
  const { size } = fstatSync(fd)
  if (size !== dataOffset + header.lengthBytes) return bad(`the file has ${size} bytes`)
  const memory = Buffer.allocUnsafe(Math.min(VERIFY_BYTES, header.lengthBytes))
  for (let from = 0; from < header.lengthBytes; from += VERIFY_BYTES) {
    const data = memory.subarray(0, header.lengthBytes - from)
    const got = readInto(fd, dataOffset + from, data)
    if (got < data.length) return bad('the file became shorter')
    const leaf = firstBadLeaf([data], leaves, from / LEAF_BYTES)
    if (leaf >= 0) return bad(`leaf ${leaf} does not match its hash`)
  }
  return { state: 'good', root: header.root }
}
