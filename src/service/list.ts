/** One page of a listing. */
import { isDots } from '../base/dots.js'
import { PosixError, isErrno } from '../base/errno.js'
import { CURSOR_BYTES, type FileType, type ListedEntry } from '../rpc/messages-file.js'
import type { Caller, VfsContract, VfsDirEntry } from '../vfs/contract.js'

/** A thousand names of 255 bytes, with attributes, fit into a frame's header. */
const PAGE_MAX_ENTRIES = 1000

export interface Page {
  readonly entries: readonly ListedEntry[]
  /** Go on after the last entry seen. */
  readonly cursor: Buffer
  readonly end: boolean
}

/** Without `.` and `..`. Errors: EINVAL for a cursor that is none. */
export async function listPage(
  vfs: VfsContract,
  caller: Caller,
  handle: number,
  request: { readonly cursor: Buffer; readonly limit: number; readonly plus: boolean },
): Promise<Page> {
  const limit = Math.min(PAGE_MAX_ENTRIES, Math.max(1, request.limit))
  const entries: ListedEntry[] = []
  let offset = decodeCursor(request.cursor)
  // The VFS may answer fewer than asked; only an empty answer is the end.
  while (entries.length < limit) {
    const page = await vfs.readdir(handle, offset, limit - entries.length, request.plus)
    const last = page.at(-1)
    if (last === undefined) return { entries, cursor: encodeCursor(offset), end: true }
    offset = last.offset
    const named = page.filter(({ name }) => !isDots(name))
    entries.push(...(request.plus ? await withAttributes(vfs, caller, named) : named.map(plain)))
  }
  return { entries, cursor: encodeCursor(offset), end: false }
}

const plain = ({ name, ino, dtype }: VfsDirEntry): ListedEntry => ({ name, ino, type: typeOf(dtype) })

/** What the VFS did not have at hand is asked for; an entry removed meanwhile stays without. */
function withAttributes(
  vfs: VfsContract,
  caller: Caller,
  entries: readonly VfsDirEntry[],
): Promise<readonly ListedEntry[]> {
  return Promise.all(
    entries.map(async (entry) => {
      const attr = entry.attr ?? (await vfs.getattr(caller, entry.ino).catch(nullIfGone))
      return attr === null ? plain(entry) : { ...plain(entry), attr }
    }),
  )
}

function nullIfGone(error: unknown): null {
  if (isErrno(error, 'ENOENT') || isErrno(error, 'ESTALE')) return null
  throw error
}

function decodeCursor(cursor: Buffer): bigint {
  if (cursor.length === 0) return 0n
  if (cursor.length !== CURSOR_BYTES) throw new PosixError('EINVAL', 'not a cursor')
  return cursor.readBigUInt64BE()
}

function encodeCursor(offset: bigint): Buffer {
  const cursor = Buffer.alloc(CURSOR_BYTES)
  cursor.writeBigUInt64BE(offset)
  return cursor
}

/** d_type of dirent(3). */
const TYPES = new Map<number, FileType>([
  [1, 'fifo'],
  [2, 'char'],
  [4, 'directory'],
  [6, 'block'],
  [8, 'file'],
  [10, 'symlink'],
  [12, 'socket'],
])

function typeOf(dtype: number): FileType {
  return TYPES.get(dtype) ?? 'file'
}
