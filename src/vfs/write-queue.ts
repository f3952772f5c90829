/** What a writer (writer.ts) has sealed and not committed yet, in order. */
import type { ChunkRef } from '../chunk/contract.js'
import type { Attr, AttrChange } from '../meta/contract.js'
import type { Batch } from './dirty-map.js'

export interface QueuedBatch {
  readonly kind: 'batch'
  readonly batch: Batch
  /** An fsync waits for it. */
  sync: boolean
  /** Nobody wants it any more: failed together with an earlier one. */
  dropped: boolean
  committing: boolean
  /** Given up while it was being committed: what was sent may be done, and nothing more is sent of it. */
  abandoned: boolean
  /** To be tried without a chunk; its upload begins when the store refuses that. */
  inline: boolean
  /** Settles when no upload reads the batch any more; never rejects. */
  uploaded: Promise<UploadResult>
  /** What `uploaded` settled to, once it did. */
  result: UploadResult | undefined
}

export interface UploadResult {
  readonly chunk?: ChunkRef
  readonly error?: unknown
}

export interface Barrier {
  readonly kind: 'barrier'
  readonly run: () => Promise<void>
  /** The commit before it may do what it does: then `told` is called, and it is not run. */
  readonly merges?: { readonly attributes: AttrChange; readonly told: (attr: Attr) => void }
  isDone: boolean
}

/** No chunk was begun for it. */
export function isInline(entry: QueuedBatch | Barrier): boolean {
  return entry.kind === 'barrier' || entry.inline
}

export function isAppend(entry: QueuedBatch | Barrier): boolean {
  return entry.kind === 'batch' && entry.batch.mode === 'append'
}
