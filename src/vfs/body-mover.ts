/**
 * Keeps room for the bytes of new small files in the metadata: when most of it is taken, those of files that nobody has changed for a while are moved
 * into chunks, until half of it is free.
 *
 * Invariants:
 * - A body goes only together with the coming of extents that read the same, in one script, and only if the file is what it was when the
 *   body was read. The chunk is on disk at its write quorum by then: what an fsync promised of the body holds on.
 * - Nobody removes the chunk once the store may have been told of it, unless that answered that it does not name it.
 * - The chunk's header says when the file was changed last, not when it was moved. What is written later is later in the order of writing, also
 *   if it was on its way meanwhile: a file that has rested for COMMITTED_MS has no older writes to come.
 */
import { allDone } from '../base/all-done.js'
import { Cancellation } from '../base/cancel.js'
import type { Clock } from '../base/clock.js'
import { isErrno } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { ORIGIN_ORDERS_MAX, orderAt, type ChunkClient, type Durability } from '../chunk/contract.js'
import {
  BODIES_CROWDED_SHARE,
  BODY_PIECE_BYTES,
  EXTENT_BYTES,
  type BodyMove,
  type BodyPiece,
  type ExtentWindow,
  type MetaStore,
  type OldBody,
} from '../meta/contract.js'
import { layOut, type BodyLayout } from './body-layout.js'
import type { ExtentCache } from './extent-cache.js'
import type { Freshness } from './freshness.js'
import type { AttrCache } from './cache.js'
import type { InodeStates } from './inode-state.js'
import { hasRoomFor } from './room.js'
import type { Uploader } from './uploader.js'

/** Of the budget: how far it goes, so that it does not begin again soon. */
const END_SHARE = 1 / 2
/** Of one page, which goes into one script. */
const FILES_MAX = 64
/** Others upload, too. */
const UPLOADS_AT_ONCE = 4
/** Of one page. What is not on disk by then is given up. */
const PAGE_DEADLINE_MS = 10_000
/** Extents above a body: the script writes all of them anew. */
const ABOVE_MAX = 1_000
/** Pages in a row of which nothing could be moved. */
const FRUITLESS_MAX = 64

export interface BodyMoverDeps {
  readonly meta: MetaStore
  readonly chunks: ChunkClient
  readonly uploader: Uploader
  readonly fresh: Freshness
  readonly attrs: AttrCache
  readonly extents: ExtentCache
  readonly states: Pick<InodeStates, 'peek'>
  readonly clock: Clock
  readonly log: Log
  readonly durability: Durability
  /** Nobody has changed the file for so long. Infinity: none is moved. */
  readonly restMs: number
  /** Asked before anything is written. */
  readonly mayTidyUp: () => boolean
  /** Of each, with the version that it made of contents that read the same. */
  readonly onMoved: (ino: number, dataVersion: number) => void
}

/**
 * Asked before each page, with how long the one before took: resolves when there is time for it. false: not now, or never again.
 */
export type Turn = (tookMs: number) => Promise<boolean>

/** `idle`: there is room, or others see to it. `over`: there was no time for more. `barren`: nothing was found that may be moved. */
export type MoveEnd = 'idle' | 'over' | 'barren' | 'done'

interface Ready extends BodyMove {
  readonly chunkId: number | undefined
  readonly lengthBytes: number
}

export class BodyMover {
  readonly #deps: BodyMoverDeps
  readonly #stopping = new Cancellation()
  /** It was begun, and is not where it goes to. */
  #isUnderWay = false
  /** Files moved, and their bytes. */
  moved = 0
  movedBytes = 0

  constructor(deps: BodyMoverDeps) {
    this.#deps = deps
  }

  get isOff(): boolean {
    const { meta, restMs } = this.#deps
    return restMs === Infinity || meta.settings.inlineBytes === 0
  }

  /** Nothing more is begun, and what is on its way to the nodes is given up: who waits for the page does so no longer. */
  stop(): void {
    this.#stopping.cancel()
  }

  /** One page after the other. Errors: those of the store and of the nodes; what was moved is moved. */
  async makeRoom(turn: Turn): Promise<MoveEnd> {
    if (this.isOff) return 'idle'
    if (this.#isOver()) return 'over'
    const { meta, clock } = this.#deps
    const { oldBodies } = meta
    if (!(await oldBodies.claim())) return 'idle'
    const used = await oldBodies.count()
    // Others may have come to the end of what was begun here.
    this.#isUnderWay &&= used > oldBodies.budgetBytes * END_SHARE
    if (!this.#isUnderWay && used <= oldBodies.budgetBytes * BODIES_CROWDED_SHARE) return 'idle'
    this.#isUnderWay = true
    let tookMs = 0
    for (let fruitless = 0; fruitless < FRUITLESS_MAX; fruitless++) {
      if (!(await turn(tookMs)) || !(await this.#hasRoom()) || this.#isOver()) return 'over'
      if (!(await oldBodies.claim())) return 'idle'
      const startMs = clock.monotonicMs()
      if ((await this.#page()) > 0) fruitless = -1
      tookMs = clock.monotonicMs() - startMs
      if (oldBodies.usedBytes > oldBodies.budgetBytes * END_SHARE) continue
      this.#isUnderWay = false
      return 'done'
    }
    return 'barren'
  }

  #isOver(): boolean {
    return this.#stopping.aborted || !this.#deps.mayTidyUp()
  }

  async #hasRoom(): Promise<boolean> {
    return hasRoomFor(await this.#deps.chunks.space(), this.#deps.meta.settings.chunkBytes)
  }

  /** How many were moved. */
  async #page(): Promise<number> {
    const { meta, states, restMs, uploader } = this.#deps
    const found = await meta.oldBodies.find(restMs)
    // Who has it open without the store's knowing, or writes to it, is here.
    const old = found.filter(({ ino }) => states.peek(ino) === undefined).slice(0, FILES_MAX)
    const ready: Ready[] = []
    const before = this.moved
    try {
      await this.#upload(old, ready)
    } finally {
      // What is on disk is moved also where another failed, or the mount ends.
      const isMoved = this.#deps.mayTidyUp() ? await this.#move(ready) : []
      const inVain = ready.filter((_, at) => isMoved[at] !== true).flatMap(({ chunkId }) => chunkId ?? [])
      if (inVain.length > 0) uploader.discard(inVain)
    }
    return this.moved - before
  }

  async #upload(old: readonly OldBody[], ready: Ready[]): Promise<void> {
    const { clock } = this.#deps
    const untilMs = clock.monotonicMs() + PAGE_DEADLINE_MS
    const queue = old.values()
    const work = async (): Promise<void> => {
      for (const body of queue) {
        if (this.#isOver()) return
        const one = await this.#store(body, untilMs)
        if (one !== null) ready.push(one)
      }
    }
    await allDone(Array.from({ length: UPLOADS_AT_ONCE }, work))
  }

  /** null: it was changed, cannot be one chunk, is not worth it, or it takes too long. */
  async #store(old: OldBody, untilMs: number): Promise<Ready | null> {
    const { uploader, durability, clock } = this.#deps
    const { ino, version, ctime } = old
    const layout = await this.#layout(old)
    if (layout === null || layout.extents.length > ORIGIN_ORDERS_MAX) return null
    const { data, extents } = layout
    if (extents.length === 0) return { ino, version, extents: [], chunkId: undefined, lengthBytes: 0 }
    const chunk = await uploader.upload({
      ...{ ino, data, extents, packed: { orders: extents.map(() => orderAt(ctime)), appends: [] } },
      // An fsync that promised more than this mount's own setting holds on.
      durability: durability === 'async' ? 'quorum' : durability,
      wantSync: () => true,
      isCancelled: () => clock.monotonicMs() > untilMs || this.#isOver(),
      stop: this.#stopping,
    })
    if (chunk === null) return null
    const named = extents.map((extent) => ({ ...extent, chunk }))
    return { ino, version, extents: named, chunkId: chunk.id, lengthBytes: chunk.lengthBytes }
  }

  async #layout({ ino, version, body }: OldBody): Promise<BodyLayout | null> {
    if (body !== undefined) return ifShorter(body, layOut(body, []))
    const window = await this.#windowOf(ino)
    if (window === null) return null
    if (window.dataVersion !== version || window.body === undefined || window.extents.length > ABOVE_MAX) return null
    return ifShorter(window.body, layOut(window.body, window.extents))
  }

  /** null: the file is gone, or damaged, which who reads it is told. */
  async #windowOf(ino: number): Promise<ExtentWindow | null> {
    try {
      return await this.#deps.meta.extents(ino, 0)
    } catch (error) {
      if (!isErrno(error, 'ENOENT') && !isErrno(error, 'EIO')) throw error
      this.#deps.log.debug({ ino, error: messageOf(error) }, 'a small file cannot be read')
      return null
    }
  }

  async #move(ready: readonly Ready[]): Promise<readonly boolean[]> {
    const { meta, fresh, attrs, extents, log, onMoved } = this.#deps
    if (ready.length === 0) return []
    // Its loss would be nobody's concern: then the body is there.
    const mutations = ready.map(({ ino }) => fresh.begin(ino, false))
    try {
      const isMoved = await meta.oldBodies.move(ready)
      for (const [at, { ino, version, lengthBytes }] of ready.entries()) {
        if (isMoved[at] !== true) continue
        this.moved++
        this.movedBytes += lengthBytes
        onMoved(ino, version + 1)
      }
      return isMoved
    } catch (error) {
      log.debug({ files: ready.length, error: messageOf(error) }, 'whether small files were moved is not known')
      throw error
    } finally {
      for (const mutation of mutations) {
        attrs.settle(mutation, null)
        extents.drop(mutation.ino)
      }
    }
  }
}

/** null: the store has more of the extents than of the body. */
function ifShorter(body: readonly BodyPiece[], layout: BodyLayout): BodyLayout | null {
  const bodyBytes = body.reduce((sum, { bytes }) => sum + BODY_PIECE_BYTES + (bytes?.length ?? 0), 0)
  return layout.extents.length * EXTENT_BYTES < bodyBytes ? layout : null
}
