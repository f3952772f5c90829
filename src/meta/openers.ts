/**
 * Which inodes this session has open, and telling Redis so.
 *
 * Invariant: while an inode is open here, or its opening is under way, the session stands in the inode's list of openers
 * (so that the last unlink keeps it). Closings are sent in batches, and never while one is being opened: an opening waits
 * for the batch that has its inode, and takes it out of those not sent yet.
 */
import type { Core } from './core.js'
import { messageOf } from '../base/errors.js'
import { SCRIPTS } from './scripts.js'

const FLUSH_DELAY_MS = 20
const BATCH_MAX = 64

export class Openers {
  readonly #core: Core
  readonly #counts = new Map<number, number>()
  readonly #closing = new Set<number>()
  #sending: { readonly inos: ReadonlySet<number>; readonly done: Promise<void> } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(core: Core) {
    this.#core = core
  }

  get inos(): Iterable<number> {
    return this.#counts.keys()
  }

  /** `register` runs the script that makes this session an opener. */
  async open<T>(ino: number, register: () => Promise<T>): Promise<T> {
    this.#count(ino, 1)
    try {
      while (this.#sending?.inos.has(ino) === true) await this.#sending.done
      return await register()
    } catch (error) {
      this.close(ino)
      throw error
    }
  }

  /** An inode that a script has just created and registered. */
  opened(ino: number): void {
    this.#count(ino, 1)
  }

  close(ino: number): void {
    const left = (this.#counts.get(ino) ?? 0) - 1
    if (left > 0) {
      this.#counts.set(ino, left)
      return
    }
    this.#counts.delete(ino)
    this.#closing.add(ino)
    if (this.#closing.size >= BATCH_MAX) void this.flush()
    else this.#timer ??= setTimeout(() => void this.flush(), FLUSH_DELAY_MS)
  }

  #count(ino: number, by: number): void {
    this.#counts.set(ino, (this.#counts.get(ino) ?? 0) + by)
    this.#closing.delete(ino)
  }

  /** Sends all closings that wait. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (this.#sending !== undefined) await this.#sending.done
    if (this.#closing.size === 0) return
    const inos = new Set(this.#closing)
    this.#closing.clear()
    const done = this.#send(inos).finally(() => {
      this.#sending = undefined
    })
    this.#sending = { inos, done }
    await done
  }

  async #send(inos: ReadonlySet<number>): Promise<void> {
    const byPartition = new Map<number, number[]>()
    for (const ino of inos) {
      const p = this.#core.keys.home(ino)
      const list = byPartition.get(p)
      if (list === undefined) byPartition.set(p, [ino])
      else list.push(ino)
    }
    const { session, options } = this.#core
    const sends = [...byPartition].map(([p, list]) => this.#core.change(SCRIPTS.close, p, [], [session.id, ...list]))
    for (const result of await Promise.allSettled(sends)) {
      // What was not told now is released when the session ends.
      if (result.status === 'rejected') options.log.warn({ error: messageOf(result.reason) }, 'a close was not told')
    }
  }
}
