/**
 * What this process holds of a file that is open here or has unwritten data: kept from the first open until the last
 * handle is released and everything is committed.
 */
import type { PosixError } from '../base/errno.js'
import { InodeWriter, type WriterDeps } from './writer.js'

export class InodeState {
  readonly ino: number
  readonly writer: InodeWriter
  /** Handles, and calls that need the state to stay. */
  users = 0
  /** Made here, and not closed or changed otherwise since; how often it was written to: early-commits.ts. */
  isNew = false
  writes = 0
  #gate: Promise<void> | null = null

  constructor(ino: number, deps: WriterDeps) {
    this.ino = ino
    this.writer = new InodeWriter(ino, deps)
  }

  get isSettled(): boolean {
    return this.#gate === null
  }

  /** Resolves when no change of size is under way: reads and writes see the file before it or after it. */
  async settled(): Promise<void> {
    while (this.#gate !== null) await this.#gate
  }

  /** One change of size at a time; reads and writes that come later wait for it. */
  async exclusive<T>(change: () => Promise<T>): Promise<T> {
    // Checked and taken in one tick: of several that wait, one gets it.
    while (this.#gate !== null) await this.#gate
    let open = (): void => undefined
    const gate = new Promise<void>((resolve) => (open = resolve))
    this.#gate = gate
    try {
      return await change()
    } finally {
      this.#gate = null
      open()
    }
  }
}

export interface InodeStatesDeps extends WriterDeps {
  /** Writing failed, and nobody who had it open was told. */
  readonly onUnseen: (ino: number, failure: PosixError) => void
}

export class InodeStates {
  readonly #deps: InodeStatesDeps
  readonly #states = new Map<number, InodeState>()

  constructor(deps: InodeStatesDeps) {
    this.#deps = deps
  }

  peek(ino: number): InodeState | undefined {
    return this.#states.get(ino)
  }

  all(): InodeState[] {
    return [...this.#states.values()]
  }

  /** Takes part in the state; give it back with `leave`. */
  enter(ino: number): InodeState {
    let state = this.#states.get(ino)
    if (state === undefined) this.#states.set(ino, (state = new InodeState(ino, this.#deps)))
    state.users++
    return state
  }

  leave(state: InodeState): void {
    state.users--
    if (state.users > 0) return
    if (!state.writer.isDirty) this.#forget(state)
    else void this.#leaveWhenClean(state)
  }

  /** A writer that was still at it when the last handle went. */
  async #leaveWhenClean(state: InodeState): Promise<void> {
    await state.writer.flush()
    const isKnown = this.#states.get(state.ino) === state
    if (isKnown && state.users === 0 && !state.writer.isDirty) this.#forget(state)
  }

  #forget({ ino, writer }: InodeState): void {
    this.#states.delete(ino)
    if (writer.isUnseen && writer.failure !== null) this.#deps.onUnseen(ino, writer.failure)
  }
}
