/** Ranges of a file's data: which windows there are, holes, and the first and last step of clones (clone.ts). */
import { PosixError } from '../base/errno.js'
import { WINDOW_BYTES } from '../base/limits.js'
import { invariant } from '../base/invariant.js'
import type { RedisArg } from '../cluster/contract.js'
import { Cloner } from './clone.js'
import { PUNCH_WINDOWS_MAX, type Attr, type CloneRequest, type PunchRequest, type WindowList } from './contract.js'
import type { Core } from './core.js'
import { decodeInode } from './records.js'
import { STATUS_BODY } from './reply.js'
import { SCRIPTS } from './scripts.js'

export class Ranges {
  readonly #core: Core
  readonly #cloner: Cloner

  constructor(core: Core) {
    this.#core = core
    this.#cloner = new Cloner(core)
  }

  async windows(ino: number, from: number, limit: number): Promise<WindowList> {
    const { keys } = this.#core
    const reply = await this.#core.read(
      SCRIPTS.windows,
      keys.home(ino),
      [keys.of(ino).windows(ino)],
      [ino, from, Math.max(1, limit)],
    )
    return { attr: decodeInode(ino, reply.buffer(1)).attr, windows: reply.list(2).map(Number) }
  }

  async punch(ino: number, request: PunchRequest): Promise<Attr | null> {
    const { offset, lengthBytes, windows } = request
    if (offset < 0 || lengthBytes <= 0) throw new PosixError('EINVAL', 'no such range')
    invariant(windows.length <= PUNCH_WINDOWS_MAX, 'a punch has a bounded number of windows')
    const { keys } = this.#core
    const partition = keys.of(ino)
    const parts: RedisArg[] = []
    const named: string[] = []
    for (const window of windows) {
      const start = Math.max(offset - window * WINDOW_BYTES, 0)
      const end = Math.min(offset + lengthBytes - window * WINDOW_BYTES, WINDOW_BYTES)
      if (end <= start) continue
      parts.push(window, start, end - start)
      named.push(partition.extents(ino, window))
    }
    const { sec, nsec } = request.mtime
    const reply = await this.#core.change(
      SCRIPTS.punch,
      keys.home(ino),
      [partition.windows(ino), ...named, partition.xattrs(ino)],
      [ino, request.allocatedDeltaBytes, sec, nsec, request.clearSuid ? 1 : 0, request.minSizeBytes, ...parts],
    )
    return reply.status === STATUS_BODY ? null : decodeInode(ino, reply.buffer(1)).attr
  }

  clone(ino: number, request: CloneRequest): Promise<Attr | null> {
    return this.#cloner.clone(ino, request)
  }
}
