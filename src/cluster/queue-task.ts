/** What stands in a replication queue. Chunks are immutable, so doing a task twice, or late, does no harm. */
import { HASH_BYTES } from '../base/limits.js'

export type ReplicationTask =
  | {
      readonly kind: 'copy'
      readonly chunk: number
      /** Root hash; null where nobody knew it. */
      readonly root: Buffer | null
      /** Nodes that had the chunk when the task was made: asked first. */
      readonly sources: readonly string[]
      /** Made because the node is an owner by the ring of this epoch: of no use to one that is none by a later ring. */
      readonly epoch?: number
    }
  | { readonly kind: 'remove'; readonly chunk: number }

/** JSON: `{"k":"copy","c":<chunk>,"r":"<hex>"|null,"s":[<node id>…],"e":<epoch>}` (e may be absent) or `{"k":"remove","c":<chunk>}`. */
export function encodeTask(task: ReplicationTask): string {
  if (task.kind === 'remove') return JSON.stringify({ k: task.kind, c: task.chunk })
  return JSON.stringify({
    k: task.kind,
    c: task.chunk,
    r: task.root?.toString('hex') ?? null,
    s: task.sources,
    e: task.epoch,
  })
}

/** undefined: not a task that this version knows. */
export function decodeTask(text: string): ReplicationTask | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || !('k' in value) || !('c' in value)) return undefined
  const { k, c } = value
  if (typeof c !== 'number' || !Number.isSafeInteger(c)) return undefined
  if (k === 'remove') return { kind: 'remove', chunk: c }
  if (k !== 'copy') return undefined
  const root = 'r' in value && typeof value.r === 'string' ? Buffer.from(value.r, 'hex') : null
  if (root !== null && root.length !== HASH_BYTES) return undefined
  const sources = 's' in value && Array.isArray(value.s) ? value.s.filter((id) => typeof id === 'string') : []
  const epoch = 'e' in value && typeof value.e === 'number' ? { epoch: value.e } : {}
  return { kind: 'copy', chunk: c, root, sources, ...epoch }
}
