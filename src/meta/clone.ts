/**
 * Clones: extents that name chunks which another window names already, so that a copy of a file moves no bytes.
 *
 * A chunk is written for one window of one file. As long as nobody cloned it that window is its only holder, and nothing
 * is kept about that. A chunk that was ever cloned has a record (key :u, in the partition of its id) of its holders:
 * windows that name it, or are about to, each with a lower bound of its file's data version when it became a holder.
 *
 * Invariants:
 * 1. A window that names a chunk is among its holders; or there is no record, and the chunk was written for it.
 * 2. When a window ceases to name a chunk, the same script leaves a claim (kind discard) in its partition's list.
 * 3. A holder is only removed after a look at its window that found the chunk not named, at a data version other than the
 *    holder's (garbage.ts sees to that: if it is the same, it raises it), or the file gone; and only if the holder is then
 *    still what it was before that look. So nobody who may still commit is removed: he commits only on top of the version
 *    that he read, which is the holder's or a later one, and every later one that he wrote there makes it another holder.
 * 4. A chunk is deleted only with its last holder: its record is then empty, and nobody is added to an empty one. Without
 *    a record, the look at the window that it was written for is enough: nobody else names it, and who wants to checks it
 *    after he was added (step 3).
 *
 * Steps of a clone of windows S into windows D, any of which may be the last if the client dies:
 *   1. intend   D's list gets a claim (kind intent), so that a holder that comes to nothing is found after the grace period
 *   2. hold     D becomes a holder; S too, where there is no record yet
 *   3. verify   S is what it was when it was read, so that it names the chunks still: from here on they stay
 *   4. commit   if D is what it was when it was read
 * A chunk cloned inside its own window needs only the last: it is named there as long as the version is the same.
 *
 * A data version has 32 bits and is compared as a serial number: between two clones of one chunk into one window lie fewer
 * than 2^31 changes of the file. A client that stops between 1 and 2 for longer than the grace period, and dies before 4,
 * leaves a holder that nobody looks at: a chunk that is kept in vain. A master that loses what it
 * acknowledged last may lose a holder whose commit lies on another: with replicas, step 2 waits for as many as the volume
 * asks for.
 */
import { WINDOW_BYTES } from '../base/limits.js'
import type { RedisArg } from '../cluster/contract.js'
import { isErrno } from '../base/errno.js'
import type { Attr, CloneRequest, Extent } from './contract.js'
import type { Core } from './core.js'
import { decodeInode, encodeExtents, encodeHolder } from './records.js'
import { STATUS_RETRY } from './reply.js'
import { SCRIPTS } from './scripts.js'

/** Of one chunk. Its record is read and written whole. */
export const HOLDERS_MAX = 256
/** In one script. */
const HOLDS_MAX = 512

interface Hold {
  readonly extent: Extent
  readonly chunk: number
  readonly from: number
  readonly to: number
}

export class Cloner {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  async clone(ino: number, request: CloneRequest): Promise<Attr | null> {
    if (request.source === ino && request.sourceVersion !== request.version) return null
    const holds = holdsOf(ino, request)
    if (holds.length === 0) return await this.#commit(ino, request)
    if (!(await this.#intendTarget(ino, request, holds))) return null
    if (await this.#secure(ino, request, holds)) {
      await this.#core.step('clone-verified')
      const attr = await this.#commit(ino, request)
      if (attr !== null) return attr
    }
    // The claim of before may have been looked at before there was a holder. And where there was no record, the source
    // became a holder, of a chunk that it may not name any more.
    await this.#intend(ino, targetExtents(holds))
    await this.#intend(request.source, sourceExtents(holds))
    return null
  }

  /** Step 1. false: the target has changed. */
  async #intendTarget(ino: number, request: CloneRequest, holds: readonly Hold[]): Promise<boolean> {
    const target = await this.#intend(ino, targetExtents(holds))
    await this.#core.step('clone-intended')
    return target?.dataVersion === request.version
  }

  /** Steps 2 and 3. */
  async #secure(ino: number, request: CloneRequest, holds: readonly Hold[]): Promise<boolean> {
    const isHeld = await this.#hold(ino, request, holds)
    await this.#core.step('clone-held')
    const { source, sourceVersion } = request
    return isHeld && (source === ino || (await this.#version(source)) === sourceVersion)
  }

  async #version(ino: number): Promise<number | undefined> {
    try {
      const reply = await this.#core.read(SCRIPTS.getattr, this.#core.keys.home(ino), [], [ino])
      return decodeInode(ino, reply.buffer(1)).attr.dataVersion
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined
      throw error
    }
  }

  async #intend(ino: number, windows: ReadonlyMap<number, readonly Extent[]>): Promise<Attr | null> {
    const args: RedisArg[] = [ino]
    for (const [window, extents] of windows) args.push(window, encodeExtents(extents, window))
    const reply = await this.#core.change(SCRIPTS.intend, this.#core.keys.home(ino), [], args)
    const record = reply.optionalBuffer(1)
    return record === null ? null : decodeInode(ino, record).attr
  }

  async #hold(ino: number, request: CloneRequest, holds: readonly Hold[]): Promise<boolean> {
    const { keys } = this.#core
    const byPartition = new Map<number, RedisArg[][]>()
    for (const { chunk, from, to } of holds) {
      const p = keys.holdersOf(chunk)
      const list = byPartition.get(p) ?? []
      byPartition.set(p, list)
      list.push([
        chunk,
        encodeHolder(request.source, from),
        request.sourceVersion,
        encodeHolder(ino, to),
        request.version,
      ])
    }
    // Answered when the replicas have it: a failover must not forget a holder whose commit it remembers.
    const scripts = [...byPartition].flatMap(([p, list]) =>
      Array.from({ length: Math.ceil(list.length / HOLDS_MAX) }, (_, i) => {
        const some = list.slice(i * HOLDS_MAX, (i + 1) * HOLDS_MAX)
        return this.#core.change(SCRIPTS.hold, p, [keys.partition(p).holders], [HOLDERS_MAX, ...some.flat()])
      }),
    )
    const replies = await Promise.all(scripts)
    if (replies.some(({ status }) => status === STATUS_RETRY)) return false
    return true
  }

  /** Step 4. */
  async #commit(ino: number, request: CloneRequest): Promise<Attr | null> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    const windows = new Map<number, Extent[]>()
    for (const { extent } of request.extents) {
      const window = windowOf(extent)
      const list = windows.get(window)
      if (list === undefined) windows.set(window, [extent])
      else list.push(extent)
    }
    const { sec, nsec } = request.mtime
    const reply = await this.#core.change(
      SCRIPTS.clone,
      keys.home(ino),
      [
        partition.windows(ino),
        ...[...windows.keys()].map((window) => partition.extents(ino, window)),
        partition.xattrs(ino),
      ],
      [
        ino,
        request.version,
        request.allocatedDeltaBytes,
        sec,
        nsec,
        request.clearSuid ? 1 : 0,
        request.minSizeBytes,
        ...[...windows].flatMap(([window, extents]) => [window, encodeExtents(extents, window)]),
      ],
    )
    return reply.status === STATUS_RETRY ? null : decodeInode(ino, reply.buffer(1)).attr
  }
}

function windowOf(extent: Extent): number {
  return Math.floor(extent.fileOffset / WINDOW_BYTES)
}

/** Each chunk once for each pair of windows; none for what stays inside one. */
function holdsOf(ino: number, { source, extents }: CloneRequest): Hold[] {
  const holds = new Map<string, Hold>()
  for (const { extent, sourceWindow: from } of extents) {
    const to = windowOf(extent)
    if (extent.chunk === null || (source === ino && from === to)) continue
    holds.set(`${extent.chunk.id}/${from}/${to}`, { extent, chunk: extent.chunk.id, from, to })
  }
  return [...holds.values()]
}

function targetExtents(holds: readonly Hold[]): ReadonlyMap<number, readonly Extent[]> {
  return byWindow(
    holds,
    ({ to }) => to,
    ({ extent }) => extent,
  )
}

function sourceExtents(holds: readonly Hold[]): ReadonlyMap<number, readonly Extent[]> {
  return byWindow(
    holds,
    ({ from }) => from,
    // A claim is about chunks; where the extent lies says nothing.
    ({ extent, from }) => ({ ...extent, fileOffset: from * WINDOW_BYTES, lengthBytes: 1 }),
  )
}

function byWindow(
  holds: readonly Hold[],
  window: (hold: Hold) => number,
  extent: (hold: Hold) => Extent,
): ReadonlyMap<number, readonly Extent[]> {
  const windows = new Map<number, Map<number, Extent>>()
  for (const hold of holds) {
    const chunks = windows.get(window(hold)) ?? new Map<number, Extent>()
    windows.set(window(hold), chunks.set(hold.chunk, extent(hold)))
  }
  return new Map([...windows].map(([at, chunks]) => [at, [...chunks.values()]]))
}
