/** Ranges of a file's data: which windows there are, holes, and the first and last step of clones (clone.ts). */
import { PosixError } from '../base/errno.js'
import { WINDOW_BYTES } from '../base/limits.js'
import { invariant } from '../base/invariant.js'
import type { RedisArg } from '../cluster/contract.js'
import { Cloner } from './clone.js'
import { PUNCH_WINDOWS_MAX, type Attr, type CloneRequest, type PunchRequest, type WindowList } from './contract.js'
import type { Core } from './core.js'
import { decodeInode } from './records.js'
import { STATUS_BODY, type Reply } from './reply.js'
import { SCRIPTS } from './scripts.js'

/** What punch.lua takes of a window. */
interface Punched {
  readonly window: number
  readonly args: readonly RedisArg[]
}

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

  /** In as many steps as it takes: one frees a bounded number of extents (punch.lua). */
  async punch(ino: number, request: PunchRequest): Promise<Attr | null> {
    const { offset, lengthBytes, windows } = request
    if (offset < 0 || lengthBytes <= 0) throw new PosixError('EINVAL', 'no such range')
    invariant(windows.size <= PUNCH_WINDOWS_MAX, 'a punch has a bounded number of windows')
    let parts: Punched[] = []
    for (const [window, allocatedDeltaBytes] of windows) {
      const start = Math.max(offset - window * WINDOW_BYTES, 0)
      const end = Math.min(offset + lengthBytes - window * WINDOW_BYTES, WINDOW_BYTES)
      if (end > start) parts.push({ window, args: [window, start, end - start, allocatedDeltaBytes] })
    }
    for (;;) {
      const reply = await this.#punch(ino, request, parts)
      if (reply.status === STATUS_BODY) return null
      parts = parts.slice(reply.number(2))
      if (parts.length === 0) return decodeInode(ino, reply.buffer(1)).attr
    }
  }

  #punch(ino: number, { mtime, clearSuid, minSizeBytes }: PunchRequest, parts: readonly Punched[]): Promise<Reply> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    const named = parts.map(({ window }) => partition.extents(ino, window))
    return this.#core.change(
      SCRIPTS.punch,
      keys.home(ino),
      [partition.windows(ino), ...named, partition.xattrs(ino)],
      [ino, mtime.sec, mtime.nsec, clearSuid ? 1 : 0, minSizeBytes, ...parts.flatMap(({ args }) => args)],
    )
  }

  clone(ino: number, request: CloneRequest): Promise<Attr | null> {
    return this.#cloner.clone(ino, request)
  }
}
