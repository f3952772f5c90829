/**
 * Which chunks on the nodes belong to files that the metadata do not know, or not as they were at last.
 *
 * Invariants:
 * - Nothing that somebody names, or could still name, is taken for lost. The nodes are asked first, all metadata are read afterwards: a
 *   chunk that was named when its node told of it is named still, or the janitor speaks of it. What is uploaded and not committed
 *   yet is younger than the least age, or of a file that no client could commit to any more.
 * - What is known to be deleted is not brought back: chunks of which the janitor speaks, those of files whose keys are being freed, and
 *   those that a node is still to remove.
 */
import { CHUNK_BUCKETS, type ListedHeader } from '../../chunk/contract.js'
import type { RedisStore } from '../../cluster/contract.js'
import type { VolumeKeys } from '../../meta/keys.js'
import { decodeInode } from '../../meta/records.js'
import { recordOf, scanSpoken } from '../../meta/scan.js'
import { inventory, nodesOf, shortOfDisks, type NodesParts } from '../nodes.js'
import { Pass } from '../tree.js'

const PARTITIONS_AT_ONCE = 8
/** Clocks of clients are corrected to Redis's when they are off by more than a second. */
const CLOCKS_US = 2_000_000

export interface SurveyParts extends NodesParts {
  readonly store: RedisStore
  readonly keys: VolumeKeys
  /** Chunks that nodes are still to remove. */
  readonly removals: (nodeId: string) => Promise<ReadonlySet<number>>
  /** Uploads may be under way in what is younger, in microseconds since 1970; Infinity: nobody uploads. */
  readonly settledUs: number
  /** When the volume was made, or made anew: no client can commit to a file from before that is not there. */
  readonly madeUs: number
  /** When all nodes had told what they have since the servers' histories go on, in microseconds since 1970: what is younger they have not lost. */
  readonly seenUs: number
  readonly onProgress: (what: string, done: number, all: number) => void
}

export interface LostChunk {
  readonly id: number
  readonly header: ListedHeader
  readonly nodes: readonly string[]
}

/** Chunks of what was one file. */
export interface LostFile {
  readonly ino: number
  /** A file of this number is there, which is older than these chunks: they are what it lacks. */
  readonly isKnown: boolean
  /** Another file has the number now. */
  readonly isFormer: boolean
  readonly lost: readonly LostChunk[]
  /** The others that were written for it: whose they are now. */
  readonly others: readonly (LostChunk & { readonly namedBy: number })[]
}

export interface Survey {
  readonly files: readonly LostFile[]
  readonly chunks: number
  /** Highest number that anything on the nodes has; of inodes for each partition, as they are counted in it. */
  readonly newestChunk: number
  readonly sequences: readonly number[]
  /** Chunks of deleted files, not freed yet. */
  readonly deleted: number
  /** Chunks that may be uploads under way, or lost. */
  readonly young: number
  /** Of the newest chunk that no file names, by the clock of its writer, in microseconds since 1970. */
  readonly newestUs: number
  /** Chunks of which no copy has a good header: where they are. */
  readonly headless: ReadonlyMap<number, readonly string[]>
  /** Nodes that did not answer, not for all their disks, or could not list all that they have. */
  readonly away: ReadonlyMap<string, string>
  readonly nodes: number
}

interface Listed {
  readonly found: Map<number, LostChunk>
  readonly headless: Map<number, readonly string[]>
  readonly away: Map<string, string>
  readonly sequences: number[]
  chunks: number
  newestChunk: number
}

export async function survey(parts: SurveyParts): Promise<Survey> {
  // Before and afterwards: a disk may come back, or fail, while its node is asked.
  const short = new Map(shortOfDisks(parts))
  const survey = await surveyed(parts, short)
  return { ...survey, away: new Map([...short, ...shortOfDisks(parts), ...survey.away]) }
}

async function surveyed(parts: SurveyParts, short: Map<string, string>): Promise<Survey> {
  const before = await passOf(parts, 'metadata')
  const listed = await listAll(parts, before, short)
  const { found, headless, away } = listed
  const nodes = nodesOf(parts).length
  const figures = { ...listed, nodes, deleted: 0, young: 0, newestUs: 0, files: [], headless, away }
  if (found.size === 0 && headless.size === 0) return figures
  // What was named before the nodes were asked is out already; now what came to be named since.
  const after = await passOf(parts, 'metadata again')
  for (const ids of [found, headless]) for (const id of ids.keys()) if (after.chunks.has(id)) ids.delete(id)
  const deleted = await dropDeleted(parts, listed)
  const newestUs = [...found.values()].reduce((us, { header }) => Math.max(us, header.origin.order), 0)
  const files = await filesOf(parts, found, after)
  const young = files.reduce((sum, { young: some }) => sum + some, 0)
  const lost = files.map(({ file }) => file).filter((file) => file.lost.length > 0)
  return { ...figures, deleted, young, newestUs, files: await withOthers(parts, lost, after, { away, short }) }
}

/** Highest numbers that anything on the nodes has. A node that is away is not asked: it may have higher ones, and so may what cannot be listed. */
export async function countNumbers(
  parts: NodesParts & Pick<SurveyParts, 'keys' | 'onProgress'>,
): Promise<{ readonly chunk: number; readonly sequences: readonly number[] }> {
  const listed = emptyList(parts.keys)
  for await (const { toBucket, copies, headers } of inventory(parts, true, listed.away, new Map())) {
    for (const id of copies.keys()) noteNumbers(listed, parts.keys, id, headers.get(id)?.header)
    parts.onProgress('numbers', toBucket, CHUNK_BUCKETS)
  }
  return { chunk: listed.newestChunk, sequences: listed.sequences }
}

async function passOf({ store, keys, onProgress }: SurveyParts, what: string): Promise<Pass> {
  const pass = new Pass()
  await pass.run(store, keys, (done, all) => onProgress(what, done, all))
  return pass
}

/** Everything that the metadata do not name. */
async function listAll(parts: SurveyParts, known: Pass, short: Map<string, string>): Promise<Listed> {
  const listed = emptyList(parts.keys)
  for await (const { toBucket, copies, headers } of inventory(parts, true, listed.away, short)) {
    listed.chunks += copies.size
    for (const [id, nodes] of copies) {
      const header = headers.get(id)?.header
      noteNumbers(listed, parts.keys, id, header)
      if (known.chunks.has(id)) continue
      if (header === undefined) listed.headless.set(id, nodes)
      else listed.found.set(id, { id, header, nodes })
    }
    parts.onProgress('chunks', toBucket, CHUNK_BUCKETS)
  }
  return listed
}

function emptyList(keys: VolumeKeys): Listed {
  const sequences = Array.from({ length: keys.partitions }, () => 0)
  return { found: new Map(), headless: new Map(), away: new Map(), chunks: 0, newestChunk: 0, sequences }
}

function noteNumbers(listed: Listed, keys: VolumeKeys, id: number, header: ListedHeader | undefined): void {
  listed.newestChunk = Math.max(listed.newestChunk, id)
  if (header === undefined) return
  const { ino } = header.origin
  const p = keys.home(ino)
  listed.sequences[p] = Math.max(listed.sequences[p] ?? 0, Math.floor(ino / keys.partitions))
}

/** Takes those away of which it is known; answers how many. */
async function dropDeleted(parts: SurveyParts, { found, headless }: Listed): Promise<number> {
  const { store, keys, removals } = parts
  const gone = new Set<number>()
  const partitions = Array.from({ length: keys.partitions }, (_, p) => p)
  for (let at = 0; at < partitions.length; at += PARTITIONS_AT_ONCE) {
    await Promise.all(
      partitions.slice(at, at + PARTITIONS_AT_ONCE).map(async (p) => {
        for (const id of await scanSpoken(store, keys, p)) gone.add(id)
      }),
    )
  }
  for (const node of nodesOf(parts)) for (const id of await removals(node)) gone.add(id)
  const size = found.size + headless.size
  for (const ids of [found, headless]) for (const id of ids.keys()) if (gone.has(id)) ids.delete(id)
  return size - found.size - headless.size
}

interface Grouped {
  readonly file: LostFile
  readonly young: number
}

async function filesOf(parts: SurveyParts, found: ReadonlyMap<number, LostChunk>, pass: Pass): Promise<Grouped[]> {
  const byIno = new Map<number, LostChunk[]>()
  for (const chunk of found.values()) {
    const { ino } = chunk.header.origin
    const list = byIno.get(ino)
    if (list === undefined) byIno.set(ino, [chunk])
    else list.push(chunk)
  }
  const files: Grouped[] = []
  for (const [ino, lost] of byIno) files.push(...(await splitByBearer(parts, ino, lost, pass)))
  return files
}

/** Numbers that lost metadata had given out may have been given to other files before anybody knew. */
async function splitByBearer(
  parts: SurveyParts,
  ino: number,
  lost: readonly LostChunk[],
  pass: Pass,
): Promise<Grouped[]> {
  const bornUs = pass.inodes.has(ino) ? await bornOf(parts, ino) : Infinity
  const isOurs = ({ header }: LostChunk): boolean => header.origin.order >= bornUs - CLOCKS_US
  const known = lost.filter(isOurs)
  const former = lost.filter((chunk) => !isOurs(chunk))
  const isKnown = bornUs !== Infinity
  return [
    grouped(parts, { ino, isKnown: true, isFormer: false, lost: known, others: [] }),
    grouped(parts, { ino, isKnown: false, isFormer: isKnown, lost: former, others: [] }),
  ]
}

function grouped({ settledUs, madeUs, seenUs }: SurveyParts, file: LostFile): Grouped {
  const isSettled = ({ header: { origin } }: LostChunk): boolean =>
    origin.order < settledUs || (!file.isKnown && !file.isFormer && origin.order < madeUs)
  const lost = file.lost.filter(isSettled)
  const mayBeLost = file.lost.filter((chunk) => chunk.header.origin.order < seenUs + CLOCKS_US && !isSettled(chunk))
  return { file: { ...file, lost }, young: mayBeLost.length }
}

/** Microseconds since 1970; Infinity: it is no file. */
async function bornOf({ store, keys }: SurveyParts, ino: number): Promise<number> {
  const record = await recordOf(store, keys, ino)
  if (record === null) return Infinity
  const { attr } = decodeInode(ino, record)
  return attr.type === 'file' ? attr.btime.sec * 1e6 + Math.floor(attr.btime.nsec / 1000) : Infinity
}

/** With the chunks that were written for the same files and are named: by themselves, or by what an earlier run has made of them. */
async function withOthers(
  parts: SurveyParts,
  files: readonly LostFile[],
  pass: Pass,
  { away, short }: { readonly away: Map<string, string>; readonly short: Map<string, string> },
): Promise<LostFile[]> {
  const wanted = new Map(files.map(({ ino }): [number, (LostChunk & { namedBy: number })[]] => [ino, []]))
  if (wanted.size > 0 && pass.chunks.size > 0) {
    for await (const { toBucket, copies, headers } of inventory(parts, true, away, short)) {
      for (const [id, { header }] of headers) {
        const namedBy = pass.chunks.get(id)?.ino
        if (header === undefined || namedBy === undefined) continue
        wanted.get(header.origin.ino)?.push({ id, header, nodes: copies.get(id) ?? [], namedBy })
      }
      parts.onProgress('chunks of the same files', toBucket, CHUNK_BUCKETS)
    }
  }
  return files.map((file) => ({ ...file, others: file.isFormer ? [] : (wanted.get(file.ino) ?? []) }))
}
