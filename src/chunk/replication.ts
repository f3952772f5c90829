/** What goes into the replication queue of a node. At least once, in any order: chunks are immutable, so that is enough. */

export type ReplicationTask =
  | {
      readonly kind: 'copy'
      readonly chunk: number
      /** 32 bytes; null where nobody knew it: then a copy that agrees with itself is taken. */
      readonly root: Buffer | null
      /** Nodes that had the chunk when the task was made: asked first. */
      readonly sources: readonly string[]
    }
  | { readonly kind: 'remove'; readonly chunk: number }

/** Puts tasks into the queue of a node, all or none. Rejects when the queue cannot be reached. */
export type Enqueue = (nodeId: string, tasks: readonly ReplicationTask[]) => Promise<void>
