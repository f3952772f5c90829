/**
 * Failures of operations: a command, a connection, a node. `code` is stable and documented; `message` is one line that
 * says what to do. The command line prints the message and exits with the code's number (docs/operations.md).
 */
export const ERROR_CODES = {
  USAGE: 2,
  REDIS_UNREACHABLE: 10,
  REDIS_UNSAFE: 11,
  REDIS_NOT_CLUSTER: 12,
  REDIS_AUTH: 13,
  METADATA_NOT_SYNCED: 14,
  REDIS_TLS: 15,
  VOLUME_MISSING: 20,
  VOLUME_EXISTS: 21,
  VOLUME_NEWER: 22,
  VOLUME_CORRUPT: 23,
  MOUNTPOINT_BAD: 30,
  MOUNTPOINT_BUSY: 31,
  MOUNT_FAILED: 32,
  NODE_IDENTITY_CLAIMED: 40,
  NODE_WRONG_VOLUME: 41,
  NODE_UNREACHABLE: 42,
  NODE_FULL: 43,
  NO_QUORUM: 44,
  CHUNK_MISSING: 45,
  CHUNK_CORRUPT: 46,
  CHUNK_CONFLICT: 47,
  NODE_DISKS_LOST: 48,
  LISTEN_FAILED: 50,
  KEY_REQUIRED: 51,
  FRAME_BAD: 60,
  FRAME_TOO_LONG: 61,
  METHOD_UNKNOWN: 62,
  DEADLINE: 63,
  CONNECTION_LOST: 64,
  OVERLOADED: 65,
  CANCELLED: 66,
  SESSION_LOST: 70,
  DRIVER_MISSING: 80,
  PACKAGE_MISSING: 81,
  ALREADY_RUNNING: 82,
  NOT_RUNNING: 83,
  INTERNAL: 99,
} as const

export type ErrorCode = keyof typeof ERROR_CODES

export class RingfsError extends Error {
  override readonly name = 'RingfsError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  get exitCode(): number {
    return ERROR_CODES[this.code]
  }
}

export function hasCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof RingfsError && error.code === code
}

/** The `code` of a Node or ringfs error; '' if it has none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** The text of any thrown value, for a log line or a message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
