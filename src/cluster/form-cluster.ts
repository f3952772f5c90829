/**
 * Makes one Redis Cluster of servers that run and know nothing of each other: slots, acquaintance, replicas.
 *
 *   alone -> masters have their slots -> all know each other -> replicas follow their masters -> all agree
 *
 * Invariant: each step looks at what is there and does what is missing, so that forming that was cut short goes on where it
 * was. It is for the first start only: later a failover may have changed who is master, and nothing here may undo that.
 */
import type { Clock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { RedisArg, RedisValue } from './contract.js'
import { parseInfo } from './redis-check.js'
import { textOf } from './reply.js'
import { SLOTS } from './slot.js'
import type { MetaHost } from './url.js'

/** Masters first; then replicas: server masters + i follows master i % masters. */
export interface ClusterServers {
  readonly addresses: readonly (MetaHost & { readonly busPort: number })[]
  /** One command on one server. Rejects with its error reply, or when it does not answer. */
  command(index: number, name: string, ...args: readonly RedisArg[]): Promise<RedisValue>
}

export interface FormOptions {
  readonly masters: number
  readonly clock: Clock
  /** For each step. Default 30,000. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 30_000
const POLL_MS = 30

/** Errors: REDIS_UNREACHABLE when a step does not succeed in time. */
export async function formCluster(servers: ClusterServers, options: FormOptions): Promise<void> {
  const { masters } = options
  const count = servers.addresses.length
  const share = Math.ceil(SLOTS / masters)
  for (const index of servers.addresses.keys()) {
    // Refused where it has one already. Servers with the same epoch would sort that out among themselves, but slowly.
    await servers.command(index, 'CLUSTER', 'SET-CONFIG-EPOCH', index + 1).catch(() => undefined)
    if (index >= masters || (await myself(servers, index)).hasSlots) continue
    const last = Math.min(SLOTS, (index + 1) * share) - 1
    await servers.command(index, 'CLUSTER', 'ADDSLOTSRANGE', index * share, last)
  }
  for (const { host, port, busPort } of servers.addresses.slice(1)) {
    await servers.command(0, 'CLUSTER', 'MEET', host, port, busPort)
  }
  await untilWhole(servers, options)
  for (let index = masters; index < count; index++) {
    const { id } = await myself(servers, index % masters)
    await until(`replica ${index} is in step with its master`, options, async () => {
      if (!(await myself(servers, index)).isReplica) await servers.command(index, 'CLUSTER', 'REPLICATE', id)
      const info = textOf(await servers.command(index, 'INFO', 'replication'), 'INFO')
      return info.includes('master_link_status:up')
    })
  }
  if (count > masters) await until('all servers agree', options, () => agree(servers))
}

/** Resolves when every server knows all others, and that every slot is served. */
export async function untilWhole(servers: ClusterServers, options: Omit<FormOptions, 'masters'>): Promise<void> {
  await until('the cluster is whole', options, () => isWhole(servers))
}

export async function isWhole(servers: ClusterServers): Promise<boolean> {
  const count = servers.addresses.length
  for (const index of servers.addresses.keys()) {
    const info = parseInfo(textOf(await servers.command(index, 'CLUSTER', 'INFO'), 'CLUSTER INFO'))
    if (info.get('cluster_state') !== 'ok' || Number(info.get('cluster_known_nodes')) !== count) return false
  }
  return true
}

/** Whether all servers have the same picture. Two moves of a slot without it between them may be taken for a conflict. */
export async function agree(servers: ClusterServers): Promise<boolean> {
  const views = new Set<string>()
  for (const index of servers.addresses.keys()) {
    const nodes = parseNodes(textOf(await servers.command(index, 'CLUSTER', 'NODES'), 'CLUSTER NODES'))
    views.add(JSON.stringify(nodes.map(({ id, epoch, master, slots }) => [id, epoch, master, ...slots]).sort()))
  }
  return views.size === 1
}

/** A line of CLUSTER NODES. */
export interface ClusterNode {
  readonly id: string
  /** `host:port@bus` */
  readonly address: string
  readonly flags: readonly string[]
  /** Id of the one that it replicates; '-' for a master. */
  readonly master: string
  readonly epoch: string
  /** `0-5460`, `7`, and in brackets those that are on their way. */
  readonly slots: readonly string[]
}

/** id address flags master ping pong epoch link slots… */
export function parseNodes(text: string): ClusterNode[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [id = '', address = '', flags = '', master = '', , , epoch = '', , ...slots] = line.trim().split(' ')
      return { id, address, flags: flags.split(','), master, epoch, slots }
    })
}

async function myself(
  servers: ClusterServers,
  index: number,
): Promise<{ readonly id: string; readonly hasSlots: boolean; readonly isReplica: boolean }> {
  const nodes = parseNodes(textOf(await servers.command(index, 'CLUSTER', 'NODES'), 'CLUSTER NODES'))
  const mine = nodes.find(({ flags }) => flags.includes('myself'))
  if (mine === undefined) throw new RingfsError('INTERNAL', 'a Redis server does not list itself in CLUSTER NODES')
  return { id: mine.id, hasSlots: mine.slots.length > 0, isReplica: mine.flags.includes('slave') }
}

async function until(
  what: string,
  { clock, timeoutMs = TIMEOUT_MS }: Omit<FormOptions, 'masters'>,
  isSo: () => Promise<boolean>,
): Promise<void> {
  const deadline = clock.monotonicMs() + timeoutMs
  let last: unknown = 'not yet'
  for (;;) {
    try {
      if (await isSo()) return
    } catch (error) {
      // A server that is asked too early refuses.
      last = error
    }
    if (clock.monotonicMs() > deadline) {
      const message = `the Redis Cluster is not ready: gave up waiting until ${what} (${messageOf(last)})`
      throw new RingfsError('REDIS_UNREACHABLE', message, { cause: last })
    }
    await clock.sleep(POLL_MS)
  }
}
