/**
 * `ringfs rebuild`: files whose metadata were lost, from the chunks on the nodes, into `lost+found`.
 *
 * Invariants:
 * - Nothing is deleted, and no file changes but those that it makes.
 * - While the hash {v}:m:rebuild is there, nobody frees chunks that no file names (orphans.ts). It goes when everything that there is
 *   was looked at: not while a node is away, nor while there are chunks of unknown fate from before the histories of now were first
 *   seen, and all nodes asked (histories.ts). Uploads that are under way since then keep nothing open: on a busy volume there always are some.
 * - Nobody can commit what is named here: the blocks of ids of those whose session is over are closed first (meta/blocks.ts), and what they had committed
 *   by then is looked for once more. Of a session that lives a commit does not take as long as the least age; of one of which that is not known
 *   nothing is named yet.
 * - Numbers first: before a file is made, the counters are beyond all numbers on the nodes, or what is made could be taken for what
 *   was lost.
 * - One at a time: a lease, which whoever frees orphans has, too. Interrupted anywhere, it can be begun anew, and adds nothing twice (restore-file.ts).
 */
import { RingfsError } from '../../base/errors.js'
import type { VolumeSettings } from '../../cluster/contract.js'
import { arrayOf, numberOf } from '../../cluster/reply.js'
import type { MetaStore } from '../../meta/contract.js'
import { endBlocks } from '../../meta/blocks.js'
import { CHUNK_BLOCK, VolumeKeys } from '../../meta/keys.js'
import { raiseNumbers } from '../../meta/numbers.js'
import { noteRebuildDue, redisMs } from '../../meta/rebuild-due.js'
import { hashPages } from '../../meta/scan.js'
import { SEEN, historiesOf, knowHistories, noteSeen, seenOf, type Seen } from '../histories.js'
import { withRebuildLease } from '../lease.js'
import { lostAndFound } from '../lost-and-found.js'
import { nodesOf } from '../nodes.js'
import { KEPT } from '../sweep.js'
import { lookAt } from './look.js'
import { restoreFile, type RestoredFile } from './restore-file.js'
import { survey, type Survey, type SurveyParts } from './survey.js'

const FILES_AT_ONCE = 4
const NOTHING_SEEN: Seen = { sinceMs: Infinity, newestUs: Infinity }

export interface RebuildParts extends Omit<SurveyParts, 'keys' | 'settledUs' | 'madeUs' | 'seenUs'> {
  readonly settings: VolumeSettings
  /** null: nothing is changed. */
  readonly meta: MetaStore | null
  /** Every copy of what is restored is read and hashed. */
  readonly deep: boolean
  /** While clients live: how old a chunk must be, so that its upload is over. */
  readonly minAgeMs: number
  /**
   * While clients live, nothing is made before the servers' histories have gone on for that age: until then clocks may be those of a
   * master that was replaced. For who comes again by itself.
   */
  readonly isPatient?: boolean
  readonly signal?: AbortSignal
}

export interface RebuildResult {
  readonly files: readonly RestoredFile[]
  readonly nodes: number
  readonly away: ReadonlyMap<string, string>
  readonly chunks: number
  /** Chunks of deleted files, which were left alone. */
  readonly deleted: number
  /** Chunks that may be uploads under way, or lost. */
  readonly young: number
  /** Chunks that are older than what lies over them, in files that are there. */
  readonly hidden: number
  readonly headless: ReadonlyMap<number, readonly string[]>
  /** false: there may be more: run it again. */
  readonly isComplete: boolean
}

export async function rebuild(parts: RebuildParts): Promise<RebuildResult> {
  const { settings, store, meta } = parts
  const keys = new VolumeKeys(settings.name, settings.partitions)
  if (meta === null) return await run(parts, keys, NOTHING_SEEN, () => undefined)
  const result = await withRebuildLease(store, keys, async (check) => {
    await noteRebuildDue(store, keys)
    const histories = await historiesOf(store, keys)
    const seen = await seenOf(store, keys, histories)
    const { newestUs, ...made } = await run(parts, keys, seen, check)
    await meta.sync()
    if (seen.newestUs === Infinity && isAllTold(parts, made))
      await noteSeen(store, keys, histories, { ...seen, newestUs })
    if (made.isComplete) await knowHistories(store, keys, histories)
    if (made.isComplete) await store.call('UNLINK', keys.wide('rebuild'))
    else if (parts.signal?.aborted !== true) await forgetNotes(parts, keys)
    return made
  })
  if (result !== undefined) return result
  throw new RingfsError(
    'ALREADY_RUNNING',
    `another ringfs rebuild of ${settings.name} is under way, or a client frees orphans: try again when it is done`,
  )
}

interface Run extends RebuildResult {
  readonly newestUs: number
}

async function run(parts: RebuildParts, keys: VolumeKeys, seen: Seen, check: () => void): Promise<Run> {
  const { meta, settings, onProgress } = parts
  const settled = await settledUs(parts, keys, seen)
  const seenUs = Math.max(seen.sinceMs * 1000, seen.newestUs)
  const times = { settledUs: settled, madeUs: settings.createdMs * 1000, seenUs }
  const surveyed = await survey({ ...parts, keys, ...times })
  if (meta !== null) {
    await raiseNumbers(parts.store, keys, { chunk: surveyed.newestChunk, sequences: surveyed.sequences })
    await keepBlocks(parts, keys, surveyed)
  }
  const found = meta === null ? surveyed : await withEndedBlocks(parts, keys, surveyed)
  const folder = meta === null || found.files.length === 0 ? null : await lostAndFound(meta)
  const files: RestoredFile[] = []
  const rest = found.files.entries()
  let hidden = 0
  let done = 0
  const restore = { ...parts, keys, folder, look: lookAt(parts) }
  const lane = async (): Promise<void> => {
    for (const [, file] of rest) {
      check()
      if (parts.signal?.aborted === true) return
      const restored = await restoreFile(restore, file)
      if (restored === null) hidden += file.lost.length
      else files.push(restored)
      onProgress('files', ++done, found.files.length)
    }
  }
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, lane))
  return {
    ...figuresOf(found),
    files: files.sort((a, b) => a.ino - b.ino),
    hidden,
    newestUs: found.newestUs,
    isComplete: isAllTold(parts, found) && found.young === 0,
  }
}

/** No file is half made. */
async function forgetNotes({ store }: RebuildParts, keys: VolumeKeys): Promise<void> {
  for await (const page of hashPages(store, keys.wide('rebuild'))) {
    const notes = page.flatMap(([field]) => (field === 'begun' || field === SEEN ? [] : [field]))
    if (notes.length > 0) await store.call('HDEL', keys.wide('rebuild'), ...notes)
  }
}

/** What is named under another number than it was written for, only a look at all files can tell from an orphan. */
async function keepBlocks({ store }: RebuildParts, keys: VolumeKeys, found: Survey): Promise<void> {
  const blocks = new Set(found.files.flatMap(({ lost }) => lost.map(({ id }) => Math.floor(id / CHUNK_BLOCK))))
  for (const block of blocks) {
    if ((await store.call('HEXISTS', keys.wide('blocks'), block)) === 0) continue
    await store.call('HSET', keys.wide('blocks'), `${KEPT}${block}`, 1)
  }
}

/** Without the chunks of which it is not known whether their writers live. */
async function withEndedBlocks({ store }: RebuildParts, keys: VolumeKeys, found: Survey): Promise<Survey> {
  const states = await endBlocks(
    store,
    keys,
    found.files.flatMap(({ lost }) => lost.map(({ id }) => id)),
  )
  let { young } = found
  const files = found.files.map((file) => {
    const lost = file.lost.filter(({ id }) => states.get(Math.floor(id / CHUNK_BLOCK)) !== 'undecided')
    young += file.lost.length - lost.length
    return { ...file, lost }
  })
  return { ...found, young, files: files.filter(({ lost }) => lost.length > 0) }
}

function figuresOf(found: Survey): Omit<RebuildResult, 'files' | 'hidden' | 'isComplete'> {
  const { nodes, away, chunks, deleted, young, headless } = found
  return { nodes, away, chunks, deleted, young, headless }
}

function isAllTold(parts: RebuildParts, { away }: Pick<Survey, 'away'>): boolean {
  return away.size === 0 && nodesOf(parts).length > 0 && parts.signal?.aborted !== true
}

/** Nobody but us has a session: nothing is being uploaded. */
async function settledUs(parts: RebuildParts, keys: VolumeKeys, { sinceMs }: Seen): Promise<number> {
  const sessions = arrayOf(await parts.store.call('ZRANGE', keys.wide('s'), 0, -1), 'ZRANGE')
  const others = sessions.filter((id) => numberOf(id, 'ZRANGE') !== parts.meta?.sessionId)
  if (others.length === 0) return Infinity
  const oldMs = (await redisMs(parts.store, keys)) - parts.minAgeMs
  return parts.isPatient === true && sinceMs > oldMs ? -Infinity : oldMs * 1000
}
