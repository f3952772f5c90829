/**
 * File locks: GETLK, SETLK, SETLKW (linux/fuse.h, struct fuse_lk_in: handle, owner, fuse_file_lock, flags), for fcntl(2)
 * record locks, open file description locks and flock(2).
 *
 * An owner is a number that stands for a table of descriptors (record locks) or an open file (the others). Nothing tells
 * the two apart, so an open file description lock takes part in the search for deadlocks, and its holder's pid is told,
 * where Linux says -1. Locks on directories (flock) are not sent to a filesystem in user space: they are this kernel's own.
 */
import { PosixError } from '../../../base/errno.js'
import type { FileLock, LockConflict, VfsContract } from '../../../vfs/contract.js'
import type { KernelCache } from '../kernel-cache.js'
import { handleOf, type Answer, type HandlerTable, type Request } from './request.js'

const F_RDLCK = 0
const F_WRLCK = 1
const F_UNLCK = 2
const LK_FLOCK = 1
const LK_OUT_BYTES = 24

export class LockHandlers {
  readonly #vfs: VfsContract
  readonly #cache: KernelCache

  constructor(vfs: VfsContract, cache: KernelCache) {
    this.#vfs = vfs
    this.#cache = cache
  }

  readonly table: HandlerTable = {
    getlk: (request) => this.#getlk(request),
    setlk: (request) => this.#setlk(request, false),
    setlkw: (request) => this.#setlk(request, true),
  }

  async #getlk({ body }: Request): Promise<Answer> {
    const type = body.readUInt32LE(32)
    if (type === F_UNLCK) throw new PosixError('EINVAL', 'F_GETLK asks for a lock')
    const lock = { ...rangeOf(body), type: typeOf(type), pid: body.readUInt32LE(36) }
    return encodeConflict(await this.#vfs.getlk(handleOf(body), lock))
  }

  async #setlk({ node, body, signal }: Request, wait: boolean): Promise<Answer> {
    const code = body.readUInt32LE(32)
    const type = code === F_UNLCK ? 'unlock' : typeOf(code)
    const change = { ...rangeOf(body), type, pid: body.readUInt32LE(36) } as const
    await this.#vfs.setlk(handleOf(body), change, wait, wait ? signal : undefined)
    // The VFS has heard of all that others did before: the kernel must have, too.
    if (type !== 'unlock') await this.#cache.caughtUp(node)
    return undefined
  }
}

/** The owner as it is named to the VFS; in FLUSH it stands elsewhere. */
export function ownerAt(body: Buffer, at: number): string {
  return body.readBigUInt64LE(at).toString(16)
}

function rangeOf(body: Buffer): Pick<FileLock, 'kind' | 'owner' | 'start' | 'end'> {
  const kind = (body.readUInt32LE(40) & LK_FLOCK) !== 0 ? 'flock' : 'posix'
  // The kernel's end is the last byte that is locked, 2^63 - 1 without an end.
  return { kind, owner: ownerAt(body, 8), start: body.readBigUInt64LE(16), end: body.readBigUInt64LE(24) + 1n }
}

function typeOf(code: number): 'read' | 'write' {
  if (code === F_RDLCK) return 'read'
  if (code === F_WRLCK) return 'write'
  throw new PosixError('EINVAL', 'no such type of lock')
}

/** fcntl(2): F_UNLCK when there is none. The process that holds it, or 0: one of another machine or mount. */
function encodeConflict(conflict: LockConflict | null): Buffer {
  const out = Buffer.alloc(LK_OUT_BYTES)
  if (conflict === null) {
    out.writeUInt32LE(F_UNLCK, 16)
    return out
  }
  out.writeBigUInt64LE(conflict.start, 0)
  out.writeBigUInt64LE(conflict.end - 1n, 8)
  out.writeUInt32LE(conflict.type === 'write' ? F_WRLCK : F_RDLCK, 16)
  out.writeUInt32LE(conflict.isOurs ? conflict.pid : 0, 20)
  return out
}
