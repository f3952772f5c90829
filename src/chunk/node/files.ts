/** Synchronous work on many files: deleting, fdatasync. Runs in a worker. */
import { codeOf, messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { PosixError } from '../../base/errno.js'
import { flushTogether, isNumberForOneFlush, type FlushTogether } from './flush-together.js'
import type { FilesTask, MoveTask, SyncResult, SyncTask } from './tasks.js'
import { isUnlistable } from './unreadable.js'

/** This process is short of something: the file is as good as it was. */
const OF_THE_PROCESS = new Set(['EMFILE', 'ENFILE', 'ENOMEM'])

/** Answers for each file whether it was there. Throws if one cannot be removed: all others have been removed then. */
export function removeFiles(files: readonly string[]): readonly boolean[] {
  return ofEach(files, (file) => {
    try {
      unlinkSync(file)
      return true
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw error
    }
  })
}

/** What cannot be listed is in nobody's way. Errors: what the disk says else. */
export function removeFilesIn(folder: string, log: Log): void {
  try {
    removeFiles(readdirSync(folder).map((name) => join(folder, name)))
  } catch (error) {
    if (!isUnlistable(error)) throw error
    log.error({ folder, err: messageOf(error) }, 'what was left in a folder is not removed')
  }
}

/** Answers whether it was there. */
export function moveFile({ from, to }: MoveTask): boolean {
  try {
    renameSync(from, to)
    return true
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false
    throw error
  }
}

export function existingFiles({ files }: FilesTask): readonly boolean[] {
  return files.map((file) => existsSync(file))
}

/**
 * First the data of all files, then the folders that name them: after it, what is 'synced' survives a loss of power.
 * Invariant: a file that the disk could not write has its name no more, or no bytes. Linux tells that once, and keeps the pages as if they were
 * written: whoever flushed the file again would be told that it is on disk.
 * Throws if a folder cannot be synced, or such a file neither be moved nor deleted nor emptied, or the file system not write all that was waiting: then
 * nothing is certain, but all other such files have been put away.
 */
export function syncFiles(task: SyncTask, together = flushTogether): readonly SyncResult[] {
  const results = syncTogether(task, together)
  if (results !== null && results !== 'failed') return results
  const each = ofEach(task.files, (file, index) => syncFile(file, task.aside?.[index]))
  for (const folder of task.folders) syncFolderIfThere(folder)
  // What has its name still may not be on disk: who flushed it was not told again.
  if (results === 'failed') throw new PosixError('EIO', 'the file system could not write all that was waiting')
  return each
}

/** null: it cannot be done so, and nothing was done. 'failed': as FlushTogether. */
function syncTogether(task: SyncTask, together: FlushTogether): readonly SyncResult[] | 'failed' | null {
  const { files, folders, aside } = task
  const place = folders.at(-1)
  if (place === undefined || !isNumberForOneFlush(files.length)) return null
  const opened: (number | null)[] = []
  try {
    for (const file of files) opened.push(openIfThere(file))
    const fds = opened.filter((fd) => fd !== null)
    const flushed = together(fds, place)
    if (flushed === null || flushed === 'failed') return flushed
    const isOnDisk = new Map(fds.map((fd, index) => [fd, flushed[index] === true]))
    return ofEach(opened, (fd, index): SyncResult => {
      if (fd === null) return 'missing'
      return isOnDisk.get(fd) === true ? 'synced' : putAway(files[index] ?? '', aside?.[index])
    })
  } catch (error) {
    if (opened.length === files.length) throw error
    // One cannot be opened: by itself it tells why.
    return null
  } finally {
    for (const fd of opened) if (fd !== null) closeSync(fd)
  }
}

/** Throws what went wrong first, when it has come to the last. */
function ofEach<T, R>(items: readonly T[], result: (item: T, index: number) => R): R[] {
  const errors: unknown[] = []
  const results = items.flatMap((item, index) => {
    try {
      return [result(item, index)]
    } catch (error) {
      errors.push(error)
      return []
    }
  })
  if (errors.length > 0) throw errors[0]
  return results
}

function openIfThere(file: string): number | null {
  try {
    return openSync(file, 'r')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}

function syncFile(file: string, aside: string | undefined): SyncResult {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 'missing'
    if (OF_THE_PROCESS.has(codeOf(error))) throw error
    return putAside(file, aside)
  }
  try {
    fdatasyncSync(fd)
    return 'synced'
  } catch {
    return putAway(file, aside)
  } finally {
    closeSync(fd)
  }
}

/**
 * After a flush that failed. What cannot be moved, where the disk is full, say, is deleted, and what cannot be deleted, where its folder is damaged,
 * is emptied: what it has in memory must not be taken for written by the next.
 */
function putAway(file: string, aside: string | undefined): SyncResult {
  try {
    if (putAside(file, aside) === 'failed') return 'failed'
  } catch {
    // Deleting it tells what is wrong.
  }
  try {
    return putAside(file, undefined)
  } catch (error) {
    return emptied(file, error)
  }
}

/** No good copy for anybody, also after a restart of the node. Throws `error` where not even that can be done. */
function emptied(file: string, error: unknown): SyncResult {
  try {
    truncateSync(file)
    return 'failed'
  } catch {
    throw error
  }
}

function putAside(file: string, aside: string | undefined): SyncResult {
  const wasThere = aside === undefined ? removeFiles([file])[0] : moveFile({ from: file, to: aside })
  // Somebody may have removed it meanwhile.
  return wasThere === true ? 'failed' : 'missing'
}

/** A folder that was never made names none of the files. */
export function syncFolderIfThere(folder: string): void {
  try {
    syncFolder(folder)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
  }
}

/** The file has this text, and is on disk, or it is as it was: written as FILE.new, and renamed. Errors: what the disk says. */
export function replaceFile(file: string, text: string): void {
  const temporary = `${file}.new`
  const fd = openSync(temporary, 'w', 0o600)
  try {
    // All of it: what a disk that gets full takes of a write is no error.
    writeFileSync(fd, text)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, file)
  syncFolder(dirname(file))
}

/** fsync of a folder: its entries are on disk. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/**
 * The names of a folder, and of those above it, are on disk afterwards, as far as who asks may read where these are. Only in its file
 * system: nobody makes a folder there through one of another.
 */
export function syncNames(folder: string): void {
  let at = realpathSync(folder)
  const { dev } = statSync(at)
  for (let above = dirname(at); above !== at && statSync(above).dev === dev; above = dirname(at)) {
    try {
      syncFolder(above)
    } catch (error) {
      if (codeOf(error) !== 'EACCES') throw error
    }
    at = above
  }
}
