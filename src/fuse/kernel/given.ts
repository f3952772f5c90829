/** What of an inode, and of a name, was answered to the kernel (kernel-view.ts). */
import type { Attr } from '../../vfs/contract.js'
import type { Given } from './handed.js'
import type { Way } from './way.js'

export interface GivenAttr extends Given {
  /** When the last answer was asked for, on the monotonic clock: the kernel did it a little earlier. */
  readonly askedMs: number
  readonly attr: Attr
  /** The last answer, whether the kernel goes by it without asking or not. */
  readonly told: Attr
  /** The kernel may still judge access by others than these. */
  readonly hasNewRights: boolean
  /** A notice came before it was surely taken. */
  isOvertaken: boolean
  /** The only thread that was given it a moment ago; 0: several. */
  readonly to: number
  /** By which names the kernel may have come there. */
  readonly way: Way
  /** The kernel goes by it without asking. */
  holds: boolean
  /** Of the contents whose size it tells. Writes through the kernel make new ones, and the size is known all the same. */
  sizeVersion: number
  /** When another client, as far as is known, may last have changed the size; on the monotonic clock. */
  resizedAtMs: number
  /** The kernel has got no answer since that it may go by. */
  isSizeOld: boolean
  /** When a notice about the inode, or its pages, was last written; on the monotonic clock. */
  noticedAtMs: number
}

export interface GivenEntry extends Given {
  /** 0: there is none. */
  readonly ino: number
  /** A directory or a symlink: paths go on behind it. */
  readonly leadsOn: boolean
  holds: boolean
  /** What the name meant before this kernel moved `ino` there; 0: nothing, or that is not known. */
  readonly replaced: number
  /** Moved there by this kernel. */
  movedTo?: Name | undefined
}

export interface Name {
  readonly parent: number
  readonly name: Buffer
}
