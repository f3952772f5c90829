/** Extended attributes. */
import { PosixError } from '../../../base/errno.js'
import type { VfsContract } from '../../../vfs/contract.js'
import { nameAt, type Answer, type HandlerTable, type Request } from './request.js'

const SYSTEM = Buffer.from('system.')

export class XattrHandlers {
  readonly #vfs: VfsContract

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
  }

  readonly table: HandlerTable = {
    getxattr: (request) => this.#getxattr(request),
    listxattr: (request) => this.#listxattr(request),
    setxattr: (request) => this.#setxattr(request),
    removexattr: async ({ node, names }) => {
      await this.#vfs.removexattr(node, attributeAt(names))
      return undefined
    },
  }

  async #getxattr({ node, body, names }: Request): Promise<Answer> {
    return sized(await this.#vfs.getxattr(node, attributeAt(names)), body.readUInt32LE(0))
  }

  async #listxattr({ node, body }: Request): Promise<Answer> {
    const names = await this.#vfs.listxattr(node)
    const end = Buffer.alloc(1)
    return sized(Buffer.concat(names.flatMap((name) => [name, end])), body.readUInt32LE(0))
  }

  async #setxattr({ node, body, names, rest }: Request): Promise<Answer> {
    const value = body.subarray(rest)
    if (value.length !== body.readUInt32LE(0)) throw new PosixError('EINVAL', 'an attribute without all of its bytes')
    await this.#vfs.setxattr(node, attributeAt(names), Buffer.from(value), body.readUInt32LE(4))
    return undefined
  }
}

/**
 * POSIX ACLs come as attributes of the namespace `system`. Kept as plain bytes they would have no effect, and cp and tar
 * would believe that the mode was set with them: EOPNOTSUPP lets them set the mode.
 */
function attributeAt(names: readonly Buffer[]): Buffer {
  const name = nameAt(names, 0)
  if (name.subarray(0, SYSTEM.length).equals(SYSTEM)) throw new PosixError('EOPNOTSUPP', 'attributes of the system')
  return name
}

/** getxattr(2), listxattr(2): size 0 asks how much there is. */
function sized(value: Buffer, room: number): Buffer {
  if (room === 0) {
    const out = Buffer.alloc(8)
    out.writeUInt32LE(value.length, 0)
    return out
  }
  if (value.length > room) throw new PosixError('ERANGE', 'the value is longer than the caller has room for')
  return value
}
