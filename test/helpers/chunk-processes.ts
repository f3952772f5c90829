/** Real processes of chunk nodes, on Unix sockets, that a test can kill, stop and start again. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/base/clock.js'
import { RingfsError } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import { ChunkClientImpl } from '../../src/chunk/client/client.js'
import type { ChunkNodeApi } from '../../src/chunk/contract.js'
import { remoteChunkNode } from '../../src/chunk/remote.js'
import { SharedBuffers } from '../../src/chunk/shared-buffer.js'
import type { ReplicationTask } from '../../src/chunk/replication.js'
import type { NodeState } from '../../src/cluster/contract.js'
import { encodeTask } from '../../src/cluster/queue-task.js'
import { buildRing } from '../../src/cluster/ring.js'
import { RpcChannel } from '../../src/rpc/channel.js'
import type { FromNode, NodeSetup, ToNode } from './chunk-node-process.js'
import { VOLUME, poolOf, temporaryFolder, type Teardown } from './chunks.js'

const PROGRAM = fileURLToPath(new URL('./chunk-node-process.js', import.meta.url))

export class NodeProcess {
  readonly id: string
  readonly api: ChunkNodeApi
  readonly queue: string[] = []
  state: NodeState = 'up'
  readonly #setup: NodeSetup
  readonly #onEnqueue: (message: FromNode) => void
  #child: ChildProcess | null = null
  #tasks = 0

  constructor(setup: NodeSetup, channel: RpcChannel, onEnqueue: (message: FromNode) => void) {
    this.id = setup.id
    this.#setup = setup
    this.#onEnqueue = onEnqueue
    this.api = remoteChunkNode(channel, new SharedBuffers())
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  async start(): Promise<void> {
    const child = fork(PROGRAM, [JSON.stringify(this.#setup)], {
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    this.#child = child
    child.on('message', (message: FromNode) => {
      if (message.kind === 'enqueue') this.#onEnqueue(message)
    })
    const failed = once(child, 'exit').then(() => {
      throw new Error(`node ${this.id} ended at its start`)
    })
    failed.catch(() => undefined)
    await Promise.race([once(child, 'message'), failed])
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal)
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  /** Carries out the node's queue; what fails stays in it. Answers how many are left. */
  async drain(): Promise<number> {
    for (const task of this.queue.splice(0)) if (!(await this.#handle(task))) this.queue.push(task)
    return this.queue.length
  }

  #handle(task: string): Promise<boolean> {
    const child = this.#child
    if (child === null) return Promise.resolve(false)
    const number = ++this.#tasks
    return new Promise((resolve) => {
      const onMessage = (message: FromNode): void => {
        if (message.kind !== 'done' || message.number !== number) return
        child.off('message', onMessage)
        resolve(message.ok)
      }
      child.on('message', onMessage)
      const order: ToNode = { number, task }
      child.send(order)
    })
  }
}

export interface Processes {
  readonly nodes: readonly NodeProcess[]
  node(index: number): NodeProcess
  client(): ChunkClientImpl
}

/** `count` nodes, three replicas, write quorum two. Everything ends with the test. */
export async function startProcesses(
  t: Teardown,
  count: number,
  transport: 'unix' | 'tcp' = 'unix',
): Promise<Processes> {
  const folder = temporaryFolder(t)
  const ids = Array.from({ length: count }, (_, index) => `node-${index}`)
  const addresses: Record<string, string> = {}
  for (const id of ids) {
    addresses[id] = transport === 'unix' ? `unix:${join(folder, `${id}.sock`)}` : `127.0.0.1:${await freePort()}`
  }
  const nodes: NodeProcess[] = []
  const enqueue = (id: string, tasks: readonly string[]): void => {
    nodes.find((node) => node.id === id)?.queue.push(...tasks)
  }
  for (const id of ids) {
    const setup = { id, folder: join(folder, id), volume: VOLUME, addresses }
    const channel = new RpcChannel(addresses[id] ?? '', {})
    const node = new NodeProcess(setup, channel, (message) => {
      if (message.kind === 'enqueue') enqueue(message.node, message.tasks)
    })
    t.teardown(async () => {
      await channel.close()
      await node.kill()
    })
    nodes.push(node)
  }
  await Promise.all(nodes.map((node) => node.start()))
  const pool = poolOf(t, 2)
  const ring = buildRing(ids.map((id) => ({ id, weight: 1, zone: '' })))
  const node = (index: number): NodeProcess => {
    const found = nodes[index]
    if (found === undefined) throw new Error(`no node ${index}`)
    return found
  }
  const client = (): ChunkClientImpl =>
    new ChunkClientImpl({
      volume: VOLUME,
      replicas: 3,
      writeQuorum: 2,
      placement: { current: () => ({ ring, view: { epoch: 1, members: nodes.map(memberOf) } }) },
      node: (id) => {
        const found = nodes.find((one) => one.id === id)
        if (found === undefined) throw new RingfsError('NODE_UNREACHABLE', `no node ${id}`)
        return found.api
      },
      pool,
      buffers: new SharedBuffers(),
      enqueue: async (id, tasks: readonly ReplicationTask[]) => {
        await Promise.resolve(enqueue(id, tasks.map(encodeTask)))
      },
      clock: systemClock,
      log: silentLog,
      attemptMs: 1500,
    })
  return { nodes, node, client }
}

function memberOf({ id, state }: NodeProcess) {
  return {
    id,
    address: id,
    zone: '',
    weight: 1,
    state,
    pid: 1,
    incarnation: '1',
    totalBytes: 1,
    freeBytes: 1,
    chunks: 0,
    silentMs: 0,
    queueLength: 0,
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
