/**
 * Bodies: the bytes of small files, kept beside their inode records, as long as there is room for them.
 *
 * How much there may be is said for the volume, but a script sees one partition only. So each client keeps count: exactly of
 * what its own changes answer, and of the rest by asking all partitions now and then. Clients may so overshoot together, each
 * by what it writes between two questions.
 */
import { messageOf } from '../base/errors.js'
import { longestInlineBytes } from '../base/limits.js'
import { attributeArgs } from './attribute-args.js'
import {
  BODIES_CROWDED_SHARE,
  BODY_PIECE_BYTES,
  type Attr,
  type CommitReply,
  type Extent,
  type InlineCommitRequest,
} from './contract.js'
import type { Core } from './core.js'
import { decodeInode, encodeBody, encodeExtents } from './records.js'
import { allPartitions, each } from './recovery.js'
import { STATUS_REFUSED, STATUS_RETRY } from './reply.js'
import { SCRIPTS } from './scripts.js'

const COUNT_PERIOD_MS = 5_000
/** Of the budget: after so much was written here it is counted again. */
const COUNT_SHARE = 32

export class Bodies {
  readonly #core: Core
  readonly #counts: number[]
  #usedBytes = 0
  #writtenBytes = 0
  #countedMs = Number.NEGATIVE_INFINITY
  #counting = false

  constructor(core: Core) {
    this.#core = core
    this.#counts = allPartitions(core).map(() => 0)
  }

  get inlineBytes(): number {
    const { inlineBytes, inlineBudgetBytes } = this.#core.options.settings
    if (inlineBytes === 0) return 0
    // What is as good as full would be asked in vain for each file.
    return Math.max(0, Math.min(inlineBytes, inlineBudgetBytes - this.usedBytes - BODY_PIECE_BYTES))
  }

  /** Of all bodies, as far as they were counted. */
  get usedBytes(): number {
    this.#keepCounted()
    return this.#usedBytes
  }

  /** As they were counted last, by partition. */
  get counts(): readonly number[] {
    return this.#counts
  }

  get wholeInlineBytes(): number {
    const { inlineBudgetBytes } = this.#core.options.settings
    // The short ones, of which each saves as much, have the rest of the room for themselves. Old ones make room when it comes to that.
    return this.#usedBytes < inlineBudgetBytes * BODIES_CROWDED_SHARE ? longestInlineBytes(this.inlineBytes) : 0
  }

  async commit(ino: number, request: InlineCommitRequest): Promise<CommitReply | null> {
    const { keys, options } = this.#core
    const p = keys.home(ino)
    const pieces = encodeBody(ino, request.pieces)
    const { sec, nsec } = request.mtime
    const { inlineBytes } = options.settings
    const reply = await this.#core.change(
      SCRIPTS.commitInline,
      p,
      [keys.of(ino).xattrs(ino), keys.of(ino).acls],
      [
        ino,
        request.mode,
        pieces,
        request.allocatedDeltaBytes,
        sec,
        nsec,
        request.clearSuid === true ? 1 : 0,
        inlineBytes,
        isWhole(request) ? longestInlineBytes(inlineBytes) : inlineBytes,
        this.#limitOf(p),
        request.neverBack === true ? 1 : 0,
        ...(request.attributes === undefined ? [] : attributeArgs(request.attributes, options.clock)),
      ],
    )
    if (reply.status === STATUS_REFUSED) return null
    this.#writtenBytes += pieces.length
    this.counted(p, reply.number(3))
    const committed = { attr: decodeInode(ino, reply.buffer(1)).attr, baseOffset: reply.number(2) }
    return reply.number(4) === 1 ? { ...committed, attributesLeft: true } : committed
  }

  async spill(ino: number, version: number, extents: readonly Extent[]): Promise<Attr | null> {
    const { keys } = this.#core
    const partition = keys.of(ino)
    const reply = await this.#core.change(
      SCRIPTS.spill,
      keys.home(ino),
      [partition.extents(ino, 0), partition.windows(ino)],
      [ino, version, encodeExtents(extents, 0)],
    )
    return reply.status === STATUS_RETRY ? null : decodeInode(ino, reply.buffer(1)).attr
  }

  /** Bytes of all bodies, asked now. */
  async count(): Promise<number> {
    const { store, clock } = this.#core.options
    this.#countedMs = clock.monotonicMs()
    this.#writtenBytes = 0
    await each(allPartitions(this.#core), async (p) => {
      const reply = await store.call('HGET', this.#core.keys.partition(p).counters, 'inline')
      this.counted(p, Number(reply ?? 0))
    })
    return this.#usedBytes
  }

  /** The partition has so many. */
  counted(p: number, bytes: number): void {
    this.#usedBytes += bytes - (this.#counts[p] ?? 0)
    this.#counts[p] = bytes
  }

  #limitOf(p: number): number {
    const { inlineBudgetBytes } = this.#core.options.settings
    return (this.#counts[p] ?? 0) + Math.max(0, inlineBudgetBytes - this.#usedBytes)
  }

  #keepCounted(): void {
    const { settings, clock, log } = this.#core.options
    const isDue =
      clock.monotonicMs() - this.#countedMs >= COUNT_PERIOD_MS ||
      this.#writtenBytes * COUNT_SHARE > settings.inlineBudgetBytes
    if (!isDue || this.#counting) return
    this.#counting = true
    this.count()
      .catch((error: unknown) => log.debug({ error: messageOf(error) }, 'small files could not be counted'))
      .finally(() => (this.#counting = false))
  }
}

/**
 * One piece from the start takes the place of all that there was (commit-inline.lua). Only so a long body may come to be: each
 * change of a part writes all of it anew, into Redis's file, too.
 */
function isWhole({ mode, pieces }: InlineCommitRequest): boolean {
  return mode === 'at' && pieces.length === 1 && pieces[0]?.fileOffset === 0
}
