/** Whether a mount of this process can be written. A remount is the kernel's affair: whoever does it, this process is not told. */
import type { Clock } from '../base/clock.js'
import { isReadOnly } from '../fuse/mounts.js'

/** The list of mounts may be long: it is not read again before. */
const KNOWN_MS = 100

export class Writability {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  #device: string | undefined
  #isWritable = true
  #lookedMs = -Infinity

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  /** As MountEntry has it. */
  of(device: string | undefined): void {
    this.#device = device
  }

  get isWritable(): boolean {
    const nowMs = this.#clock.monotonicMs()
    if (this.#device === undefined || nowMs < this.#lookedMs + KNOWN_MS) return this.#isWritable
    this.#lookedMs = nowMs
    try {
      this.#isWritable = !isReadOnly(this.#device)
    } catch {
      // What this is asked for can wait until it is known.
      this.#isWritable = false
    }
    return this.#isWritable
  }
}
