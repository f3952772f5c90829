/** An inode of MemoryVfs. */
import type { TimeSpec } from '../../src/base/clock.js'
import { PosixError } from '../../src/base/errno.js'
import { NAME_MAX_BYTES } from '../../src/base/limits.js'
import type { InodeType } from '../../src/meta/contract.js'
import type { Attr } from '../../src/vfs/contract.js'
import type { MemoryFile } from './memory-file.js'

const DIRECTORY_BYTES = 4096

/** d_type of dirent(3). */
export const DTYPE: Readonly<Record<InodeType, number>> = {
  fifo: 1,
  char: 2,
  directory: 4,
  block: 6,
  file: 8,
  symlink: 10,
  socket: 12,
}

export interface Node {
  readonly ino: number
  readonly type: InodeType
  readonly rdev: number
  readonly file: MemoryFile
  readonly target: Buffer
  /** Names as latin1 strings, which keep every byte. */
  readonly entries: Map<string, number>
  readonly xattrs: Map<string, Buffer>
  readonly btime: TimeSpec
  mode: number
  uid: number
  gid: number
  nlink: number
  /** Made without a name, and has had none yet. */
  isTmp: boolean
  parent: number
  atime: TimeSpec
  mtime: TimeSpec
  ctime: TimeSpec
  dataVersion: number
  opens: number
}

/** Names as latin1 strings, which keep every byte. */
export function key(name: Buffer): string {
  return name.toString('latin1')
}

/** Errors: PosixError ENOENT, ENAMETOOLONG. */
export function checkName(name: Buffer): void {
  if (name.length === 0) throw new PosixError('ENOENT')
  if (name.length > NAME_MAX_BYTES) throw new PosixError('ENAMETOOLONG')
}

export function attrOf(node: Node): Attr {
  const { ino, type, mode, uid, gid, nlink, rdev, atime, mtime, ctime, btime, dataVersion } = node
  const times = { atime, mtime, ctime, btime }
  const parent = type === 'directory' ? node.parent : 0
  const hasXattrs = node.xattrs.size > 0
  const flags = { hasExtents: false, hasBody: false }
  return {
    ino,
    type,
    mode,
    uid,
    gid,
    nlink,
    rdev,
    ...times,
    dataVersion,
    parent,
    hasXattrs,
    ...flags,
    ...sizesOf(node),
  }
}

function sizesOf(node: Node): { sizeBytes: number; allocatedBytes: number } {
  if (node.type === 'directory') return { sizeBytes: DIRECTORY_BYTES, allocatedBytes: DIRECTORY_BYTES }
  if (node.type === 'symlink') return { sizeBytes: node.target.length, allocatedBytes: 0 }
  return { sizeBytes: node.file.sizeBytes, allocatedBytes: node.file.allocatedBytes }
}
