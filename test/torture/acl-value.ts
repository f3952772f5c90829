/** Values of system.posix_acl_*: linux/posix_acl_xattr.h. */
import type { Random } from './random.js'

const VERSION = 2
const [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20]
const NO_ID = 0xffffffff

/** In hex; now and then one that is not allowed. */
export function aclValue(random: Random): string {
  const permissions = (): number => random.below(8)
  const entries = [
    [USER_OBJ, permissions(), NO_ID],
    ...(random.chance(0.7) ? [[USER, permissions(), random.pick([0, 1000, 1001])]] : []),
    [GROUP_OBJ, permissions(), NO_ID],
    ...(random.chance(0.5) ? [[GROUP, permissions(), random.pick([50, 1000, 1001])]] : []),
  ]
  if (entries.length > 2 !== random.chance(0.03)) entries.push([MASK, permissions(), NO_ID])
  if (!random.chance(0.03)) entries.push([OTHER, permissions(), NO_ID])
  const value = Buffer.alloc(4 + 8 * entries.length)
  value.writeUInt32LE(VERSION, 0)
  for (const [index, [tag = 0, bits = 0, id = 0]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + 8 * index)
    value.writeUInt16LE(bits, 6 + 8 * index)
    value.writeUInt32LE(id, 8 + 8 * index)
  }
  return value.toString('hex')
}
