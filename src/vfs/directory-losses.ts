/** Changes of open directories that are lost: each handle says so once, at its next fsync. If none does, it is left to the next one: tail.ts. */
import type { PosixError } from '../base/errno.js'
import type { DirectoryStream } from './directory.js'
import type { Handles } from './handles.js'
import type { Tail } from './tail.js'

interface Loss {
  readonly failure: PosixError
  /** Some handle has said so. */
  isHeard: boolean
}

export class DirectoryLosses {
  readonly #handles: Handles
  readonly #tail: Tail
  /** What handles still have to tell; those of one directory share it. */
  readonly #losses = new Map<DirectoryStream, Loss>()

  constructor(handles: Handles, tail: Tail) {
    this.#handles = handles
    this.#tail = tail
  }

  lost(isConcerned: (ino: number) => boolean, failure: PosixError): void {
    const byIno = new Map<number, Loss>()
    for (const stream of this.#handles.directories()) {
      if (!isConcerned(stream.ino)) continue
      const loss = byIno.get(stream.ino) ?? { failure, isHeard: false }
      byIno.set(stream.ino, loss)
      this.#losses.set(stream, loss)
      this.#tail.told(stream.ino)
    }
  }

  /** At the end of an fsync: throws what this handle has to tell, or nobody was told. */
  report(stream: DirectoryStream): void {
    const loss = this.#losses.get(stream)
    if (loss === undefined) {
      this.#tail.report(stream.ino)
      return
    }
    this.#losses.delete(stream)
    loss.isHeard = true
    throw loss.failure
  }

  closed(stream: DirectoryStream): void {
    const loss = this.#losses.get(stream)
    this.#losses.delete(stream)
    if (loss === undefined || loss.isHeard || [...this.#losses.values()].includes(loss)) return
    this.#tail.owe(stream.ino, loss.failure)
  }
}
