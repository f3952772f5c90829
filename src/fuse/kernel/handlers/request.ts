/** What a handler is given, and what it reads of it. */
import { PosixError } from '../../../base/errno.js'
import { invariant } from '../../../base/invariant.js'
import { FILE_MAX_BYTES } from '../../../base/limits.js'
import type { Caller } from '../../../vfs/contract.js'
import { HANDLE_KILLPRIV_V2 } from '../init.js'
import { readU64 } from '../wire.js'

/** What of a umask counts. */
const UMASK_BITS = 0o777

export interface Request {
  readonly node: number
  readonly caller: Caller
  /** When it was read, on the monotonic clock; undefined: in this turn. */
  readonly askedMs: number | undefined
  /** Behind the header. Kept as long as the handler runs. */
  readonly body: Buffer
  readonly names: readonly Buffer[]
  /** Where the bytes behind the names begin. */
  readonly rest: number
  /** The flags that INIT agreed on: init.ts. */
  readonly agreed: number
  /** Aborted when nobody waits for the answer any more, or, of a request that waits for others, by a signal to its caller. */
  readonly signal: AbortSignal
}

export type Answer = Buffer | readonly Buffer[] | undefined
export type Handler = (request: Request) => Promise<Answer>
/**
 * Answers a request in the turn in which it was read: bytes, or an errno (0: nothing but that it is done). undefined: nothing
 * was done, the handler of the same name does it. It has no `signal`, does not throw once it has done anything, and keeps none of the
 * request's bytes: the next one is read into the same memory.
 */
export type AtOnce = (request: Request) => Buffer | number | undefined
export type AtOnceTable = Readonly<Record<string, AtOnce>>
/** Handlers by the names of their opcodes. */
export type HandlerTable = Readonly<Record<string, Handler>>
/** Undoes what the answer to a request says, which the kernel did not get. By the names of opcodes, too. */
export type DropTable = Readonly<Record<string, (request: Request, answer: Answer) => Promise<void>>>

export function nothing(): Promise<undefined> {
  return Promise.resolve(undefined)
}

/** Who calls, and whether set-id bits stay; where the kernel does not say so, the VFS judges by the uid. */
export function callerKeeping({ caller, agreed }: Request, keepsSetid: boolean): Caller {
  if ((agreed & HANDLE_KILLPRIV_V2) === 0) return caller
  const { uid, gid, pid } = caller
  return { uid, gid, pid, keepsSetid }
}

/**
 * Who makes something, with the umask that the kernel sent. Written out, here and where requests are answered: V8 has a slow way for
 * what follows others' properties in a literal ({ ...caller, umask }).
 */
export function callerMaking({ uid, gid, pid, keepsSetid }: Caller, umask: number): Caller {
  const masked = umask & UMASK_BITS
  return keepsSetid === undefined ? { uid, gid, pid, umask: masked } : { uid, gid, pid, keepsSetid, umask: masked }
}

export function nameAt(names: readonly Buffer[], at: number): Buffer {
  const name = names[at]
  if (name === undefined) throw new PosixError('EINVAL', 'a request without its name')
  return name
}

/** The handle in struct fuse_open_out, which is the whole answer. */
export function handleIn(answer: Answer): number {
  invariant(Buffer.isBuffer(answer), 'an open is answered with one buffer')
  return readU64(answer, 0)
}

export function handleOf(body: Buffer): number {
  return readU64(body, 0)
}

export function offsetAt(body: Buffer, at: number): number {
  const offset = readU64(body, at)
  if (offset > FILE_MAX_BYTES) throw new PosixError('EFBIG', 'beyond the largest file')
  return offset
}
