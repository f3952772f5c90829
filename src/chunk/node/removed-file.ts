/**
 * Files of what was removed from a node while one of its disks was away: removed/<id of that disk>, on the disks that were there.
 *
 *     entry: id (u64, big endian) | CRC-32 of these 8 bytes        12 bytes, one behind the other
 *
 * Invariants:
 * - An entry that is not whole, or was never on disk, is none: nothing is removed that was not noted.
 * - A whole entry is never written over, nor cut off: it was acknowledged. One process notes in a file, one call at a time.
 * - A file with an entry has its name on disk.
 *
 * Synchronous: it runs in a worker.
 */
import { codeOf } from '../../base/errors.js'
import { makeFolders } from '../../base/make-folders.js'
import { closeSync, constants, fdatasyncSync, fstatSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'
import { syncFolder, syncFolderIfThere } from './files.js'

const ID_BYTES = 8
const ENTRY_BYTES = 12

export interface NoteTask {
  readonly files: readonly string[]
  readonly ids: readonly number[]
  /** Of each file. */
  readonly maxBytes: number
}

export interface NotedTask {
  readonly files: readonly string[]
}

export interface DropTask extends NotedTask {
  /** On disk before the files go. */
  readonly after: readonly string[]
}

/** `disk`: the one that is away. */
export function removedFile(folder: string, disk: string): string {
  return join(folder, 'removed', disk)
}

/** On disk when it returns; answers for each file whether it had room. Errors: what the disk says. */
export function noteRemoved({ files, ids, maxBytes }: NoteTask): readonly boolean[] {
  const entries = encodeEntries(ids)
  return files.map((file) => append(file, entries, maxBytes))
}

function encodeEntries(ids: readonly number[]): Buffer {
  const entries = Buffer.alloc(ids.length * ENTRY_BYTES)
  for (const [index, id] of ids.entries()) {
    const at = index * ENTRY_BYTES
    entries.writeBigUInt64BE(BigInt(id), at)
    entries.writeUInt32BE(crc32(entries.subarray(at, at + ID_BYTES)), at + ID_BYTES)
  }
  return entries
}

function append(file: string, entries: Buffer, maxBytes: number): boolean {
  const fd = openForNotes(file)
  try {
    const { size } = fstatSync(fd)
    // What a crash has left behind the last whole entry is written over.
    const position = size - (size % ENTRY_BYTES)
    if (position + entries.length > maxBytes) return false
    if (position === 0) syncNames(file)
    for (let done = 0; done < entries.length;) {
      done += writeSync(fd, entries, done, entries.length - done, position + done)
    }
    fdatasyncSync(fd)
    return true
  } finally {
    closeSync(fd)
  }
}

function openForNotes(file: string): number {
  makeFolders(dirname(file), 0o700)
  return openSync(file, constants.O_WRONLY | constants.O_CREAT, 0o600)
}

function syncNames(file: string): void {
  for (const folder of [dirname(file), dirname(dirname(file))]) syncFolder(folder)
}

/** All that is noted in these files, each once, in rising order. Files that are not there are empty. Errors: what the disk says. */
export function readRemoved({ files }: NotedTask): Float64Array {
  const ids = Float64Array.from(files.flatMap(idsIn)).sort()
  return ids.filter((id, index) => index === 0 || id !== ids[index - 1])
}

function idsIn(file: string): number[] {
  const bytes = contentOf(file)
  const ids: number[] = []
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    const id = bytes.subarray(at, at + ID_BYTES)
    if (crc32(id) === bytes.readUInt32BE(at + ID_BYTES)) ids.push(Number(id.readBigUInt64BE()))
  }
  return ids
}

function contentOf(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return Buffer.alloc(0)
    throw error
  }
}

/** Errors: what the disk says. */
export function dropRemoved({ files, after }: DropTask): void {
  for (const folder of after) syncFolderIfThere(folder)
  for (const file of files) {
    try {
      unlinkSync(file)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error
    }
  }
}
