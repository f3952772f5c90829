/**
 * What a request may have changed. The kernel takes a change for made when it is answered without an error, and for not made else;
 * when that is not certain, it must ask for all of this again.
 */
import { O_TRUNC } from '../../vfs/flags.js'
import type { Request } from './handlers/request.js'
import type { Name } from './given.js'
import { readU64 } from './wire.js'

export interface Touched {
  readonly names: readonly Name[]
  readonly attrs: readonly number[]
  readonly contents: readonly number[]
}

const NOTHING: Touched = { names: [], attrs: [], contents: [] }

const ONE_NAME: ReadonlySet<string> = new Set(['symlink', 'mknod', 'mkdir', 'unlink', 'rmdir', 'create', 'link'])
const TWO_NAMES: ReadonlySet<string> = new Set(['rename', 'rename2'])
const ATTRIBUTES: ReadonlySet<string> = new Set(['setxattr', 'removexattr', 'tmpfile'])
const CONTENTS: ReadonlySet<string> = new Set(['setattr', 'write', 'fallocate', 'copyFileRange', 'flush', 'fsync'])
/** struct fuse_copy_file_range_in: fh_in, off_in, nodeid_out. */
const COPIED_TO_AT = 16

export function touchedBy(opcode: string, { node, names, body }: Request): Touched {
  const [first, second] = names
  if (ONE_NAME.has(opcode) && first !== undefined) {
    const linked = opcode === 'link' ? [readU64(body, 0)] : []
    return { ...NOTHING, names: [{ parent: node, name: first }], attrs: linked }
  }
  if (TWO_NAMES.has(opcode) && first !== undefined && second !== undefined) {
    const to = { parent: readU64(body, 0), name: second }
    return { ...NOTHING, names: [{ parent: node, name: first }, to] }
  }
  if (ATTRIBUTES.has(opcode)) return { ...NOTHING, attrs: [node] }
  if (opcode === 'copyFileRange') return { ...NOTHING, contents: [readU64(body, COPIED_TO_AT)] }
  const cuts = opcode === 'open' && (body.readUInt32LE(0) & O_TRUNC) !== 0
  return CONTENTS.has(opcode) || cuts ? { ...NOTHING, contents: [node] } : NOTHING
}
