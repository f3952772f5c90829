/** What a handler is given, and what it reads of it. */
import { PosixError } from '../../../base/errno.js'
import { FILE_MAX_BYTES } from '../../../base/limits.js'
import type { Caller } from '../../../vfs/contract.js'
import { readU64 } from '../wire.js'

export interface Request {
  readonly node: number
  readonly caller: Caller
  /** Behind the header. Kept as long as the handler runs. */
  readonly body: Buffer
  readonly names: readonly Buffer[]
  /** Where the bytes behind the names begin. */
  readonly rest: number
}

export type Answer = Buffer | readonly Buffer[] | undefined
export type Handler = (request: Request) => Promise<Answer>
/** Handlers by the names of their opcodes. */
export type HandlerTable = Readonly<Record<string, Handler>>

export function nothing(): Promise<undefined> {
  return Promise.resolve(undefined)
}

export function nameAt(names: readonly Buffer[], at: number): Buffer {
  const name = names[at]
  if (name === undefined) throw new PosixError('EINVAL', 'a request without its name')
  return name
}

export function handleOf(body: Buffer): number {
  return readU64(body, 0)
}

export function offsetAt(body: Buffer, at: number): number {
  const offset = readU64(body, at)
  if (offset > FILE_MAX_BYTES) throw new PosixError('EFBIG', 'beyond the largest file')
  return offset
}
