/**
 * Memory for written data. Large blocks are shared memory, so that a worker hashes them without a copy, and are used
 * again: a fresh one costs more in page faults than copying into a warm one, and the garbage collector does not count it.
 *
 * Invariant: a block is given back once, when no upload reads it and no batch shows it any more.
 */
import { KIB, MIB } from '../base/limits.js'
import { pageAlignedMemory } from '../base/shared-memory.js'
import { sizeClass } from '../base/size-class.js'

export interface Block {
  readonly bytes: Buffer
  /** Whole memory of the block, undefined if it is not kept for reuse. */
  readonly memory?: SharedArrayBuffer
}

/** From here on blocks are shared and kept. */
const SHARED_BLOCK_BYTES = 128 * KIB
const KEEP_BYTES = 64 * MIB

export class BlockPool {
  readonly #free = new Map<number, SharedArrayBuffer[]>()
  #freeBytes = 0

  take(lengthBytes: number): Block {
    if (lengthBytes < SHARED_BLOCK_BYTES) return { bytes: Buffer.allocUnsafeSlow(lengthBytes) }
    const size = sizeClass(lengthBytes, SHARED_BLOCK_BYTES)
    const kept = this.#free.get(size)?.pop()
    if (kept !== undefined) this.#freeBytes -= size
    const memory = kept ?? pageAlignedMemory(size)
    return { bytes: Buffer.from(memory, 0, lengthBytes), memory }
  }

  give({ memory }: Block): void {
    if (memory === undefined || this.#freeBytes + memory.byteLength > KEEP_BYTES) return
    const list = this.#free.get(memory.byteLength)
    if (list === undefined) this.#free.set(memory.byteLength, [memory])
    else list.push(memory)
    this.#freeBytes += memory.byteLength
  }
}
