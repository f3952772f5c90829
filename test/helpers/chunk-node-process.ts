/**
 * A chunk node in a process of its own, without Redis: the ring is fixed, and its replication queues are with the parent.
 * Argument: JSON of NodeSetup. IPC: says {ready}, {enqueue}, {done}; takes {task}.
 */
import { z } from 'zod'
import { systemClock } from '../../src/base/clock.js'
import { silentLog } from '../../src/base/log.js'
import { openNodeFolders } from '../../src/chunk/node/node-folders.js'
import { serveChunkNode } from '../../src/chunk/node/server.js'
import { ChunkService } from '../../src/chunk/node/service.js'
import { ChunkStore } from '../../src/chunk/node/store.js'
import { WorkerPool } from '../../src/chunk/pool.js'
import { remoteChunkNode } from '../../src/chunk/remote.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import { decodeTask, encodeTask } from '../../src/cluster/queue-task.js'
import { buildRing } from '../../src/cluster/ring.js'
import { RpcChannel } from '../../src/rpc/channel.js'
import { RpcServer } from '../../src/rpc/server.js'

/** `addresses`: node id -> address, this one's included. */
const setupSchema = z.object({
  id: z.string(),
  folder: z.string(),
  volume: z.string(),
  addresses: z.record(z.string(), z.string()),
})

export type NodeSetup = Readonly<z.infer<typeof setupSchema>>

export type FromNode =
  | { readonly kind: 'ready' }
  | { readonly kind: 'enqueue'; readonly node: string; readonly tasks: readonly string[] }
  | { readonly kind: 'done'; readonly number: number; readonly ok: boolean }

export interface ToNode {
  readonly number: number
  readonly task: string
}

const [, script, argument] = process.argv
if (script?.endsWith('chunk-node-process.js') === true && argument !== undefined) {
  await run(setupSchema.parse(JSON.parse(argument)))
}

async function run(setup: NodeSetup): Promise<void> {
  const { id, volume, addresses } = setup
  const { folder } = setup
  await openNodeFolders([folder], volume)
  const pool = new WorkerPool()
  const buffers = new SharedBuffers()
  const ring = buildRing(Object.keys(addresses).map((node) => ({ id: node, weight: 1, zone: '' })))
  const peers = new Map(
    Object.entries(addresses).map(([node, address]) => [node, remoteChunkNode(new RpcChannel(address, {}), buffers)]),
  )
  const tell = (message: FromNode): void => void process.send?.(message)
  const service = new ChunkService({
    nodeId: id,
    volume,
    version: '0.0.0',
    disk: await ChunkStore.open({ folder, volume, pool, buffers, clock: systemClock, log: silentLog }),
    peer: (node) => {
      const peer = peers.get(node)
      if (peer === undefined) throw new Error(`no node ${node}`)
      return peer
    },
    order: (chunkId) => ring.preference(chunkId),
    isSuspect: () => false,
    enqueue: async (node, tasks) => {
      await Promise.resolve(tell({ kind: 'enqueue', node, tasks: tasks.map(encodeTask) }))
    },
    clock: systemClock,
    log: silentLog,
  })
  const server = new RpcServer({ memory: buffers })
  serveChunkNode(service, server)
  process.on('message', (message: ToNode) => {
    const task = decodeTask(message.task)
    if (task === undefined) throw new Error('no task')
    service.repairer.handle(task).then(
      () => tell({ kind: 'done', number: message.number, ok: true }),
      () => tell({ kind: 'done', number: message.number, ok: false }),
    )
  })
  process.on('disconnect', () => process.exit())
  await server.listen(addresses[id] ?? '')
  tell({ kind: 'ready' })
}
