/**
 * Memory for written data. Large blocks are shared memory, so that a worker hashes them without a copy, and are used
 * again: a fresh one costs more in page faults than copying into a warm one, and the garbage collector does not count it.
 *
 * Invariant: a block is given back once, when no upload reads it and no batch shows it any more.
 */
import { FreeList } from '../base/free-list.js'
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
  readonly #free = new FreeList<SharedArrayBuffer>({ keepBytes: KEEP_BYTES })

  take(lengthBytes: number): Block {
    if (lengthBytes < SHARED_BLOCK_BYTES) return { bytes: Buffer.allocUnsafeSlow(lengthBytes) }
    const size = sizeClass(lengthBytes, SHARED_BLOCK_BYTES)
    const memory = this.#free.take(size) ?? pageAlignedMemory(size)
    return { bytes: Buffer.from(memory, 0, lengthBytes), memory }
  }

  give({ memory }: Block): void {
    if (memory !== undefined) this.#free.give(memory.byteLength, memory)
  }
}
