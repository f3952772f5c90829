/** What the metadata store offers for the bytes of small files, which it keeps itself: a part of its contract (contract.ts). */
import type { TimeSpec } from '../base/clock.js'
import type { Attr, AttrChange, BodyPiece, CommitReply, Extent } from './contract.js'

/** What the store has of an extent, and of a piece of a body beside its bytes. */
export const EXTENT_BYTES = 53
export const BODY_PIECE_BYTES = 12
/** Of the budget of all bodies: beyond it longer files get none, and old ones make room. */
export const BODIES_CROWDED_SHARE = 3 / 4

export interface InlineCommitRequest {
  /** Ordered by place, not overlapping. 'append': from 0 on, as in CommitRequest. */
  readonly pieces: readonly { readonly fileOffset: number; readonly bytes: Buffer }[]
  readonly mode: 'at' | 'append'
  /** These four as in CommitRequest. */
  readonly allocatedDeltaBytes: number
  readonly mtime: TimeSpec
  readonly neverBack?: true
  readonly clearSuid?: boolean
  /**
   * Changed in the same moment, as by a setattr behind it; never the size. Where that has to wait, or would be refused for what was
   * `seen`: not (`attributesLeft`).
   */
  readonly attributes?: AttrChange
}

/** A file whose body nobody has changed for a while, nor has open as far as the store knows. */
export interface OldBody {
  readonly ino: number
  /** Of its data. */
  readonly version: number
  /** Nothing that it has was written later. */
  readonly ctime: TimeSpec
  /** undefined: ask for the window, in which extents lie above it. */
  readonly body: readonly BodyPiece[] | undefined
}

/** A body that is to go: these extents, which read the same and are on disk, come in its place, below those that there are. */
export interface BodyMove {
  readonly ino: number
  readonly version: number
  readonly extents: readonly Extent[]
}

/** Bodies that may be moved into chunks, to have room for those of new files. */
export interface OldBodies {
  /** Bytes of all bodies, as far as they were counted, which is done now and then while somebody asks; and how many there may be. */
  readonly usedBytes: number
  readonly budgetBytes: number
  /** Counts them. */
  count(): Promise<number>
  /** Only one client moves any. true: this one, for the next half minute at least. */
  claim(): Promise<boolean>
  /** Some of one partition, by chance; none where others are at these files. */
  find(restMs: number): Promise<readonly OldBody[]>
  /** Of one partition. For each: false if it was changed meanwhile or is gone, or nothing may change just now, and it is as it was. */
  move(moves: readonly BodyMove[]): Promise<readonly boolean[]>
}

/** Of MetaStore. */
export interface InlineStore {
  /** Files up to this length are kept by the store itself, as long as they have no extents and there is room; 0: none now. */
  readonly inlineBytes: number
  /** The same of a file that one piece, from its start on, takes the place of; 0: none now. */
  readonly wholeInlineBytes: number
  /**
   * A commit of bytes that the store keeps itself. null: nothing was done, they are for chunks: the file has extents, would
   * be too long, or there is no room.
   */
  commitInline(ino: number, request: InlineCommitRequest): Promise<CommitReply | null>
  /**
   * The file's body goes, and these extents, which read the same and are on disk, come below those that it has. null:
   * nothing was done, since the file has another data version than `version`, or no body.
   */
  spill(ino: number, version: number, extents: readonly Extent[]): Promise<Attr | null>
  readonly oldBodies: OldBodies
}
