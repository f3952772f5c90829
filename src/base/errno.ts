/**
 * POSIX results. Metadata, VFS and drivers answer a failed call with a PosixError; the number is Linux's
 * (asm-generic/errno.h). Failures of operations (a command, a connection) are RingfsError, in errors.ts.
 */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  EILSEQ: 84,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  ESTALE: 116,
  EDQUOT: 122,
} as const

export type ErrnoName = keyof typeof ERRNO

const NAMES = new Map<number, ErrnoName>(Object.entries(ERRNO).map(([name, number]) => [number, name as ErrnoName]))

/** Answers rather than failures: programs ask on purpose for what is not there. Taking a stack costs more than the rest of them. */
const ANSWERS: ReadonlySet<ErrnoName> = new Set(['ENOENT', 'EEXIST', 'ENOTEMPTY', 'ENODATA', 'ESTALE'])

export class PosixError extends Error {
  override readonly name = 'PosixError'
  /** As in Node's own file errors, so that callers can treat both alike. */
  readonly code: ErrnoName
  /** Positive errno. */
  readonly errno: number

  constructor(code: ErrnoName, detail = '', options?: ErrorOptions) {
    const limit = Error.stackTraceLimit
    if (ANSWERS.has(code)) Error.stackTraceLimit = 0
    super(detail === '' ? code : `${code}: ${detail}`, options)
    Error.stackTraceLimit = limit
    this.code = code
    this.errno = ERRNO[code]
  }
}

/**
 * Of a change that rests on whose an inode is: it has another owner, group or mode by now than its maker's rights were judged by.
 * Nothing was done. Judged anew, it may be his to make.
 */
export class ChangedHandsError extends PosixError {
  constructor() {
    super('EPERM', 'it was given away meanwhile')
  }
}

/** The name of a positive errno; EIO for one that ringfs does not know. */
export function errnoName(errno: number): ErrnoName {
  return NAMES.get(errno) ?? 'EIO'
}

export function isErrno(error: unknown, code: ErrnoName): error is PosixError {
  return error instanceof PosixError && error.code === code
}

/** The positive errno that a driver or RPC answers for any thrown value: EIO unless it says better. */
export function errnoOf(error: unknown): number {
  return error instanceof PosixError ? error.errno : ERRNO.EIO
}
