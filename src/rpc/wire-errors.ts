/** Errors across the wire: a PosixError stays one, by errno; a RingfsError stays one, by code. All else is INTERNAL. */
import { ERRNO, PosixError, errnoName } from '../base/errno.js'
import { ERROR_CODES, RingfsError, messageOf, type ErrorCode } from '../base/errors.js'
import { MessageType } from './protobuf.js'

const MESSAGE_MAX_LENGTH = 4096
const errorMessage = new MessageType('Error')
const CODES = new Map<string, ErrorCode>(errorCodes().map((code) => [code, code]))

function errorCodes(): ErrorCode[] {
  const isCode = (name: string): name is ErrorCode => name in ERROR_CODES
  return Object.keys(ERROR_CODES).filter(isCode)
}

export function encodeError(error: unknown): Uint8Array {
  const message = messageOf(error).slice(0, MESSAGE_MAX_LENGTH)
  if (error instanceof PosixError) return errorMessage.encode({ errno: error.errno, message: detailOf(error, message) })
  const code: ErrorCode = error instanceof RingfsError ? error.code : 'INTERNAL'
  return errorMessage.encode({ code, message })
}

/** PosixError puts its code before the detail; what travels is the detail alone. */
function detailOf(error: PosixError, message: string): string {
  return message.startsWith(`${error.code}: `) ? message.slice(error.code.length + 2) : ''
}

export function decodeError(header: Uint8Array): PosixError | RingfsError {
  const fields = errorMessage.decode(header)
  const errno = fields.uint('errno')
  const message = fields.text('message', MESSAGE_MAX_LENGTH)
  if (errno !== 0) return new PosixError(errnoName(errno), knownErrno(errno) ? message : `errno ${errno} ${message}`)
  const code = fields.text('code', 64)
  return new RingfsError(CODES.get(code) ?? 'INTERNAL', CODES.has(code) ? message : `${code}: ${message}`)
}

function knownErrno(errno: number): boolean {
  return ERRNO[errnoName(errno)] === errno
}
