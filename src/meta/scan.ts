/**
 * Reading all of a volume's metadata as it lies in Redis, without a session: for checks. Others may change it meanwhile: what
 * stays throughout is met, what comes or goes may be or not.
 */
import { WINDOW_BYTES } from '../base/limits.js'
import type { RedisStore, RedisValue } from '../cluster/contract.js'
import { arrayOf, numberOf, textOf } from '../cluster/reply.js'
import type { Extent } from './contract.js'
import type { PartitionKeys, VolumeKeys } from './keys.js'
import { decodeClaim, decodeDirent, decodeExtents, decodeInode, TAIL_EXTENTS, type Inode } from './records.js'
import { SCRIPTS } from './scripts.js'

const PAGE = 500
const KEYS_AT_ONCE = 64
const LIST_PAGE = 500
const GENERATION_BYTES = 4
/** The access time in an inode record: whoever reads changes it. */
const ATIME_FROM = 34
const ATIME_TO = 43

/** Called for what is found, each thing once. */
export interface ScanVisitor {
  inode(ino: number, inode: Inode): void
  /** A record, body or extent map that cannot be read. */
  unreadable(ino: number, what: string, error: unknown): void
  body(ino: number, bytes: Buffer): void
  name(parent: number, name: Buffer, ino: number, isDirectory: boolean): void
  extents(ino: number, window: number, extents: readonly Extent[]): void
}

export async function scanPartition(
  store: RedisStore,
  keys: VolumeKeys,
  p: number,
  visitor: ScanVisitor,
): Promise<void> {
  const partition = keys.partition(p)
  const seen = new Set<string>()
  for await (const page of hashPages(store, partition.inodes)) {
    const found: [number, Inode][] = []
    for (const [field, value] of page) {
      if (seen.has(field)) continue
      seen.add(field)
      if (field.startsWith('b')) visitor.body(Number(field.slice(1)), value)
      else {
        const inode = readInode(Number(field), value, visitor)
        if (inode !== undefined) found.push([Number(field), inode])
      }
    }
    for (let at = 0; at < found.length; at += KEYS_AT_ONCE) {
      await Promise.all(found.slice(at, at + KEYS_AT_ONCE).map((one) => scanInode(store, partition, one, visitor)))
    }
  }
}

function readInode(ino: number, record: Buffer, visitor: ScanVisitor): Inode | undefined {
  try {
    const inode = decodeInode(ino, record)
    visitor.inode(ino, inode)
    return inode
  } catch (error) {
    visitor.unreadable(ino, 'record', error)
    return undefined
  }
}

async function scanInode(
  store: RedisStore,
  keys: PartitionKeys,
  [ino, inode]: [number, Inode],
  visitor: ScanVisitor,
): Promise<void> {
  if (inode.attr.type === 'directory') await scanNames(store, keys, ino, visitor)
  if (inode.attr.type !== 'file') return
  if (inode.tailKind === TAIL_EXTENTS) giveExtents(ino, 0, inode.tail, visitor)
  if (!inode.hasWindows) return
  for (const window of arrayOf(await store.call('ZRANGE', keys.windows(ino), 0, -1), 'ZRANGE')) {
    const number = numberOf(window, 'ZRANGE')
    const blob = await store.call('GET', keys.extents(ino, number))
    if (Buffer.isBuffer(blob)) giveExtents(ino, number, blob.subarray(GENERATION_BYTES), visitor)
  }
}

function giveExtents(ino: number, window: number, blob: Buffer, visitor: ScanVisitor): void {
  try {
    visitor.extents(ino, window, decodeExtents(blob, window))
  } catch (error) {
    visitor.unreadable(ino, `extents of window ${window}`, error)
  }
}

async function scanNames(store: RedisStore, keys: PartitionKeys, ino: number, visitor: ScanVisitor): Promise<void> {
  const seen = new Set<string>()
  let cursor = '0'
  do {
    const [next = null, items = null] = arrayOf(
      await store.call('ZSCAN', keys.names(ino), cursor, 'COUNT', PAGE),
      'ZSCAN',
    )
    for (const [at, member] of arrayOf(items, 'ZSCAN').entries()) {
      if (at % 2 === 1 || !Buffer.isBuffer(member) || seen.has(member.toString('latin1'))) continue
      seen.add(member.toString('latin1'))
      const { name, ino: child, type } = decodeDirent(member)
      visitor.name(ino, name, child, type === 'directory')
    }
    cursor = textOf(next, 'ZSCAN')
  } while (cursor !== '0')
}

/** Field and value; a field may come twice. */
export async function* hashPages(store: RedisStore, key: string): AsyncGenerator<[string, Buffer][]> {
  let cursor = '0'
  do {
    const [next = null, items = null] = arrayOf(await store.call('HSCAN', key, cursor, 'COUNT', PAGE), 'HSCAN')
    const list = arrayOf(items, 'HSCAN')
    const page: [string, Buffer][] = []
    for (let at = 0; at + 1 < list.length; at += 2) {
      const value = list[at + 1]
      if (Buffer.isBuffer(value)) page.push([textOf(list[at], 'HSCAN'), value])
    }
    yield page
    cursor = textOf(next, 'HSCAN')
  } while (cursor !== '0')
}

/**
 * Chunks that the janitor still has to look at, those of deleted inodes whose keys are still to be freed, and those that have a
 * record of their holders.
 */
export async function scanSpoken(store: RedisStore, keys: VolumeKeys, p: number): Promise<Set<number>> {
  const { garbage, holders, zombies } = keys.partition(p)
  const spoken = new Set<number>()
  // First: what is freed meanwhile goes from here to the end of the list.
  for await (const page of hashPages(store, zombies)) {
    for (const [ino] of page) {
      for (const chunk of await chunksOfZombie(store, keys.partition(p), Number(ino))) spoken.add(chunk)
    }
  }
  // From the end: what the janitor takes off at the front meanwhile moves nothing, and what comes behind makes some be met twice.
  for (let seen = 0; ; seen += LIST_PAGE) {
    const entries = arrayOf(await store.call('LRANGE', garbage, -(seen + LIST_PAGE), -(seen + 1)), 'LRANGE')
    for (const entry of entries) {
      if (Buffer.isBuffer(entry)) for (const chunk of decodeClaim(entry).chunks) spoken.add(chunk)
    }
    if (entries.length < LIST_PAGE) break
  }
  for await (const page of hashPages(store, holders)) for (const [chunk] of page) spoken.add(Number(chunk))
  return spoken
}

async function chunksOfZombie(store: RedisStore, keys: PartitionKeys, ino: number): Promise<number[]> {
  const chunks: number[] = []
  for (const window of arrayOf(await store.call('ZRANGE', keys.windows(ino), 0, -1), 'ZRANGE')) {
    const number = numberOf(window, 'ZRANGE')
    const blob = await store.call('GET', keys.extents(ino, number))
    if (!Buffer.isBuffer(blob)) continue
    for (const { chunk } of decodeExtents(blob.subarray(GENERATION_BYTES), number))
      if (chunk !== null) chunks.push(chunk.id)
  }
  return chunks
}

export interface Counters {
  readonly inodes: number
  readonly bytes: number
  readonly inline: number
}

export function areSame(a: Counters, b: Counters): boolean {
  return a.inodes === b.inodes && a.bytes === b.bytes && a.inline === b.inline
}

export async function readCounters(store: RedisStore, keys: VolumeKeys, p: number): Promise<Counters> {
  const reply = await store.call('HMGET', keys.partition(p).counters, 'inodes', 'bytes', 'inline')
  const [inodes = null, bytes = null, inline = null] = arrayOf(reply, 'HMGET')
  return { inodes: countOf(inodes), bytes: countOf(bytes), inline: countOf(inline) }
}

function countOf(value: RedisValue): number {
  return value === null ? 0 : numberOf(value, 'HMGET')
}

/** The record without its access time; '' where there is none. Two that are the same mean that nothing has changed. */
export async function witnessOf(store: RedisStore, keys: VolumeKeys, ino: number): Promise<string> {
  const record = await recordOf(store, keys, ino)
  return record === null ? '' : witnessIn(record)
}

export function witnessIn(record: Buffer): string {
  return Buffer.concat([record.subarray(0, ATIME_FROM), record.subarray(ATIME_TO)]).toString('latin1')
}

export async function recordOf(store: RedisStore, keys: VolumeKeys, ino: number): Promise<Buffer | null> {
  const record = await store.call('HGET', keys.of(ino).inodes, ino)
  return Buffer.isBuffer(record) ? record : null
}

/**
 * Where the file shows what of which chunk, later extents behind earlier ones. Errors: what is wrong with a record or map that cannot be
 * read: that it names nothing would be a guess, by which good chunks were freed. `readable`: those that can be read are enough.
 */
export async function chunksOf(
  store: RedisStore,
  keys: VolumeKeys,
  ino: number,
  readable: 'all' | 'readable' = 'all',
): Promise<ReadonlyMap<number, readonly Extent[]>> {
  const chunks = new Map<number, Extent[]>()
  const note = (_ino: number, _window: number, extents: readonly Extent[]): void => {
    for (const extent of extents) {
      if (extent.chunk === null) continue
      const list = chunks.get(extent.chunk.id)
      if (list === undefined) chunks.set(extent.chunk.id, [extent])
      else list.push(extent)
    }
  }
  const record = await recordOf(store, keys, ino)
  if (record === null) return chunks
  const ignore = (): undefined => undefined
  const unreadable = (_ino: number, what: string, error: unknown): void => {
    if (readable === 'all') throw new Error(`${what} of inode ${ino} cannot be read`, { cause: error })
  }
  const visitor = { inode: ignore, unreadable, body: ignore, name: ignore, extents: note }
  await scanInode(store, keys.of(ino), [ino, decodeInode(ino, record)], visitor)
  return chunks
}

/** Inodes and directories that prepared transactions are about. */
export async function inTransactions(store: RedisStore, keys: VolumeKeys): Promise<Set<number>> {
  const inos = new Set<number>()
  const replies = await Promise.all(
    Array.from({ length: keys.partitions }, (_, p) => store.run(SCRIPTS.txInos, [keys.partition(p).locks], [])),
  )
  for (const reply of replies) {
    for (const tx of arrayOf(reply, 'tx-inos')) {
      for (const ino of arrayOf(tx, 'tx-inos').slice(1)) inos.add(numberOf(ino, 'tx-inos'))
    }
  }
  return inos
}

/** Does the window name the chunk, as far as its file's maps can be read? */
export async function isNamed(
  store: RedisStore,
  keys: VolumeKeys,
  ino: number,
  window: number,
  chunk: number,
): Promise<boolean> {
  const extents = (await chunksOf(store, keys, ino, 'readable')).get(chunk) ?? []
  return extents.some(({ fileOffset }) => Math.floor(fileOffset / WINDOW_BYTES) === window)
}
