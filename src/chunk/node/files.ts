/** Synchronous work on many files: deleting, fdatasync, counting. Runs in a worker. */
import { closeSync, existsSync, fdatasyncSync, fsyncSync, openSync, readdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf } from '../outcome.js'
import type { FilesTask, SyncResult, SyncTask } from './tasks.js'

/** Answers for each file whether it was there. */
export function removeFiles(files: readonly string[]): readonly boolean[] {
  return files.map((file) => {
    try {
      unlinkSync(file)
      return true
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw error
    }
  })
}

export function existingFiles({ files }: FilesTask): readonly boolean[] {
  return files.map((file) => existsSync(file))
}

/**
 * First the data of all files, then the folders that name them: after it, what is 'synced' survives a loss of power.
 * Throws if a folder cannot be synced: then none of the names is certain.
 */
export function syncFiles(task: SyncTask): readonly SyncResult[] {
  const results = task.files.map(syncFile)
  for (const folder of task.folders) syncFolderIfThere(folder)
  return results
}

function syncFile(file: string): SyncResult {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    return codeOf(error) === 'ENOENT' ? 'missing' : 'failed'
  }
  try {
    fdatasyncSync(fd)
    return 'synced'
  } catch {
    // Linux marks the pages clean after a failed write-back: a second fdatasync would say yes without having written.
    return 'failed'
  } finally {
    closeSync(fd)
  }
}

/** A folder that was never made names none of the files. */
function syncFolderIfThere(folder: string): void {
  try {
    syncFolder(folder)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
  }
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

/** Files in the two levels of chunk folders below `folder`. */
export function countChunks(folder: string): number {
  let count = 0
  for (const outer of folders(folder)) {
    for (const inner of folders(outer)) count += readdirSync(inner).length
  }
  return count
}

function folders(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(path, entry.name))
}
