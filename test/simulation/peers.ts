/** Calls between simulated processes, as the RPC channel has them: an answer, a lost connection, or the deadline. */
import { RingfsError } from '../../src/base/errors.js'
import { CHUNK_MAX_BYTES } from '../../src/base/limits.js'
import type { CallOptions, ChunkNodeApi } from '../../src/chunk/contract.js'
import type { ClusterWatcher } from '../../src/cluster/watcher.js'
import type { SimulatedProcess } from './scheduler.js'
import type { World } from './world.js'

interface Waiting {
  readonly machine: string
  readonly fail: () => void
}

/** Who waits for an answer of whom: a process that is killed closes its connections. */
export class OpenCalls {
  readonly #waiting = new Map<string, Set<Waiting>>()

  add(to: string, one: Waiting): () => void {
    let all = this.#waiting.get(to)
    if (all === undefined) this.#waiting.set(to, (all = new Set()))
    all.add(one)
    return () => all.delete(one)
  }

  lost(to: string): void {
    for (const { fail } of this.#waiting.get(to) ?? []) fail()
    this.#waiting.delete(to)
  }
}

export interface Caller {
  readonly machine: string
  readonly process: SimulatedProcess
  readonly watcher: ClusterWatcher
  /** The node in the same process. */
  readonly local: () => ChunkNodeApi | undefined
}

/** As Peers in src/main: a node by its id, at the address that the caller's view has. */
export function peerOf(world: World, caller: Caller): (id: string) => ChunkNodeApi {
  return (id) => {
    const local = id === caller.machine ? caller.local() : undefined
    if (local !== undefined) return local
    const address = caller.watcher.current().view.members.find((one) => one.id === id)?.address
    if (address === undefined) throw new RingfsError('NODE_UNREACHABLE', `node ${id} is no member`)
    return apiOf(world, caller, id, address)
  }
}

function apiOf(world: World, caller: Caller, id: string, address: string): ChunkNodeApi {
  const call = <T>({ deadlineMs }: CallOptions, work: (api: ChunkNodeApi) => Promise<T>): Promise<T> =>
    callNode(world, caller, { id, address, deadlineMs }, work)
  return {
    put: (request, data, options) => call(options, (api) => api.put(request, data, options)),
    get: async (request, options) => {
      const isCopy = request.withOrigin === true && request.lengthBytes === CHUNK_MAX_BYTES
      if (isCopy) world.checker.copies(caller.machine, request.id)
      const reply = await call(options, (api) => api.get(request, options))
      if (isCopy) world.checker.copied(caller.machine, request.id, reply.data.length)
      return reply
    },
    sync: (volume, ids, options) => call(options, (api) => api.sync(volume, ids, options)),
    remove: (volume, ids, options) => call(options, (api) => api.remove(volume, ids, options)),
    reportBad: (volume, chunk, options) => call(options, (api) => api.reportBad(volume, chunk, options)),
    list: (request, options) => call(options, (api) => api.list(request, options)),
    lacks: (request, options) => call(options, (api) => api.lacks(request, options)),
    digest: (request, options) => call(options, (api) => api.digest(request, options)),
    scrub: (request, options) => call(options, (api) => api.scrub(request, options)),
    info: (options) => call(options, (api) => api.info(options)),
  }
}

interface Target {
  readonly id: string
  readonly address: string
  readonly deadlineMs: number
}

function callNode<T>(
  { network, nodes, peers }: World,
  { machine, process }: Caller,
  { id, address, deadlineMs }: Target,
  work: (api: ChunkNodeApi) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let isSettled = false
    const settle = (end: () => void): void => {
      if (isSettled) return
      isSettled = true
      forget()
      timer.close()
      end()
    }
    const lost = (): void => reject(new RingfsError('CONNECTION_LOST', `no process at ${address}`))
    const reply = (end: () => void): void => network.send(id, machine, () => process.give(() => settle(end)))
    const forget = peers.add(id, { machine, fail: () => reply(lost) })
    const timer = process.later(deadlineMs, () =>
      settle(() => reject(new RingfsError('DEADLINE', `node ${id} does not answer`))),
    )
    network.send(machine, id, () => {
      const node = nodes.get(id)
      // A machine without power says nothing.
      if (node === undefined || !node.isPowered) return
      const { running } = node
      if (running === null || running.address !== address) {
        reply(lost)
        return
      }
      running.process.give(() => {
        const { api } = running
        if (api === undefined) return reply(lost)
        work(api).then(
          (value) => reply(() => resolve(value)),
          (error: unknown) => reply(() => reject(error instanceof Error ? error : new Error(String(error)))),
        )
      })
    })
  })
}
