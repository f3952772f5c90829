/**
 * Makes a file in `lost+found` of the chunks of one that was lost.
 *
 *   nothing --file made--> noted ({v}:m:rebuild, f<ino>) --extents, window by window--> note taken away
 *
 * Invariants:
 * - A chunk that is named is named for good: a file that is half made when this process dies is gone on with by the next run, never
 *   made anew or deleted, which would free its chunks.
 * - A new file gets all chunks, the hidden ones, too, below what hides them: a second run finds nothing that nobody names, and what is
 *   hidden is freed as after any other overwriting. What is seen of a chunk is named at once (commits.ts). A file that has some already gets only what is to be seen over it: that is
 *   right whatever order it comes in.
 * - A chunk is named only if a node says once more, after all metadata were read, that it has it: it is not being deleted; and if the file that it was
 *   written for still does not name it, now that its writer cannot commit it any more (rebuild.ts).
 */
import type { RedisStore } from '../../cluster/contract.js'
import { numberOf } from '../../cluster/reply.js'
import type { MetaStore } from '../../meta/contract.js'
import type { VolumeKeys } from '../../meta/keys.js'
import { chunksOf } from '../../meta/scan.js'
import { putUnder } from '../lost-and-found.js'
import { commitsOf } from './commits.js'
import { layoutOf, type FileLayout, type FoundChunk } from './layout.js'
import type { Span } from './spans.js'
import type { LostChunk, LostFile } from './survey.js'

export interface RestoreParts {
  readonly store: RedisStore
  readonly keys: VolumeKeys
  /** null: nothing is changed. */
  readonly meta: MetaStore | null
  /** The folder; null: it is not made yet, and nothing is changed. */
  readonly folder: number | null
  /** Which chunks no node has any more, and of which no copy is good (of those that were looked at). */
  readonly look: (chunks: readonly LostChunk[]) => Promise<Looked>
}

export interface Looked {
  readonly gone: ReadonlySet<number>
  readonly bad: ReadonlySet<number>
}

export interface RestoredFile {
  /** In lost+found; what it would be called, where nothing was changed. */
  readonly name: string
  /** The number that it had. */
  readonly ino: number
  /**
   * `file`: all that is known of a file of which nothing was left. `pieces`: what was written to a file that is there, `of`, and got
   * lost; the rest of it is holes. `former`: a file whose number another one has by now.
   */
  readonly what: 'file' | 'pieces' | 'former'
  /** Inode that has the rest. */
  readonly of?: number
  readonly sizeBytes: number
  readonly bytes: number
  readonly chunks: number
  /** Holes, or chunks that are gone. */
  readonly gaps: readonly Span[]
  /** Appended pieces that were put behind each other. */
  readonly moved: number
  /** Chunks of which every copy is damaged: named, as what is good of them can be read. */
  readonly damaged: readonly number[]
  /** Chunks with headers that make no sense. */
  readonly senseless: readonly number[]
  /** Of its last write, ms since 1970. */
  readonly writtenMs: number
}

interface Target {
  /** Who has chunks of the same file now. */
  readonly ino: number
  /** It is one that an earlier run has begun. */
  readonly isUnfinished: boolean
}

/** null: there is nothing that any file lacks: older than what lies over it, or deleted meanwhile. */
export async function restoreFile(parts: RestoreParts, file: LostFile): Promise<RestoredFile | null> {
  const { meta, folder } = parts
  const { gone, bad } = await parts.look(file.lost)
  const since = await chunksOf(parts.store, parts.keys, file.ino, 'readable')
  const lost = file.lost.filter(({ id }) => !gone.has(id) && !since.has(id))
  const target = await targetOf(parts, file)
  const layout = layoutOf([...lost.map(asLost), ...(await namedIn(parts, file, target))])
  if (layout.seenBytes === 0) return null
  const isNew = target?.isUnfinished !== true
  const base = nameOf(file, target)
  const restored = { ...describe(file, layout, bad, target), chunks: lost.length }
  if (meta === null || folder === null) return { ...restored, name: base }
  const made = isNew ? await makeFile(meta, folder, base) : { ino: target.ino, name: base }
  await note(parts, file, made.ino)
  await commitAll(meta, made.ino, layout, target === null)
  await parts.store.call('HDEL', parts.keys.wide('rebuild'), noteField(file))
  return { ...restored, name: made.name }
}

function asLost({ id, header }: LostChunk): FoundChunk {
  return { id, header, named: null }
}

async function targetOf({ store, keys }: RestoreParts, file: LostFile): Promise<Target | null> {
  const noted = await store.call('HGET', keys.wide('rebuild'), noteField(file))
  if (noted !== null) {
    const ino = numberOf(noted, 'HGET')
    if ((await store.call('HEXISTS', keys.of(ino).inodes, ino)) === 1) return { ino, isUnfinished: true }
  }
  if (file.isKnown) return { ino: file.ino, isUnfinished: false }
  // What an earlier run has made of it.
  const counts = new Map<number, number>()
  for (const { namedBy } of file.others) counts.set(namedBy, (counts.get(namedBy) ?? 0) + 1)
  const [most] = [...counts].sort((a, b) => b[1] - a[1])
  return most === undefined ? null : { ino: most[0], isUnfinished: false }
}

function noteField({ ino, isFormer }: LostFile): string {
  return isFormer ? `f${ino}.former` : `f${ino}`
}

async function note({ store, keys }: RestoreParts, file: LostFile, ino: number): Promise<void> {
  await store.call('HSET', keys.wide('rebuild'), noteField(file), ino)
}

async function namedIn({ store, keys }: RestoreParts, file: LostFile, target: Target | null): Promise<FoundChunk[]> {
  if (target === null || file.others.length === 0) return []
  const shown = await chunksOf(store, keys, target.ino, 'readable')
  return file.others.map(({ id, header }) => ({ id, header, named: shown.get(id) ?? [] }))
}

function nameOf({ ino, isFormer }: LostFile, target: Target | null): string {
  if (isFormer) return `inode-${ino}.former`
  return target === null || target.isUnfinished ? `inode-${ino}` : `inode-${ino}.pieces`
}

function describe(
  { ino, isFormer }: LostFile,
  layout: FileLayout,
  bad: ReadonlySet<number>,
  target: Target | null,
): Omit<RestoredFile, 'name' | 'chunks'> {
  const isPieces = target !== null && !target.isUnfinished
  const used = new Set(
    layout.windows.flatMap(({ seen, hidden }) => [...seen, ...hidden].map(({ chunk }) => chunk?.id ?? 0)),
  )
  return {
    ino,
    what: isFormer ? 'former' : isPieces ? 'pieces' : 'file',
    ...(isPieces ? { of: target.ino } : {}),
    ...{ sizeBytes: layout.sizeBytes, bytes: layout.seenBytes, moved: layout.moved, senseless: layout.senseless },
    gaps: isPieces ? [] : layout.gaps,
    damaged: [...used].filter((id) => bad.has(id)),
    writtenMs: Math.floor(layout.newestUs / 1000),
  }
}

/** A file of that name, or of one like it; one that an interrupted run has made and not yet noted is as good. */
async function makeFile(meta: MetaStore, folder: number, base: string): Promise<{ ino: number; name: string }> {
  const inode = { type: 'file', mode: 0o600, uid: 0, gid: 0 } as const
  const create = async (name: Buffer): Promise<number> =>
    (await meta.create(folder, name, inode, { exclusive: true, open: false })).attr.ino
  const { name, made } = await putUnder(meta, folder, base, create, (attr) => {
    const isEmpty = attr.sizeBytes === 0 && !attr.hasExtents && !attr.hasBody
    return attr.type === 'file' && isEmpty && attr.nlink === 1 ? attr.ino : null
  })
  return { ino: made, name }
}

async function commitAll(meta: MetaStore, ino: number, layout: FileLayout, isFirst: boolean): Promise<void> {
  const mtime = { sec: Math.floor(layout.newestUs / 1e6), nsec: (layout.newestUs % 1e6) * 1000 }
  for (const commit of commitsOf(layout, isFirst)) await meta.commit(ino, { ...commit, mode: 'at', mtime })
}
