/**
 * The opcodes of the protocol, linux/fuse.h enum fuse_opcode: number, name, bytes of the fixed part of the request's body.
 * What a row names is handled in handlers.ts under its name; the table is checked when the driver is loaded.
 */
import { SETXATTR_EXT } from './init.js'
import type { InterruptMode } from './running.js'

export interface Opcode {
  readonly code: number
  readonly name: string
  /** A shorter body is EINVAL. */
  readonly bodyBytes: number
  /** With this flag of INIT the fixed part is longer. */
  readonly extended?: { readonly flag: number; readonly bodyBytes: number }
  /** How many names that end with NUL follow. */
  readonly names: number
  /** false: the kernel does not wait for an answer and must not get one. */
  readonly replies: boolean
  /** What INTERRUPT does to it: running.ts. */
  readonly interrupt: InterruptMode
}

function op(code: number, name: string, bodyBytes: number, names = 0, interrupt: InterruptMode = 'never'): Opcode {
  return { code, name, bodyBytes, names, replies: true, interrupt }
}

function silent(code: number, name: string, bodyBytes: number): Opcode {
  return { code, name, bodyBytes, names: 0, replies: false, interrupt: 'never' }
}

export const OPCODES: readonly Opcode[] = [
  op(1, 'lookup', 0, 1, 'killed'),
  silent(2, 'forget', 8),
  op(3, 'getattr', 16, 0, 'killed'),
  op(4, 'setattr', 88),
  op(5, 'readlink', 0, 0, 'killed'),
  op(6, 'symlink', 0, 2),
  op(8, 'mknod', 16, 1),
  op(9, 'mkdir', 8, 1),
  op(10, 'unlink', 0, 1),
  op(11, 'rmdir', 0, 1),
  op(12, 'rename', 8, 2),
  op(13, 'link', 8, 1),
  op(14, 'open', 8, 0, 'killed'),
  op(15, 'read', 40, 0, 'killed'),
  op(16, 'write', 40),
  op(17, 'statfs', 0, 0, 'killed'),
  op(18, 'release', 24),
  op(20, 'fsync', 16),
  { ...op(21, 'setxattr', 8, 1), extended: { flag: SETXATTR_EXT, bodyBytes: 16 } },
  op(22, 'getxattr', 8, 1, 'killed'),
  op(23, 'listxattr', 8, 0, 'killed'),
  op(24, 'removexattr', 0, 1),
  op(25, 'flush', 24),
  op(26, 'init', 16),
  op(27, 'opendir', 8, 0, 'killed'),
  op(28, 'readdir', 40, 0, 'killed'),
  op(29, 'releasedir', 24),
  op(30, 'fsyncdir', 16),
  op(31, 'getlk', 48, 0, 'killed'),
  op(32, 'setlk', 48),
  op(33, 'setlkw', 48, 0, 'signal'),
  op(35, 'create', 16, 1),
  silent(36, 'interrupt', 8),
  silent(38, 'destroy', 0),
  silent(42, 'batchForget', 8),
  op(43, 'fallocate', 32),
  op(44, 'readdirplus', 40, 0, 'killed'),
  op(45, 'rename2', 16, 2),
  op(46, 'lseek', 24, 0, 'killed'),
  op(47, 'copyFileRange', 56),
  op(50, 'syncfs', 8),
  op(51, 'tmpfile', 16, 1),
  op(52, 'statx', 24, 0, 'killed'),
]

export const BY_CODE: ReadonlyMap<number, Opcode> = new Map(OPCODES.map((one) => [one.code, one]))
