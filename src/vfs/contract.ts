/**
 * What the VFS offers to FUSE drivers and to FileService: POSIX semantics on inodes and handles.
 * Every failed call throws PosixError.
 */
import type { TimeSpec } from '../base/clock.js'
import type { Durability } from '../chunk/contract.js'
import type {
  Attr,
  AttrChange,
  DirEntry,
  FileLock,
  LockConflict,
  LockRange,
  RenameFlags,
  RenameReply,
  Seen,
} from '../meta/contract.js'

export type { Attr, AttrChange, DirEntry, Durability, FileLock, LockConflict, RenameFlags, RenameReply, Seen, TimeSpec }

/** Who calls. Permission checks are the kernel's (default_permissions) or FileService's; the VFS uses it for ownership. */
export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly pid: number
  /** Taken from the modes of what this call makes, or not: see NewInode in meta/contract.ts. Default 0. */
  readonly umask?: number
  /** CAP_FSETID: what this caller writes or cuts keeps its set-id bits. Default: root has it. */
  readonly keepsSetid?: boolean
}

/** Flags as in open(2) on Linux: O_ACCMODE, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, … */
export type OpenFlags = number

export interface VfsDirEntry {
  readonly name: Buffer
  readonly ino: number
  /** S_IFMT bits >> 12, as d_type in dirent(3). */
  readonly dtype: number
  readonly attr?: Attr
  /** telldir position: give it back to readdir to go on after this entry. Above 0, below 2^63; stable for the handle. */
  readonly offset: bigint
}

export interface OpenedFile {
  readonly attr: Attr
  readonly handle: number
  /** The next read changes the access time: it must come here and not be answered from a page cache. Default false. */
  readonly atimeDue?: boolean
  /** `flush` has nothing to do at its closes: opened to read, and this mount has not locked the file. Default false. */
  readonly needsNoFlush?: boolean
}

export interface CreatedFile extends OpenedFile {
  /** false: the name existed. Nobody has checked the caller's rights to that file. */
  readonly created: boolean
}

/** Which reads change the access time: access-times.ts. */
export type AtimePolicy = 'relatime' | 'noatime' | 'strictatime'

export interface StatFs {
  readonly blockBytes: number
  readonly blocks: number
  readonly blocksFree: number
  readonly files: number
  readonly filesFree: number
  readonly nameMaxBytes: number
}

/** A lock that is set, or what is set in its range taken away. */
export interface LockChange extends LockRange {
  readonly type: 'read' | 'write' | 'unlock'
  readonly pid: number
}

/** What became false of answers given before. */
export type Invalidation =
  | { readonly kind: 'attr'; readonly ino: number }
  /** Contents and attributes. */
  | { readonly kind: 'data'; readonly ino: number }
  /** What a name means, or that there is none. */
  | { readonly kind: 'entry'; readonly parent: number; readonly name: Buffer }
  | { readonly kind: 'all' }

/**
 * For a driver whose kernel keeps answers. It may give a lifetime to what `attr` and `entry` answer in the very turn in
 * which it encodes the reply: they answer only what is known to be true now, and all that becomes false later is told
 * by onInvalidate. What the kernel itself changed through this driver is not told: it knows.
 */
export interface VfsCoherence {
  /** How long from now anything may be kept, in milliseconds; 0: nothing may. */
  lifetimeMs(): number
  /** Attributes as getattr would answer them; undefined when it would have to ask. */
  attr(ino: number): Attr | undefined
  /** The inode of a name; 0: there is none; undefined when lookup would have to ask. */
  entry(parent: number, name: Buffer): number | undefined
  /** Whether anybody has the file open. */
  isOpen(ino: number): boolean
  /** Whether the listener has heard of every change of names in this directory that has ended, and will until this turn is over. */
  holds(directory: number): boolean
  /** Resolves when the listener has heard of every change that ended before this call. */
  caughtUp(): Promise<void>
  /** One listener. */
  onInvalidate(listener: (what: Invalidation) => void): void
  /**
   * One listener. What was written through this VFS has become the store's, or was tidied up there, and that alone made
   * `dataVersion` of the one before. Called before anything that waits for it goes on.
   */
  onCommitted(listener: (ino: number, dataVersion: number) => void): void
  /** Tells the listener: for other users of the same VFS in this process, whose changes the kernel does not know of. */
  invalidate(what: Invalidation): void
}

/**
 * What can be answered in the turn in which it is asked: as the calls of the same names would answer it now. undefined or
 * false: nothing was done, and only the call itself can tell. Nothing here throws.
 */
export interface VfsAtHand {
  getattr(ino: number): Attr | undefined
  /** null: there is no such name (ENOENT). */
  lookup(parent: number, name: Buffer): Attr | null | undefined
  /** Any getxattr of a name that may be is ENODATA. */
  hasNoXattrs(ino: number): boolean
  /**
   * Takes all of these bytes and answers how many; undefined: none was taken. `kills`: the writer may not write to a file with
   * set-id bits and leave them.
   */
  write(handle: number, offset: number, data: Uint8Array, kills: boolean): number | undefined
  /** true: done. */
  flush(handle: number, owner?: string): boolean
  /** true: done. */
  release(handle: number): boolean
}

/** Of one write. */
export interface WriteSettings {
  /**
   * How many owners must have these bytes when they are sent to the chunk nodes, in place of the mount's own setting; bytes
   * gathered into one chunk get the strongest that was asked for any of them.
   */
  readonly durability?: Durability
  /** O_APPEND and O_DSYNC as they are for it, in place of those of the open: fcntl(2) F_SETFL, pwritev2(2) RWF_DSYNC, a mount with `sync`. */
  readonly flags?: OpenFlags
}

export interface VfsContract {
  readonly coherence: VfsCoherence
  readonly atHand: VfsAtHand

  lookup(caller: Caller, parent: number, name: Buffer): Promise<Attr>
  /** With what is buffered here and not committed yet. */
  /** `anew`: as the store has it, whatever is known here. */
  getattr(caller: Caller, ino: number, anew?: boolean): Promise<Attr>
  setattr(caller: Caller, ino: number, change: AttrChange, handle?: number): Promise<Attr>
  readlink(caller: Caller, ino: number): Promise<Buffer>

  mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number): Promise<Attr>
  mkdir(caller: Caller, parent: number, name: Buffer, mode: number): Promise<Attr>
  symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Promise<Attr>
  link(caller: Caller, ino: number, parent: number, name: Buffer): Promise<Attr>
  /** Answers the inode whose name it was. So does rmdir. */
  unlink(caller: Caller, parent: number, name: Buffer): Promise<number>
  rmdir(caller: Caller, parent: number, name: Buffer): Promise<number>
  rename(
    caller: Caller,
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
  ): Promise<RenameReply>

  create(caller: Caller, parent: number, name: Buffer, mode: number, flags: OpenFlags): Promise<CreatedFile>
  /** open(2) with O_TMPFILE in a directory: a file without a name, which `link` may give one. */
  tmpfile(caller: Caller, parent: number, mode: number, flags: OpenFlags): Promise<OpenedFile>
  /**
   * Sees everything that any client closed or synced before. O_TRUNC is honoured. ESTALE: a name by which the file was known here is
   * not its own any more; not if it `isPinned`.
   */
  open(caller: Caller, ino: number, flags: OpenFlags, isPinned?: boolean): Promise<OpenedFile>
  /**
   * For a driver whose kernel is led to an inode by its name and comes to open it a moment later: until `unpin`, called as
   * often, it does not go with its last name. ENOENT: it has none now.
   */
  pin(ino: number): Promise<void>
  unpin(ino: number): void
  /** Short only at the end of the file. */
  read(handle: number, offset: number, lengthBytes: number): Promise<Buffer>
  /**
   * As `read`, in pieces, in order, that may lie where they are kept for others: nobody writes there, and whoever asked gives each of them back
   * (base/lent.ts), or it is kept for ever. For a driver that hands them on at once.
   */
  readPieces(handle: number, offset: number, lengthBytes: number): Promise<readonly Buffer[]>
  /**
   * `data` is copied before the promise settles. With O_APPEND the offset is ignored. Answers the bytes taken: all but
   * those behind the largest size (EFBIG if there are no others).
   */
  write(handle: number, offset: number, data: Uint8Array, settings?: WriteSettings): Promise<number>
  /**
   * Bytes of the kernel's page cache (a shared mapping) at their place: written by nobody in particular, through any
   * handle of the inode, so that O_APPEND, its access mode and O_SYNC mean nothing.
   */
  writeBack(handle: number, offset: number, data: Uint8Array): Promise<number>
  /**
   * fallocate(2), mode 0 or bits of FALLOC_FL_*. Room is checked, not reserved: a later write may still find the nodes
   * full. EOPNOTSUPP for what shifts data (COLLAPSE_RANGE, INSERT_RANGE) and for UNSHARE_RANGE.
   */
  fallocate(handle: number, mode: number, offset: number, lengthBytes: number): Promise<void>
  /** lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4): ENXIO at the end of the file, and behind the last data. */
  seek(handle: number, offset: number, whence: number): Promise<number>
  /**
   * copy_file_range(2) without moving bytes: the target names the source's chunks. Answers how many bytes: fewer at the
   * end of the source and of what one call does. EOPNOTSUPP where copying the bytes is the better, or the only, way.
   */
  copyRange(
    source: number,
    sourceOffset: number,
    target: number,
    targetOffset: number,
    lengthBytes: number,
  ): Promise<number>
  /**
   * close(2): everything written through any handle of the inode is committed; reports failed background writes. `owner`:
   * whose record locks on the inode go with it.
   */
  flush(handle: number, owner?: string): Promise<void>
  fsync(handle: number, dataOnly: boolean): Promise<void>
  /** The last reference of the handle is gone. Flushes what flush did not; locks that were set through it alone go. */
  release(handle: number): Promise<void>

  /** fcntl(2) F_GETLK: the first lock in the way. */
  getlk(handle: number, lock: FileLock): Promise<LockConflict | null>
  /**
   * fcntl(2) F_SETLK and, with `wait`, F_SETLKW; flock(2). Afterwards the file is seen as it is in the store, and everything
   * written before is committed. EAGAIN: it is held, or with `wait` EDEADLK. EINTR: `signal` was aborted before the grant.
   * EIO: a lock on the file was lost with the session (as is every read and write until the handle is closed).
   */
  setlk(handle: number, change: LockChange, wait: boolean, signal?: AbortSignal): Promise<void>

  opendir(caller: Caller, ino: number): Promise<number>
  /** From offset 0n or after an entry; with `.` and `..`; at most `limit` entries; empty at the end. */
  readdir(handle: number, offset: bigint, limit: number, plus: boolean): Promise<readonly VfsDirEntry[]>
  releasedir(handle: number): void
  fsyncdir(handle: number): Promise<void>

  /** Attributes of `system.` are the POSIX ACLs; limits: see meta/contract.ts. */
  getxattr(ino: number, name: Buffer): Promise<Buffer>
  listxattr(ino: number): Promise<readonly Buffer[]>
  /**
   * flags: XATTR_CREATE 1, XATTR_REPLACE 2 (setxattr(2)). `clearSgid`: an access ACL set by somebody who is not in the
   * file's group and has no CAP_FSETID. `seen`, of the ACLs: see AttrChange.
   */
  setxattr(ino: number, name: Buffer, value: Buffer, flags: number, clearSgid?: boolean, seen?: Seen): Promise<void>
  removexattr(ino: number, name: Buffer, seen?: Seen): Promise<void>

  statfs(): Promise<StatFs>
  /** Commits everything buffered; with `durable`, as fsync. */
  syncAll(durable: boolean): Promise<void>
  /** syncAll, then ends. Rejects when something was lost that nobody was told of, also if it was before. */
  shutdown(): Promise<void>
}
