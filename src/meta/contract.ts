/**
 * What the metadata store offers to the VFS. One implementation: engine.ts, on Redis Cluster.
 *
 * Names, symlink targets and xattr values are bytes (Buffer), never decoded. Inode numbers are integers below 2^49.
 * Every failed call throws PosixError; a lost session throws RingfsError SESSION_LOST.
 */
import type { TimeSpec } from '../base/clock.js'
import type { ChunkRef } from '../chunk/contract.js'
import type { VolumeSettings } from '../cluster/contract.js'
import type { InlineStore } from './inline-contract.js'

export { BODIES_CROWDED_SHARE, BODY_PIECE_BYTES, EXTENT_BYTES } from './inline-contract.js'
export type { BodyMove, InlineCommitRequest, OldBodies, OldBody } from './inline-contract.js'

export type InodeType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block'

export interface Attr {
  readonly ino: number
  readonly type: InodeType
  /** Permission bits with suid, sgid and sticky: 0 to 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly nlink: number
  /** Bytes; of a symlink the length of its target; of a directory 4096. */
  readonly sizeBytes: number
  /** Bytes of data stored, holes not counted: st_blocks * 512, about. */
  readonly allocatedBytes: number
  /** As in struct stat st_rdev: (major << 8) | minor in the kernel's encoding; 0 but for char and block. */
  readonly rdev: number
  readonly atime: TimeSpec
  readonly mtime: TimeSpec
  readonly ctime: TimeSpec
  readonly btime: TimeSpec
  /** Rises with every change of the file's data or size. Cached data of an older version is stale. */
  readonly dataVersion: number
  /** Directories: ino of the parent (the root's is itself). Others: 0. */
  readonly parent: number
  /** false: there are certainly neither extended attributes nor ACLs, so nobody needs to ask for any. */
  readonly hasXattrs: boolean
  /** Regular files: some of the data is in chunks. */
  readonly hasExtents: boolean
  /** Regular files: some of the data is kept by the store itself. */
  readonly hasBody: boolean
}

export interface NewInode {
  readonly type: InodeType
  readonly mode: number
  /** Taken from the mode, unless the directory has a default ACL, which then says what is taken. Default 0. */
  readonly umask?: number
  readonly uid: number
  readonly gid: number
  readonly rdev?: number
  /** Symlinks: the target, 1 to SYMLINK_MAX_BYTES. */
  readonly target?: Buffer
}

/**
 * Only what is given changes. ctime is set by the store. A change of owner clears suid and sgid as chown(2) says, one of
 * owner or size takes file capabilities away, and one of mode changes the access ACL with it.
 */
export interface AttrChange {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly sizeBytes?: number
  /** Regular files: suid, sgid if the group may execute, and capabilities go; what a writer without CAP_FSETID does. */
  readonly dropPrivileges?: boolean
  readonly atime?: TimeSpec | 'now'
  readonly mtime?: TimeSpec | 'now'
  /** What its maker's rights were judged by: where the inode is not so, nothing is done (ChangedHandsError). */
  readonly seen?: Seen
}

/** Of an inode; without a group or a mode it may have any. */
export interface Seen {
  readonly uid: number
  readonly gid?: number
  readonly mode?: number
}

/** The access time of an inode after a read; void if it is not `replaces` any more. */
export interface AccessTime {
  readonly ino: number
  readonly replaces: TimeSpec
  readonly atime: TimeSpec
}

/** A piece of a file. `chunk` null: a hole that reads as zeros (it hides earlier extents below it). */
export interface Extent {
  readonly fileOffset: number
  readonly lengthBytes: number
  readonly chunk: ChunkRef | null
  /** Where the piece starts inside the chunk. */
  readonly chunkOffset: number
}

/** Bytes of a small file that the store keeps itself, verified; null: a hole. */
export interface BodyPiece {
  readonly fileOffset: number
  readonly lengthBytes: number
  readonly bytes: Buffer | null
}

/**
 * The extents of one window (WINDOW_BYTES) of a file, in commit order: where two overlap the later wins.
 * Append-only within a generation, so a reader asks only for what is new; compaction begins a new generation.
 */
export interface ExtentWindow {
  readonly window: number
  readonly generation: number
  /** The file's, at the same moment. */
  readonly dataVersion: number
  readonly extents: readonly Extent[]
  /** Of window 0 of a file that has one: pieces in commit order, below all extents. */
  readonly body?: readonly BodyPiece[]
}

export interface OpenReply {
  readonly attr: Attr
  /** Window 0, when it came along without a further round trip. */
  readonly window0?: ExtentWindow
}

export interface OpenOptions {
  readonly truncate: boolean
  /** The data version of which the caller has window 0, with the body: it does not come again then. */
  readonly have?: number
  /** With `truncate`: see AttrChange. */
  readonly dropPrivileges?: boolean
}

export interface CreateReply {
  readonly attr: Attr
  /** false: the name existed and `exclusive` was not asked; attr is the existing file's. */
  readonly created: boolean
}

export interface CommitRequest {
  readonly extents: readonly Extent[]
  /**
   * 'at': extents lie where they say. 'append': fileOffset counts from 0 and the store adds the file's size at the
   * moment of the commit.
   */
  readonly mode: 'at' | 'append'
  /** Bytes newly allocated by this commit, overwritten ones not counted, as far as the writer knows. May be negative. */
  readonly allocatedDeltaBytes: number
  /** mtime and ctime; the store's caller measured it when the data was written. */
  readonly mtime: TimeSpec
  /**
   * Bytes that waited for this commit: where the file's mtime is a later one already, of what another client wrote, theirs is the time of
   * the commit. Not where it was set ahead of the last change: then it is theirs as told.
   */
  readonly neverBack?: true
  /** Clear suid and sgid: a write by someone without CAP_FSETID. */
  readonly clearSuid?: boolean
  /** Size to grow to at least, for a commit whose last bytes are a hole; 'at' only. */
  readonly minSizeBytes?: number
}

export interface CommitReply {
  readonly attr: Attr
  /** 'append': where the data went. */
  readonly baseOffset: number
  /** The bytes are committed, and the attributes are as they were: they are for a setattr. */
  readonly attributesLeft?: true
  /**
   * 'append' only, set when nothing was committed because an extent would lie across two windows: the caller cuts its
   * data after this many bytes into two chunks and commits the extents of both, at once.
   */
  readonly cutAfterBytes?: number
}

/** Windows that have extents, ascending. */
export interface WindowList {
  readonly attr: Attr
  readonly windows: readonly number[]
}

export interface PackingGround {
  /** A chunk whose order is above it no backup names. */
  readonly keptOrder: number
  /** Chunks that other windows may name, too. */
  readonly shared: ReadonlySet<number>
}

/** A range that is to read as zeros. */
export interface PunchRequest {
  readonly offset: number
  readonly lengthBytes: number
  /**
   * Those with extents in the range, ascending, at most PUNCH_WINDOWS_MAX -> bytes allocated by this, 0 or less. Others have theirs later.
   */
  readonly windows: ReadonlyMap<number, number>
  readonly mtime: TimeSpec
  readonly clearSuid: boolean
  /** Size to grow to at least. */
  readonly minSizeBytes: number
}

export const PUNCH_WINDOWS_MAX = 64

/** An extent of one file that names a chunk which another window names already. */
export interface ClonedExtent {
  readonly extent: Extent
  /** The window of the source that it was taken from. */
  readonly sourceWindow: number
}

export interface CloneRequest {
  /** The file whose chunks these are: the same, or another. */
  readonly source: number
  /** Data versions of source and target that the extents were made for: if either has changed, nothing is done. */
  readonly sourceVersion: number
  readonly version: number
  /** In any windows of the target, each in one; ordered by place. */
  readonly extents: readonly ClonedExtent[]
  readonly allocatedDeltaBytes: number
  readonly mtime: TimeSpec
  readonly clearSuid: boolean
  /** Size to grow to at least. */
  readonly minSizeBytes: number
}

export interface DirEntry {
  readonly name: Buffer
  readonly ino: number
  readonly type: InodeType
  /** With `plus`, when it could be had in the same round trip. */
  readonly attr?: Attr
  /** Continue after this entry. Stays valid while others add and remove names; opaque. */
  readonly cursor: DirCursor
}

export interface DirCursor {
  readonly score: number
  readonly name: Buffer | null
}

export interface ReaddirReply {
  readonly entries: readonly DirEntry[]
  readonly end: boolean
}

export type XattrMode = 'any' | 'create' | 'replace'

export interface RenameFlags {
  /** RENAME_NOREPLACE: EEXIST if the new name exists. */
  readonly noReplace?: boolean
  /** RENAME_EXCHANGE: both names must exist, and trade what they name. Not with noReplace. */
  readonly exchange?: boolean
}

/** Inodes. */
export interface RenameReply {
  /** What the old name meant, and the new one means. */
  readonly moved: number
  /** What the new name meant; 0: nothing. Where it is `moved`, nothing was done: both are names of one file. */
  readonly replaced: number
}

export interface Usage {
  readonly usedBytes: number
  readonly inodes: number
}

/** fcntl(2) record locks and open file description locks; flock(2). The two kinds do not see each other. */
export type LockKind = 'posix' | 'flock'

/** Bytes from `start` up to `end`, which is not among them. To the end of the file, however long it gets: LOCK_END. */
export interface LockRange {
  readonly kind: LockKind
  /** Whose lock: distinguishes owners within a session; not longer than 64 letters and digits. */
  readonly owner: string
  readonly start: bigint
  readonly end: bigint
}

export interface FileLock extends LockRange {
  readonly type: 'read' | 'write'
  readonly pid: number
}

export const LOCK_END = 2n ** 63n

/** A lock that keeps another from being granted. */
export interface LockConflict {
  readonly type: 'read' | 'write'
  readonly start: bigint
  readonly end: bigint
  readonly pid: number
  /** Held in this session. */
  readonly isOurs: boolean
}

/** What another client changed. Delivered in order for one inode; lost messages show as `lost`. */
export type MetaEvent =
  | { readonly kind: 'attr'; readonly ino: number }
  | { readonly kind: 'data'; readonly ino: number }
  | { readonly kind: 'entry'; readonly parent: number; readonly name: Buffer }
  /** The subscription or the lease was lost: nothing cached may be used. */
  | { readonly kind: 'lost' }
  /** It is back: caching may begin again, from empty. */
  | { readonly kind: 'back' }
  /** Changes by others in these partitions are not told any more: nothing that is known of them may be used. */
  | { readonly kind: 'ignored'; readonly partitions: ReadonlySet<number> }
  /** They are told again: what was asked before may not be kept. */
  | { readonly kind: 'heard'; readonly partitions: ReadonlySet<number> }
  /**
   * Another client ended our session: the file locks held in it (`of`: on these inodes) are others' by now. Told before anything is sent in the
   * new session, so that what was written under such a lock can be kept from being committed.
   */
  | { readonly kind: 'locksLost'; readonly of?: (ino: number) => boolean }
  /**
   * A server that took another's place does not have the last changes of these inodes that we were told are done, and that no
   * fsync has made durable. What was lost is not known.
   */
  | { readonly kind: 'tailLost'; readonly of: (ino: number) => boolean }

/** Told the attributes of a directory as a change of a name in it left them, where they came along with the reply. */
export type SawDirectory = (attr: Attr) => void

/** Since the start. */
export interface DelegationFigures {
  /** Opens that nobody was asked for. */
  readonly opens: number
  /** Milliseconds that changes waited until others had given back what they held: the first thousand. */
  readonly waitedMs: readonly number[]
}

export interface MetaStore extends InlineStore {
  readonly settings: VolumeSettings
  readonly sessionId: number
  /** Has ready what the first changes would wait for. Nothing depends on that it was called, or came to its end. */
  prepare(): Promise<void>

  /** ESTALE: the directory itself is gone, so what was there by its name may be in another one by now. */
  lookup(parent: number, name: Buffer): Promise<Attr>
  getattr(ino: number): Promise<Attr>
  setattr(ino: number, change: AttrChange): Promise<Attr>
  /** Access times after reads: nothing else changes, ctime neither. Inodes that are gone do not matter. */
  touch(updates: readonly AccessTime[]): Promise<void>

  /** Any type but directory. A file made with open: true is open in this session, as after open(). */
  create(
    parent: number,
    name: Buffer,
    inode: NewInode,
    options: { readonly exclusive: boolean; readonly open: boolean },
    saw?: SawDirectory,
  ): Promise<CreateReply>
  /**
   * A file without a name (O_TMPFILE), open in this session as after open(): it goes with its last opener. Until then
   * `link` may give it its first name. It inherits of the directory what create() does; the directory does not change.
   */
  tmpfile(parent: number, inode: NewInode): Promise<Attr>
  /** `umask`: as in NewInode. A default ACL of the parent becomes the new directory's, too. */
  mkdir(
    parent: number,
    name: Buffer,
    mode: number,
    uid: number,
    gid: number,
    umask?: number,
    saw?: SawDirectory,
  ): Promise<Attr>
  link(ino: number, parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr>
  /** Not a directory (EISDIR). Answers the attributes that are left, nlink 0 for the last name. */
  unlink(parent: number, name: Buffer, saw?: SawDirectory): Promise<Attr>
  /** Answers the inode that is gone. `guess`: the one that the name is believed to mean, which saves a question. */
  rmdir(parent: number, name: Buffer, saw?: SawDirectory, guess?: number): Promise<number>
  rename(
    parent: number,
    name: Buffer,
    newParent: number,
    newName: Buffer,
    flags: RenameFlags,
    saw?: SawDirectory,
  ): Promise<RenameReply>
  readlink(ino: number): Promise<Buffer>

  /** Registers the inode as open in this session, so that it outlives its last name. Counted: close as often. */
  open(ino: number, options: OpenOptions): Promise<OpenReply>
  /**
   * Whether nobody else has changed the inode, or a name in it, without the listener having heard, nor will in this turn of the
   * event loop: what is cached of it is true. Asking counts as a wish for that.
   */
  holds(ino: number): boolean
  /** As open, without asking, if holds(ino); the caller knows that it is there and has a name. false: nothing was done. */
  openHeld(ino: number): boolean
  readonly delegationFigures: DelegationFigures
  /** Never fails for the caller: what cannot be told now is told when the session ends. */
  close(ino: number): void

  /** From the start (cursor null) or after a cursor; without `.` and `..`. */
  readdir(ino: number, cursor: DirCursor | null, limit: number, plus: boolean): Promise<ReaddirReply>

  /** `have`: what the caller holds already; the reply is the whole window in any case. */
  extents(ino: number, window: number, have?: ExtentWindow): Promise<ExtentWindow>
  /** All extents lie in one window ('at') or follow each other from 0 ('append'). */
  commit(ino: number, request: CommitRequest): Promise<CommitReply>
  /**
   * Replaces the extents of a window by fewer that read the same. `dropped`: extents whose chunks no extent uses any more. `oldestOrder`: of a packing,
   * the least order of chunks that were seen until now and are dropped (packingGround). The data version that this makes; it is the window's generation
   * then: `extents`, and what came behind `old`. null: nothing changed, as the window was cut or compacted meanwhile, lost extents in a failover, or a backup may name such a chunk.
   */
  compact(
    ino: number,
    old: ExtentWindow,
    extents: readonly Extent[],
    dropped: readonly Extent[],
    allocatedDeltaBytes: number,
    oldestOrder?: number,
  ): Promise<number | null>
  /** Which of these chunks, of a file's window, others may take the place of: neither a backup nor another window names them. */
  packingGround(ino: number, chunkIds: readonly number[]): Promise<PackingGround>
  /** Windows that have extents, from `from` on, at most `limit`. */
  windows(ino: number, from: number, limit: number): Promise<WindowList>
  /** Frees what lies in the range and makes a hole of it. null: nothing was done; the file has a body, spill it first. */
  punch(ino: number, request: PunchRequest): Promise<Attr | null>
  /**
   * Lets a file name chunks of another, or of another place of its own, as one change. null: nothing was done, because
   * one of the files was changed, a chunk is being deleted, or has too many holders, or the target has a body where
   * extents are to lie.
   */
  clone(ino: number, request: CloneRequest): Promise<Attr | null>
  /** Ids for new chunks, unique in the volume for ever. */
  chunkId(): Promise<number>

  /**
   * Limits: a name 255 bytes (ERANGE), a value 64 KiB (E2BIG), XATTR_NAMES_MAX_BYTES of all names and XATTRS_MAX_BYTES
   * in all (ENOSPC). `user.` is for files and directories only (EPERM). In `system.` are the two ACLs and nothing else
   * (EOPNOTSUPP): a valid access ACL becomes the mode, and is kept only if it says more; a default ACL is for
   * directories (EACCES); an ACL without entries is none.
   */
  getxattr(ino: number, name: Buffer): Promise<Buffer>
  listxattr(ino: number): Promise<readonly Buffer[]>
  /**
   * `clearSgid`: an access ACL set by somebody who is not in the file's group and has no CAP_FSETID. `seen`, of the ACLs: see
   * AttrChange.
   */
  setxattr(ino: number, name: Buffer, value: Buffer, mode: XattrMode, clearSgid?: boolean, seen?: Seen): Promise<void>
  removexattr(ino: number, name: Buffer, seen?: Seen): Promise<void>

  /** The lock that would keep this one from being granted, the first by position. */
  getlk(ino: number, lock: FileLock): Promise<LockConflict | null>
  /**
   * Takes a lock in place of what the owner holds in its range (flock: of what he holds). Answers the inode as it is then;
   * every event of what others did before they gave the lock back has been told by then.
   * Without `wait` a conflict is EAGAIN. A waiter is woken, and never asks in between. EDEADLK ('posix' only): the holder
   * waits for us. EINTR: `signal` was aborted before the lock was granted. ENOLCK: too many. EIO: the session ended.
   */
  setlk(ino: number, lock: FileLock, options: { readonly wait: boolean; readonly signal?: AbortSignal }): Promise<Attr>
  /** Never a conflict; works when Redis is out of memory. What cannot be told now is told when Redis is back. */
  unlock(ino: number, range: LockRange): Promise<void>
  /** The lease of the session is good: nobody has taken our locks away. */
  readonly leased: boolean
  /** Resolves when it is known whether the lease is good; EIO when that cannot be found out. */
  confirmLease(): Promise<void>

  usage(): Promise<Usage>
  /** Waits until every change acknowledged so far is as durable as the volume's settings promise. */
  sync(): Promise<void>

  /**
   * One round of the janitor: hands chunks that nobody uses, and has not for `graceMs`, to `remove`, and forgets them
   * when it succeeds. Does nothing while another client is the janitor. Answers how many chunks were removed.
   */
  collectGarbage(remove: (chunkIds: readonly number[]) => Promise<void>, graceMs: number): Promise<number>
  /** One listener: the VFS. It hears of changes of others; of its own, of attributes that were changed behind the answer of a call. */
  onEvent(listener: (event: MetaEvent) => void): void
  /** true while pushed invalidation works and the lease is good: only then may anything be cached. */
  readonly coherent: boolean
  /**
   * Whether changes by others of the inode, and of names in it, are told now: only then may anything of it be cached. Whoever gives something
   * away that he would have to take back on such a change asks this first, in the same turn: it counts as a use of the inode's partition, and
   * those that nobody uses for longer than `coherentMs` are not listened to. Each question and change listens to what it needs.
   */
  hears(ino: number): boolean
  /** From 0, below settings.partitions. */
  partitionOf(ino: number): number
  /** How many partitions are listened to. */
  readonly partitionsHeard: number
  /**
   * How long from now, in milliseconds, what is cached may be kept by somebody who cannot be told that it became false: a
   * kernel while this process is stopped. What is left of the lease: others do not wait for us beyond it. 0: not coherent.
   */
  readonly coherentMs: number
  /** Resolves when the listener has had every event of a change that ended before this call, or has been told `lost`; of what is listened to. */
  caughtUp(): Promise<void>
  /** Ends the session: releases what it holds. */
  shutdown(): Promise<void>
}
