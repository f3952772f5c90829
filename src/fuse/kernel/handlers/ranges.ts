/** Ranges of open files: fallocate, lseek for holes and data, copy_file_range. linux/fuse.h, struct fuse_*_in. */
import { PosixError } from '../../../base/errno.js'
import { FILE_MAX_BYTES } from '../../../base/limits.js'
import type { VfsContract } from '../../../vfs/contract.js'
import { encodeCount, readU64, writeU64 } from '../wire.js'
import { handleOf, offsetAt, type Answer, type HandlerTable, type Request } from './request.js'

/** The answer has 32 bits for the count. */
const COPY_MAX_BYTES = 0x7fff_f000

export class RangeHandlers {
  readonly #vfs: VfsContract

  constructor(vfs: VfsContract) {
    this.#vfs = vfs
  }

  readonly table: HandlerTable = {
    fallocate: async ({ body }) => {
      await this.#vfs.fallocate(handleOf(body), body.readUInt32LE(24), offsetAt(body, 8), offsetAt(body, 16))
      return undefined
    },
    lseek: (request) => this.#seek(request),
    copyFileRange: (request) => this.#copy(request),
  }

  async #seek({ body }: Request): Promise<Answer> {
    const offset = readU64(body, 8)
    if (offset > FILE_MAX_BYTES) throw new PosixError('ENXIO', 'beyond the largest file')
    const out = Buffer.alloc(8)
    writeU64(out, await this.#vfs.seek(handleOf(body), offset, body.readUInt32LE(16)), 0)
    return out
  }

  async #copy({ body }: Request): Promise<Answer> {
    if (readU64(body, 48) !== 0) throw new PosixError('EINVAL', 'copy_file_range has no flags')
    const length = Math.min(readU64(body, 40), COPY_MAX_BYTES)
    const target = [readU64(body, 24), offsetAt(body, 32)] as const
    return encodeCount(await this.#vfs.copyRange(handleOf(body), offsetAt(body, 8), ...target, length))
  }
}
