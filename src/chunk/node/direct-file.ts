/**
 * Reading and writing past the page cache (O_DIRECT, open(2)). What the page cache costs a large chunk is its memory: a fresh
 * page takes longer to get than its 4 KiB take to hash. And what went past it needs no write-back at an fsync.
 *
 * It needs memory, offsets and lengths in whole blocks. Whatever refuses it (a filesystem without it, memory that does not
 * begin on a page) says EINVAL, and the caller goes through the page cache as ever.
 */
import { codeOf } from '../../base/errors.js'
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import { pageAlignedMemory } from '../../base/shared-memory.js'
import { KIB } from '../../base/limits.js'
import { sumBytes } from '../hash.js'
import { writeAll } from './write-all.js'

/** A multiple of every block size in use. */
const BLOCK_BYTES = 4 * KIB
const SCRATCH_BYTES = 128 * KIB

/** Shorter ones are not worth it: a page cache hit is far quicker than a disk. */
export const DIRECT_MIN_BYTES = 256 * KIB

let scratch: Buffer | null = null

function direct(): number {
  // Not on every system.
  return Reflect.has(constants, 'O_DIRECT') ? constants.O_DIRECT : 0
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES
}

/** Is it worth trying? Memory that does not begin on a page itself is found out by the kernel. */
export function canBeDirect(data: readonly Uint8Array[]): boolean {
  if (sumBytes(data) < DIRECT_MIN_BYTES || direct() === 0) return false
  const last = data.length - 1
  return data.every(({ byteOffset, length }, index) => {
    return byteOffset % BLOCK_BYTES === 0 && (index === last || length % BLOCK_BYTES === 0)
  })
}

/**
 * Makes `file` of prefix and data. false: it cannot be done this way; the file may be there, in part.
 * Errors: what the disk says.
 */
export function writeDirect(file: string, prefix: Uint8Array, data: readonly Uint8Array[]): boolean {
  const last = data.at(-1)
  if (last === undefined || !canBeDirect(data)) return false
  if (prefix.length % BLOCK_BYTES !== 0 || prefix.length > SCRATCH_BYTES) return false
  const tailBytes = last.length % BLOCK_BYTES
  const [whole, tail] = [last.subarray(0, last.length - tailBytes), last.subarray(last.length - tailBytes)]
  try {
    writeBlocks(file, prefix, [...data.slice(0, -1), whole])
  } catch (error) {
    if (codeOf(error) === 'EINVAL') return false
    throw error
  }
  if (tailBytes > 0) writeTail(file, tail, prefix.length + sumBytes(data) - tailBytes)
  return true
}

function writeBlocks(file: string, prefix: Uint8Array, data: readonly Uint8Array[]): void {
  scratch ??= Buffer.from(pageAlignedMemory(SCRATCH_BYTES))
  scratch.set(prefix)
  const fd = openSync(file, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | direct(), 0o600)
  try {
    // What a full disk does not take are whole blocks, too.
    writeAll(fd, [scratch.subarray(0, prefix.length), ...data])
  } finally {
    closeSync(fd)
  }
}

function writeTail(file: string, data: Uint8Array, position: number): void {
  const fd = openSync(file, 'r+')
  try {
    for (let at = 0; at < data.length;) at += writeSync(fd, data, at, data.length - at, position + at)
  } finally {
    closeSync(fd)
  }
}

/**
 * Fills `into` from `position` of the file. `into` begins on a page and its memory goes on to a block's end.
 * null: it cannot be done this way. Else how many bytes there were: fewer than fit only at the end of the file.
 * Errors: what the disk says.
 */
export function readDirect(file: string, position: number, into: Uint8Array): number | null {
  const wantedBytes = roundUp(into.length)
  const fits = into.byteOffset + wantedBytes <= into.buffer.byteLength
  if (!fits || position % BLOCK_BYTES !== 0 || into.byteOffset % BLOCK_BYTES !== 0 || direct() === 0) return null
  const memory = new Uint8Array(into.buffer, into.byteOffset, wantedBytes)
  try {
    const fd = openSync(file, constants.O_RDONLY | direct())
    try {
      return Math.min(into.length, readBlocks(fd, position, memory, into.length))
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (codeOf(error) === 'EINVAL') return null
    throw error
  }
}

function readBlocks(fd: number, position: number, memory: Uint8Array, wantedBytes: number): number {
  let got = 0
  while (got < wantedBytes) {
    const count = readSync(fd, memory, got, memory.length - got, position + got)
    got += count
    // A read that ends inside a block has come to the end of the file.
    if (count === 0 || got % BLOCK_BYTES !== 0) break
  }
  return got
}
