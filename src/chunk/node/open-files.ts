/**
 * Chunk files that are kept open for the next read: opening one costs a fifth of reading 64 KiB of it.
 *
 * Only for a moment: an open file that was deleted keeps its room on the disk. Invariant: a descriptor is used in the tick in
 * which it was asked for, so that closing it later is no trouble to anyone.
 */
import { closeSync, openSync } from 'node:fs'

const OPEN_MAX = 128
const IDLE_MS = 1000

interface OpenFile {
  readonly fd: number
  used: boolean
}

export class OpenFiles {
  /** By chunk id; used longest ago first. */
  readonly #files = new Map<number, OpenFile>()
  #timer: NodeJS.Timeout | null = null

  get count(): number {
    return this.#files.size
  }

  /** Errors: what open(2) says. */
  descriptor(id: number, path: () => string): number {
    const known = this.#files.get(id)
    if (known !== undefined) {
      known.used = true
      this.#files.delete(id)
      this.#files.set(id, known)
      return known.fd
    }
    const fd = openSync(path(), 'r')
    this.#files.set(id, { fd, used: true })
    const oldest = this.#files.keys().next()
    if (this.#files.size > OPEN_MAX && oldest.done !== true) this.close(oldest.value)
    this.#timer ??= setTimeout(() => this.#sweep(), IDLE_MS).unref()
    return fd
  }

  close(id: number): void {
    const file = this.#files.get(id)
    if (file === undefined) return
    this.#files.delete(id)
    closeSync(file.fd)
  }

  /** What was not used since the last time goes. */
  #sweep(): void {
    this.#timer = null
    for (const [id, file] of this.#files) {
      if (file.used) file.used = false
      else this.close(id)
    }
    if (this.#files.size > 0) this.#timer = setTimeout(() => this.#sweep(), IDLE_MS).unref()
  }
}
