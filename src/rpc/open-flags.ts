/** Flags of open(2) as Linux numbers them (asm-generic/fcntl.h): the wire's meaning, whatever the caller's system is. */
import { RingfsError } from '../base/errors.js'

export const OPEN_FLAG = {
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_ACCMODE: 3,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_TRUNC: 0o1000,
  O_APPEND: 0o2000,
  O_DIRECTORY: 0o200000,
  O_NOFOLLOW: 0o400000,
} as const

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = OPEN_FLAG

/** The words of Node's fs.open. */
const WORDS = new Map<string, number>([
  ['r', O_RDONLY],
  ['r+', O_RDWR],
  ['w', O_WRONLY | O_CREAT | O_TRUNC],
  ['wx', O_WRONLY | O_CREAT | O_TRUNC | O_EXCL],
  ['w+', O_RDWR | O_CREAT | O_TRUNC],
  ['wx+', O_RDWR | O_CREAT | O_TRUNC | O_EXCL],
  ['a', O_WRONLY | O_CREAT | O_APPEND],
  ['ax', O_WRONLY | O_CREAT | O_APPEND | O_EXCL],
  ['a+', O_RDWR | O_CREAT | O_APPEND],
  ['ax+', O_RDWR | O_CREAT | O_APPEND | O_EXCL],
])

/** Errors: RingfsError USAGE. */
export function openFlags(flags: string | number): number {
  const value = typeof flags === 'number' ? flags : WORDS.get(flags)
  if (value === undefined || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new RingfsError('USAGE', `bad open flags '${flags}': one of ${[...WORDS.keys()].join(', ')}, or a number`)
  }
  return value
}
