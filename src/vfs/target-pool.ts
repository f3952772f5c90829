/** Memory for what is read, used again when the reader gives it back (base/lent.ts). */
import { FreeList } from '../base/free-list.js'
import { KIB, MIB } from '../base/limits.js'
import { lend } from '../base/lent.js'
import { sizeClass } from '../base/size-class.js'

/** Shorter ones cost less than they would here. */
const POOLED_MIN_BYTES = 32 * KIB
const POOLED_MAX_BYTES = 4 * MIB
const KEEP_BYTES = 16 * MIB

export class TargetPool {
  readonly #free = new FreeList<Buffer>({ keepBytes: KEEP_BYTES })
  /** Allocated here. Buffers of other lengths may lie in memory that Node shares between many, whatever its size. */
  readonly #own = new WeakSet<ArrayBufferLike>()

  get freeBytes(): number {
    return this.#free.freeBytes
  }

  take(lengthBytes: number): Buffer {
    if (lengthBytes < POOLED_MIN_BYTES || lengthBytes > POOLED_MAX_BYTES) return Buffer.allocUnsafe(lengthBytes)
    const size = sizeClass(lengthBytes, POOLED_MIN_BYTES)
    return (this.#free.take(size) ?? this.#allocate(size)).subarray(0, lengthBytes)
  }

  /** What take() answered, or the start of it, for a receiver that may give it back. Nothing else may use it any more. */
  lend(target: Buffer): Buffer {
    const { buffer: memory } = target
    if (!this.#own.has(memory)) return target
    return lend(target, () => this.#free.give(memory.byteLength, Buffer.from(memory)))
  }

  #allocate(size: number): Buffer {
    const memory = Buffer.allocUnsafeSlow(size)
    this.#own.add(memory.buffer)
    return memory
  }
}
