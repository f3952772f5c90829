/**
 * The handles of one connection.
 *
 * Invariants:
 * - A VFS handle is released exactly once, and never while a call uses it: close takes the handle out of the table at
 *   once, so that no new call finds it, and waits for those that run.
 * - When the connection ends, everything is released, what is being opened at that moment included.
 */
import { PosixError, type ErrnoName } from '../base/errno.js'
import { RingfsError } from '../base/errors.js'

export interface OpenHandle {
  readonly kind: 'file' | 'directory'
  /** Of the VFS. */
  readonly handle: number
  readonly ino: number
  /** As given to open(2). */
  readonly flags: number
}

interface Entry {
  readonly open: OpenHandle
  uses: number
  onUnused: (() => void) | null
  /** Until the client has named it. */
  onNamed: (() => void) | null
}

export class HandleTable {
  readonly #entries = new Map<number, Entry>()
  readonly #limit: number
  readonly #nextId: () => number
  readonly #release: (open: OpenHandle) => Promise<void>
  #opening = 0
  #closed = false

  constructor(limit: number, nextId: () => number, release: (open: OpenHandle) => Promise<void>) {
    this.#limit = limit
    this.#nextId = nextId
    this.#release = release
  }

  get size(): number {
    return this.#entries.size
  }

  /** Opens and enters. Errors: EMFILE, and those of `open`. */
  async add<T extends { readonly open: OpenHandle }>(open: () => Promise<T>): Promise<T & { readonly id: number }> {
    if (this.#entries.size + this.#opening >= this.#limit) {
      throw new PosixError('EMFILE', `${this.#limit} handles are open on this connection`)
    }
    this.#opening++
    try {
      const opened = await open()
      return { ...opened, id: await this.#enter(opened.open) }
    } finally {
      this.#opening--
    }
  }

  /** Errors: EBADF; ENOTDIR or EISDIR when it is of the other kind. */
  async use<T>(id: number, kind: OpenHandle['kind'], work: (open: OpenHandle) => Promise<T>): Promise<T> {
    const entry = this.#find(id)
    if (entry.open.kind !== kind) throw new PosixError(wrongKind(kind))
    entry.uses++
    try {
      return await work(entry.open)
    } finally {
      entry.uses--
      if (entry.uses === 0) entry.onUnused?.()
    }
  }

  /** Calls `onNamed` once, when the client names it: it knows of it. */
  whenNamed(id: number, onNamed: () => void): void {
    const entry = this.#entries.get(id)
    if (entry !== undefined) entry.onNamed = onNamed
  }

  get(id: number): OpenHandle {
    return this.#find(id).open
  }

  /** Errors: EBADF, and those of release. */
  async close(id: number): Promise<void> {
    const entry = this.#find(id)
    this.#entries.delete(id)
    await this.#end(entry)
  }

  /** Errors of single releases are `onError`'s. */
  async closeAll(onError: (error: unknown) => void): Promise<void> {
    this.#closed = true
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    await Promise.all(entries.map((entry) => this.#end(entry).catch(onError)))
  }

  async #enter(open: OpenHandle): Promise<number> {
    if (this.#closed) {
      await this.#release(open)
      throw new RingfsError('CONNECTION_LOST', 'the connection ended while a file was being opened')
    }
    const id = this.#nextId()
    this.#entries.set(id, { open, uses: 0, onUnused: null, onNamed: null })
    return id
  }

  async #end(entry: Entry): Promise<void> {
    if (entry.uses > 0) await new Promise<void>((resolve) => (entry.onUnused = resolve))
    await this.#release(entry.open)
  }

  #find(id: number): Entry {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw new PosixError('EBADF')
    entry.onNamed?.()
    entry.onNamed = null
    return entry
  }
}

function wrongKind(wanted: OpenHandle['kind']): ErrnoName {
  return wanted === 'directory' ? 'ENOTDIR' : 'EISDIR'
}
