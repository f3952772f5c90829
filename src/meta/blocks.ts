/**
 * Ids for new chunks, in blocks, and who may still commit chunks of a block: key {v}:m:blocks, block -> session.
 *
 *   session's --session gone--> noted, since when --a grace period--> closed --its orphans freed (check/sweep.ts)--> forgotten
 *       ^  |                         |                                  ^
 *       |  +-------------------------+----fsck, rebuild: endBlocks()----+
 *       +---- the same process, in its next session
 *
 * Invariant: nobody commits a chunk of a closed or forgotten block, so that what no file names of it is garbage for good. A session
 * that others have ended commits nothing more (session.ts); its process goes on in another one, and before it commits a
 * chunk of a block that it had, the block is that one's. Where it is closed the commit fails: the bytes were never acknowledged
 * as synced, and the caller is told.
 */
import { PosixError } from '../base/errno.js'
import { messageOf } from '../base/errors.js'
import { arrayOf, numberOf } from '../cluster/reply.js'
import type { RedisStore, RedisValue } from '../cluster/contract.js'
import type { Extent } from './contract.js'
import type { Core } from './core.js'
import { CHUNK_BLOCK, type VolumeKeys } from './keys.js'
import { SCRIPTS } from './scripts.js'

const RETRY_MS = 200
const BLOCKS_AT_ONCE = 256
/** As end-blocks.lua says it. */
const ENDED = ['undecided', 'closed', 'alive'] as const

/** `undecided`: its session may have ended, and others have not cleaned up after it yet. */
export type BlockState = (typeof ENDED)[number]

/** Blocks of these chunks: those whose session is over are closed now. Of `alive` and `undecided` ones chunks may still be committed. */
export async function endBlocks(
  store: RedisStore,
  keys: VolumeKeys,
  chunks: Iterable<number>,
): Promise<ReadonlyMap<number, BlockState>> {
  const blocks = [...new Set([...chunks].map((id) => Math.floor(id / CHUNK_BLOCK)))]
  const states = new Map<number, BlockState>()
  for (let at = 0; at < blocks.length; at += BLOCKS_AT_ONCE) {
    const some = blocks.slice(at, at + BLOCKS_AT_ONCE)
    const reply = await store.run(SCRIPTS.endBlocks, [keys.wide('blocks'), keys.wide('s'), keys.wide('dead')], some)
    for (const [index, state] of arrayOf(reply, 'end-blocks').entries()) {
      states.set(some[index] ?? 0, ENDED[numberOf(state, 'end-blocks')] ?? 'undecided')
    }
  }
  return states
}

export class Blocks {
  readonly #core: Core
  /** Of this process. */
  readonly #taken = new Map<number, 'ours' | 'closed'>()
  #next = 0
  #end = 0
  #taking: Promise<void> | undefined
  /** While it is not known whose they are. */
  #doubt: Promise<void> | undefined
  #settle: () => void = () => undefined
  #session = 0
  #isClosed = false

  constructor(core: Core) {
    this.#core = core
  }

  async id(): Promise<number> {
    while (this.#next >= this.#end) {
      this.#taking ??= this.#take().finally(() => {
        this.#taking = undefined
      })
      await this.#taking
    }
    return this.#next++
  }

  /** A block whose reply is lost is left unused: ids only have to be unique. */
  async #take(): Promise<void> {
    const { keys, session } = this.#core
    await this.#known()
    const owner = session.id
    const take = async (): Promise<number> =>
      numberOf(
        await this.#core.run(SCRIPTS.takeBlock, [keys.wide('n'), keys.wide('blocks')], [owner, this.#core.lone]),
        'take-block',
      )
    const block = await this.#core.replicas.behind(keys.wide('n'), take)
    // Chunks outlive a loss of power that a private Redis forgets the block by: it would give their ids again.
    await this.#core.options.store.syncLocal()
    this.#taken.set(block, 'ours')
    this.#next = block * CHUNK_BLOCK
    this.#end = this.#next + CHUNK_BLOCK
    // Taken in a session that has ended meanwhile.
    await this.#known()
    if (owner === session.id) return
    this.ended(owner)
    await this.reown(session.id)
  }

  /** Another client has ended our session. Before anything is sent in the next one. */
  ended(session: number): void {
    if (this.#doubt !== undefined) return
    this.#session = session
    this.#doubt = new Promise((resolve) => (this.#settle = resolve))
  }

  /** Errors: EIO, when it takes longer than a change of the metadata may, or nobody asks any more. */
  async #known(): Promise<void> {
    const { clock, operationDeadlineMs } = this.#core.options
    const untilMs = clock.monotonicMs() + operationDeadlineMs
    for (let doubt = this.#doubt; doubt !== undefined; doubt = this.#doubt) {
      const leftMs = untilMs - clock.monotonicMs()
      if (leftMs <= 0 || this.#isClosed) throw new PosixError('EIO', 'Redis does not tell whose chunk ids these are')
      await new Promise<void>((resolve) => {
        const timer = clock.after(leftMs, resolve)
        void doubt.then(() => {
          timer.close()
          resolve()
        })
      })
    }
  }

  /** Nothing is committed any more. */
  close(): void {
    this.#isClosed = true
    this.#settle()
  }

  /** The next session is there. Asks until it is known, or nobody wants to know it any more. */
  async reown(session: number): Promise<void> {
    const { options } = this.#core
    const blocks = [...this.#taken.keys()].filter((block) => this.#taken.get(block) === 'ours')
    for (let isKnown = blocks.length === 0; !isKnown && !this.#isClosed;) {
      try {
        await this.#ask(session, blocks)
        isKnown = true
      } catch (error) {
        options.log.warn({ err: messageOf(error) }, 'whose blocks of chunk ids these are is not known yet')
        await options.clock.sleep(RETRY_MS)
      }
    }
    if (!this.#isClosed) this.#doubt = undefined
    this.#settle()
  }

  async #ask(session: number, blocks: readonly number[]): Promise<void> {
    const { keys, options } = this.#core
    const key = keys.wide('blocks')
    const ask = (): Promise<RedisValue> => this.#core.run(SCRIPTS.ownBlocks, [key], [this.#session, session, ...blocks])
    const reply = await this.#core.replicas.behind(key, ask)
    for (const [at, isOurs] of arrayOf(reply, 'own-blocks').entries()) {
      const block = blocks[at]
      if (block === undefined || isOurs === 1) continue
      options.log.error({ block }, 'this client was away for so long that its uncommitted chunks were given up')
      this.#taken.set(block, 'closed')
      if (this.#next >= block * CHUNK_BLOCK && this.#next <= (block + 1) * CHUNK_BLOCK) this.#end = this.#next
    }
  }

  /** Before these are committed. Errors: EIO, when one of them may be freed by now. */
  async check(extents: readonly Extent[]): Promise<void> {
    await this.#known()
    const isClosed = extents.some(
      ({ chunk }) => chunk !== null && this.#taken.get(Math.floor(chunk.id / CHUNK_BLOCK)) === 'closed',
    )
    if (isClosed) throw new PosixError('EIO', 'the client was away for so long that its uncommitted data were given up')
  }
}
