/** Directory entries as READDIR and READDIRPLUS answer them: struct fuse_dirent and fuse_direntplus. */
import { isDots } from '../../base/dots.js'
import type { Attr, VfsDirEntry } from '../../vfs/contract.js'
import { ENTRY_BYTES, writeEntry, writeU64, type Lifetimes } from './wire.js'

const DIRENT_BYTES = 24
const ALIGN = 8

/** What the kernel is to be told of an entry: kernel-cache.ts. */
export type Describe = (name: Buffer, attr: Attr) => Lifetimes & { readonly attr: Attr }

/** As many as fit. The kernel asks for the rest from the offset of the last. With `describe`: READDIRPLUS. */
export function encodeEntries(entries: readonly VfsDirEntry[], room: number, describe: Describe | null): Buffer {
  const plus = describe !== null
  const out = Buffer.allocUnsafe(
    Math.min(
      room,
      entries.reduce((sum, one) => sum + entryBytes(one, plus), 0),
    ),
  )
  let at = 0
  for (const entry of entries) {
    const bytes = entryBytes(entry, plus)
    if (at + bytes > room) break
    if (plus) at += writePlus(out, at, entry, describe)
    at += writeDirent(out, at, entry)
  }
  return out.subarray(0, at)
}

function entryBytes(entry: VfsDirEntry, plus: boolean): number {
  return (plus ? ENTRY_BYTES : 0) + Math.ceil((DIRENT_BYTES + entry.name.length) / ALIGN) * ALIGN
}

/** An entry without attributes (and . and ..) has node id 0: the kernel looks it up when it needs it. */
function writePlus(out: Buffer, at: number, entry: VfsDirEntry, describe: Describe): number {
  if (entry.attr === undefined || isDots(entry.name)) out.fill(0, at, at + ENTRY_BYTES)
  else {
    const { attr, ...lifetimes } = describe(entry.name, entry.attr)
    writeEntry(out, at, attr, lifetimes)
  }
  return ENTRY_BYTES
}

function writeDirent(out: Buffer, at: number, entry: VfsDirEntry): number {
  const bytes = entryBytes(entry, false)
  writeU64(out, entry.ino, at)
  out.writeBigUInt64LE(entry.offset, at + 8)
  out.writeUInt32LE(entry.name.length, at + 16)
  out.writeUInt32LE(entry.dtype, at + 20)
  out.set(entry.name, at + DIRENT_BYTES)
  out.fill(0, at + DIRENT_BYTES + entry.name.length, at + bytes)
  return bytes
}
