/** Extended attributes. Limits as in linux/limits.h. */
import { PosixError } from '../base/errno.js'
import { XATTR_LIST_MAX_BYTES, XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../base/limits.js'
import type { Core } from './core.js'
import { SCRIPTS } from './scripts.js'

export class Xattrs {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  #keys(ino: number): string[] {
    return [this.#core.keys.of(ino).xattrs(ino)]
  }

  async get(ino: number, name: Buffer): Promise<Buffer> {
    checkName(name)
    const reply = await this.#core.read(SCRIPTS.getxattr, this.#core.keys.home(ino), this.#keys(ino), [ino, name])
    return reply.buffer(1)
  }

  async list(ino: number): Promise<readonly Buffer[]> {
    const reply = await this.#core.read(SCRIPTS.listxattr, this.#core.keys.home(ino), this.#keys(ino), [ino])
    return reply.list(1).filter((name): name is Buffer => Buffer.isBuffer(name))
  }

  async set(ino: number, name: Buffer, value: Buffer, mode: 'any' | 'create' | 'replace'): Promise<void> {
    checkName(name)
    if (value.length > XATTR_VALUE_MAX_BYTES) throw new PosixError('E2BIG', 'the value of an attribute is too long')
    const args = [ino, name, value, mode, XATTR_LIST_MAX_BYTES]
    await this.#core.change(SCRIPTS.setxattr, this.#core.keys.home(ino), this.#keys(ino), args)
  }

  async remove(ino: number, name: Buffer): Promise<void> {
    checkName(name)
    await this.#core.change(SCRIPTS.removexattr, this.#core.keys.home(ino), this.#keys(ino), [ino, name])
  }
}

function checkName(name: Buffer): void {
  if (name.length === 0 || name.length > XATTR_NAME_MAX_BYTES || name.includes(0)) {
    throw new PosixError('ERANGE', `the name of an attribute has 1 to ${XATTR_NAME_MAX_BYTES} bytes`)
  }
}
