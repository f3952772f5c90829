/**
 * Moves what the store keeps of a file itself into a chunk, where an operation needs extents.
 *
 * Invariant: the body goes only together with the coming of extents that read the same, in one script, and only if the file
 * is what it was when the body was read. The chunk is on disk by then: what an fsync promised of the body holds on.
 */
import { PosixError, isErrno } from '../base/errno.js'
import type { ExtentWindow } from '../meta/contract.js'
import { layOut } from './body-layout.js'
import type { VfsContext } from './context.js'

const TRIES = 5
const WAIT_MS = 5

export class Spiller {
  readonly #context: VfsContext

  constructor(context: VfsContext) {
    this.#context = context
  }

  /** Afterwards the file has no body, as far as this process knows. Errors: EAGAIN when others change it all the time. */
  async spill(ino: number): Promise<void> {
    const { meta, clock } = this.#context
    for (let attempt = 0; attempt < TRIES; attempt++) {
      if (attempt > 0) await clock.sleep(WAIT_MS * 2 ** attempt)
      const window = await meta.extents(ino, 0)
      if (window.body === undefined || (await this.#move(ino, window))) return
    }
    throw new PosixError('EAGAIN', 'the file is being changed')
  }

  /** false: the file was changed meanwhile. */
  async #move(ino: number, { dataVersion: version, body = [], extents: above }: ExtentWindow): Promise<boolean> {
    const { meta, uploader, extents: cache, durability } = this.#context
    const layout = layOut(body, above)
    if (layout.extents.length === 0) return await this.#spilt(ino, () => meta.spill(ino, version, []))
    const chunk = await uploader.upload({
      ino,
      data: layout.data,
      extents: layout.extents,
      // An fsync that promised more than this mount's own setting holds on.
      durability: durability === 'async' ? 'quorum' : durability,
      wantSync: () => true,
      isCancelled: () => false,
    })
    if (chunk === null) return false
    const extents = layout.extents.map((extent) => ({ ...extent, chunk }))
    const done = await this.#spilt(ino, () => meta.spill(ino, version, extents))
    cache.drop(ino)
    if (!done) uploader.discard([chunk.id])
    return done
  }

  async #spilt(ino: number, change: () => ReturnType<VfsContext['meta']['spill']>): Promise<boolean> {
    try {
      return (await this.#context.mutate(ino, change)) !== null
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false
      throw error
    }
  }
}
