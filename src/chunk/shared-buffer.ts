/**
 * Memory that worker threads see without a copy.
 *
 * A fresh SharedArrayBuffer of 4 MiB costs about 12 ms of page faults here and a copy into a warm one 0.2 ms; besides,
 * V8 does not count shared memory when it decides to collect garbage, so that dropping many of them fills the machine.
 * Hence they are lent and given back, and not dropped: of what nobody needs the pages are (base/free-list.ts).
 */
import { FreeList } from '../base/free-list.js'
import { invariant } from '../base/invariant.js'
import { CHUNK_MAX_BYTES, KIB, MIB } from '../base/limits.js'
import { joinInto } from '../base/own-bytes.js'
import { pageAlignedMemory } from '../base/shared-memory.js'
import { sizeClass } from '../base/size-class.js'

/** Shared memory on loan. Nobody may use `bytes` after release(). */
export interface SharedLease {
  readonly bytes: Buffer
  /** Idempotent. */
  readonly release: () => void
}

const SMALLEST_BYTES = 16 * KIB
const ALIGNED_MIN_BYTES = 256 * KIB
/** Kept for reuse; what is given back beyond it is dropped. */
const KEEP_BYTES_DEFAULT = 32 * MIB

export class SharedBuffers {
  /** Of one loan. */
  readonly maxBytes = CHUNK_MAX_BYTES
  readonly #free: FreeList<SharedArrayBuffer>
  #lentBytes = 0

  constructor(keepBytes = KEEP_BYTES_DEFAULT) {
    this.#free = new FreeList({ keepBytes })
  }

  /** What was taken and not given back, as sizes of the memory. */
  get lentBytes(): number {
    return this.#lentBytes
  }

  /** `lengthBytes` up to CHUNK_MAX_BYTES; contents are whatever was there before. */
  take(lengthBytes: number): SharedLease {
    invariant(lengthBytes > 0 && lengthBytes <= CHUNK_MAX_BYTES, 'a shared buffer holds at most a chunk')
    const sizeBytes = sizeClass(lengthBytes, SMALLEST_BYTES)
    return this.#lease(this.#free.take(sizeBytes) ?? newMemory(sizeBytes), lengthBytes)
  }

  #lease(memory: SharedArrayBuffer, lengthBytes: number): SharedLease {
    const sizeBytes = memory.byteLength
    let lent = true
    this.#lentBytes += sizeBytes
    const release = (): void => {
      if (!lent) return
      lent = false
      this.#lentBytes -= sizeBytes
      this.#free.give(sizeBytes, memory)
    }
    return { bytes: Buffer.from(memory, 0, lengthBytes), release }
  }
}

/** Large ones begin on a page: chunks are read and written past the page cache. */
function newMemory(sizeBytes: number): SharedArrayBuffer {
  return sizeBytes >= ALIGNED_MIN_BYTES ? pageAlignedMemory(sizeBytes) : new SharedArrayBuffer(sizeBytes)
}

export interface SharedPieces {
  readonly pieces: readonly Uint8Array[]
  readonly release: () => void
}

/** The same bytes in memory that workers see: as they are if they are shared already, else in one lent copy. */
export function sharePieces(buffers: SharedBuffers, pieces: readonly Uint8Array[], lengthBytes: number): SharedPieces {
  if (pieces.every((piece) => piece.buffer instanceof SharedArrayBuffer)) return { pieces, release: () => undefined }
  const lease = buffers.take(lengthBytes)
  joinInto(lease.bytes, pieces)
  return { pieces: [lease.bytes], release: lease.release }
}
