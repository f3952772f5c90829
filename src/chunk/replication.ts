/** What goes into the replication queue of a node. At least once, in any order: chunks are immutable, so that is enough. */

import type { ReplicationTask } from '../cluster/queue-task.js'

export type { ReplicationTask }

/** Puts tasks into the queue of a node, all or none. Rejects when the queue cannot be reached. */
export type Enqueue = (nodeId: string, tasks: readonly ReplicationTask[]) => Promise<void>
