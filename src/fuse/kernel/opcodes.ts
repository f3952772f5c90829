/**
 * The opcodes of the protocol, linux/fuse.h enum fuse_opcode: number, name, bytes of the fixed part of the request's body.
 * What a row names is handled in handlers.ts under its name; the table is checked when the driver is loaded.
 */
export interface Opcode {
  readonly code: number
  readonly name: string
  /** A shorter body is EINVAL. */
  readonly bodyBytes: number
  /** How many names that end with NUL follow. */
  readonly names: number
  /** false: the kernel does not wait for an answer and must not get one. */
  readonly replies: boolean
}

function op(code: number, name: string, bodyBytes: number, names = 0, replies = true): Opcode {
  return { code, name, bodyBytes, names, replies }
}

export const OPCODES: readonly Opcode[] = [
  op(1, 'lookup', 0, 1),
  op(2, 'forget', 8, 0, false),
  op(3, 'getattr', 16),
  op(4, 'setattr', 88),
  op(5, 'readlink', 0),
  op(6, 'symlink', 0, 2),
  op(8, 'mknod', 16, 1),
  op(9, 'mkdir', 8, 1),
  op(10, 'unlink', 0, 1),
  op(11, 'rmdir', 0, 1),
  op(12, 'rename', 8, 2),
  op(13, 'link', 8, 1),
  op(14, 'open', 8),
  op(15, 'read', 40),
  op(16, 'write', 40),
  op(17, 'statfs', 0),
  op(18, 'release', 24),
  op(20, 'fsync', 16),
  op(21, 'setxattr', 8, 1),
  op(22, 'getxattr', 8, 1),
  op(23, 'listxattr', 8),
  op(24, 'removexattr', 0, 1),
  op(25, 'flush', 24),
  op(26, 'init', 16),
  op(27, 'opendir', 8),
  op(28, 'readdir', 40),
  op(29, 'releasedir', 24),
  op(30, 'fsyncdir', 16),
  op(35, 'create', 16, 1),
  op(36, 'interrupt', 8, 0, false),
  op(38, 'destroy', 0, 0, false),
  op(42, 'batchForget', 8, 0, false),
  op(44, 'readdirplus', 40),
  op(45, 'rename2', 16, 2),
  op(50, 'syncfs', 8),
]

export const BY_CODE: ReadonlyMap<number, Opcode> = new Map(OPCODES.map((one) => [one.code, one]))
