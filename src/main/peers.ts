/** The chunk nodes of a volume by their id: the one in this process directly, all others over RPC, one channel each. */
import { RingfsError } from '../base/errors.js'
import { Metrics } from '../base/metrics.js'
import type { ChunkNodeApi } from '../chunk/contract.js'
import { meteredChunkNode } from '../chunk/metered.js'
import { nearbyChunkNode, type Nearby } from '../chunk/node/nearby.js'
import type { NearbyTogether } from '../chunk/node/nearby-together.js'
import { isNode, remoteChunkNode } from '../chunk/remote.js'
import type { SharedBuffers } from '../chunk/shared-buffer.js'
import type { ClusterWatcher } from '../cluster/watcher.js'
import { RpcChannel } from '../rpc/channel.js'
import type { KeyRing } from '../rpc/key-ring.js'

interface Peer {
  readonly channel: RpcChannel
  readonly node: ChunkNodeApi
}

export class Peers {
  readonly #watcher: ClusterWatcher
  readonly #buffers: SharedBuffers
  readonly #key: KeyRing | undefined
  readonly #metrics: Metrics
  readonly #peers = new Map<string, Peer>()
  readonly #nearby = new Map<string, (node: ChunkNodeApi) => ChunkNodeApi>()
  readonly #unwatch: () => void
  /** Of those nearby. */
  together: NearbyTogether | undefined
  #local: { readonly id: string; readonly node: ChunkNodeApi } | undefined

  /** `buffers`: where what is read from them lands. */
  constructor(watcher: ClusterWatcher, buffers: SharedBuffers, key: KeyRing | undefined, metrics = new Metrics()) {
    this.#watcher = watcher
    this.#buffers = buffers
    this.#key = key
    this.#metrics = metrics
    this.#unwatch = watcher.onChange(() => this.#dropOld())
  }

  setLocal(id: string, node: ChunkNodeApi): void {
    this.#local = { id, node: meteredChunkNode(node, id, this.#metrics) }
  }

  /** A node of another process on this machine, whose chunks can be read from its folder. Before it is asked for. */
  setNearby(nearby: Nearby): void {
    this.#nearby.set(nearby.id, (node) => nearbyChunkNode(nearby, node))
  }

  /** Errors: RingfsError NODE_UNREACHABLE when no address is known. */
  get(id: string): ChunkNodeApi {
    if (id === this.#local?.id) return this.#local.node
    const address = this.#addressOf(id)
    if (address === undefined) throw new RingfsError('NODE_UNREACHABLE', `node ${id} is not a member of this volume`)
    const known = this.#peers.get(id)
    if (known?.channel.target === address) return known.node
    if (known !== undefined) void known.channel.close()
    return this.#open(id, address)
  }

  #open(id: string, address: string): ChunkNodeApi {
    const channel = new RpcChannel(address, { greet: isNode(id, address), ...(this.#key && { key: this.#key }) })
    const remote = remoteChunkNode(channel, this.#buffers)
    const node = meteredChunkNode(this.#nearby.get(id)?.(remote) ?? remote, id, this.#metrics)
    this.#peers.set(id, { channel, node })
    return node
  }

  #addressOf(id: string): string | undefined {
    return this.#watcher.current().view.members.find((member) => member.id === id)?.address
  }

  /** A node that came back elsewhere, or is gone: calls in flight end by themselves. */
  #dropOld(): void {
    for (const [id, { channel }] of this.#peers) {
      if (this.#addressOf(id) === channel.target) continue
      this.#peers.delete(id)
      void channel.close()
    }
  }

  async close(): Promise<void> {
    this.#unwatch()
    await Promise.all([...this.#peers.values()].map(({ channel }) => channel.close()))
    this.#peers.clear()
  }
}
