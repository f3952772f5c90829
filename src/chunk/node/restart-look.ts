/**
 * After a start of the machine the chunk files that were changed last on a disk are read and hashed. After a loss of power such a file may have its
 * name and not its bytes: to whoever compares what nodes have it is a copy, and scrubbing would come to it within a week. What has not even
 * its name is missed by the others, who are asked to walk (main/disk-watch.ts).
 *
 *   another boot --> noted, with the time from which on files are in doubt --all looked at--> noted without
 *
 * Invariant: until all are looked at the note has that time, so that a node which is killed meanwhile, or cannot list a folder, begins anew, with all of
 * them.
 */
import { messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import { CHUNK_BUCKETS } from '../contract.js'
import type { Job } from '../pool.js'
import { readBootNote, type BootNote, type BootNoteTask } from './boot-note.js'
import type { ChangedFile, ChangedTask } from './list.js'
import type { NodeDisk } from './node-disk.js'
import type { Verdict } from './tasks.js'

const NOTE_JOB: Job<BootNoteTask, void> = { file: 'disk', name: 'noteBoot' }
const CHANGED_JOB: Job<ChangedTask, readonly ChangedFile[] | null> = { file: 'disk', name: 'changed' }
/** So long before the last change everything is on disk: the kernel writes what is older than half a minute, if the disk can follow. */
const DOUBT_MS = 10 * 60_000

export interface RestartLookOptions {
  /** boot_id of now. */
  readonly boot: string
  /** When this process began with the disk, ms since 1970: what was changed later is its own. */
  readonly startMs: number
  readonly verify: (id: number) => Promise<Verdict>
  /** Has a bad copy replaced, if others have a good one. */
  readonly onBad: (id: number) => Promise<void>
  readonly log: Log
}

/** Was the machine started since a node had this disk? Of one that nobody has noted anything on: no. */
export function isAfterRestart(folder: string, boot: string): boolean {
  const note = readBootNote(folder)
  return note !== null && isInDoubt(note, boot)
}

function isInDoubt(note: BootNote, boot: string): boolean {
  return note.boot !== boot || note.fromMs !== null
}

/** Never rejects: what could not be looked at is for the next start. */
export async function lookAfterRestart(
  disks: readonly NodeDisk[],
  options: RestartLookOptions,
  signal: AbortSignal,
): Promise<void> {
  const looks = disks.map(async (disk) => {
    try {
      await lookAt(disk, options, signal)
    } catch (error) {
      const [{ folder }, err] = [disk, messageOf(error)]
      options.log.warn({ folder, err }, 'what was written last before a start of the machine is not looked at')
    }
  })
  await Promise.all(looks)
}

async function lookAt(disk: NodeDisk, options: RestartLookOptions, signal: AbortSignal): Promise<void> {
  const { boot, startMs, log } = options
  const { folder } = disk
  const before = readBootNote(folder)
  const note = (fromMs: number | null): Promise<void> =>
    disk.run(() => disk.pool.run(NOTE_JOB, { folder, boot, fromMs }))
  if (before === null) return await note(null)
  if (!isInDoubt(before, boot)) return
  // A folder at a time: of millions of files each is asked when it was changed.
  const changed = (bucket: number, sinceMs: number): Promise<readonly ChangedFile[] | null> =>
    disk.run(() => disk.pool.run(CHANGED_JOB, { folder, bucket, sinceMs }))
  const bounds = { startMs, doubtMs: DOUBT_MS, fromMs: before.fromMs ?? Infinity }
  const recent = await recentFiles(changed, bounds, signal)
  if (recent === null) return
  const { ids, fromMs, unlisted } = recent
  await note(fromMs)
  let bad = 0
  for (const id of ids) {
    if (signal.aborted) return
    if (await isBad(id, options)) bad++
  }
  if (unlisted === 0) await note(null)
  else
    log.warn(
      { folder, unlisted },
      'folders cannot be listed: what was written last is looked at again at the next start',
    )
  log.info({ folder, chunks: ids.length, bad }, 'the machine was started: what was written last was read and hashed')
}

export interface RecentBounds {
  /** Ms since 1970: the last change before it counts as the last. */
  readonly startMs: number
  readonly doubtMs: number
  /** At least those that were changed since then. Infinity: no such wish. */
  readonly fromMs: number
}

export interface RecentFiles {
  readonly ids: readonly number[]
  /** Since when these were changed. */
  readonly fromMs: number
  /** Folders that cannot be listed: what is in them is not among these. */
  readonly unlisted: number
}

/**
 * The chunk files that were changed last before `startMs`: those of the last `doubtMs`, and all that were changed since. Where clocks were set back that is
 * more. null: told to end. Errors: those of `changed`.
 */
export async function recentFiles(
  changed: (bucket: number, sinceMs: number) => Promise<readonly ChangedFile[] | null>,
  { startMs, doubtMs, fromMs }: RecentBounds,
  signal: AbortSignal,
): Promise<RecentFiles | null> {
  let newestMs = -Infinity
  let found: ChangedFile[] = []
  let unlisted = 0
  const since = (ms: number): ChangedFile[] => found.filter((file) => file.ms >= ms)
  for (let bucket = 0; bucket < CHUNK_BUCKETS; bucket++) {
    if (signal.aborted) return null
    const before = newestMs
    const more = await changed(bucket, Math.min(fromMs, newestMs - doubtMs))
    if (more === null) unlisted++
    for (const file of more ?? []) {
      if (file.ms < startMs && file.ms > newestMs) newestMs = file.ms
      found.push(file)
    }
    if (newestMs > before) found = since(Math.min(fromMs, newestMs - doubtMs))
  }
  const sinceMs = Math.min(fromMs, newestMs === -Infinity ? startMs : newestMs - doubtMs)
  return { ids: since(sinceMs).map(({ id }) => id), fromMs: Math.floor(sinceMs), unlisted }
}

async function isBad(id: number, { verify, onBad, log }: RestartLookOptions): Promise<boolean> {
  const verdict = await verify(id)
  if (verdict.state !== 'bad') return false
  log.warn({ chunk: id, why: verdict.why }, 'a chunk copy was not on disk when the machine ended')
  // Nobody reached: it is in this node's queue by then, or scrubbing comes to it.
  await onBad(id).catch((error: unknown) => log.warn({ chunk: id, err: messageOf(error) }, 'not replaced yet'))
  return true
}
