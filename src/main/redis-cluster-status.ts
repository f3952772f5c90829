/** How the servers of a Redis Cluster are doing, each as it sees that itself. */
import { messageOf } from '../base/errors.js'
import { parseNodes, type ClusterServers } from '../cluster/form-cluster.js'
import { parseInfo } from '../cluster/redis-check.js'
import { textOf } from '../cluster/reply.js'

export interface ServerStatus {
  readonly address: string
  /** 'master' or 'replica of HOST:PORT' */
  readonly role: string
  readonly pid: number | null
  readonly slots: string
  /** Bytes of replicated changes that it has seen, since the beginning. */
  readonly offset: number | null
  /** 'ok', or what is wrong as this server sees it. */
  readonly state: string
}

export const REPLICA_OF = 'replica of '

export function serverStatus(servers: ClusterServers): Promise<ServerStatus[]> {
  return Promise.all(servers.addresses.map((_, index) => look(servers, index)))
}

async function look(servers: ClusterServers, index: number): Promise<ServerStatus> {
  const { host, port } = servers.addresses[index] ?? { host: '', port: 0 }
  const address = `${host}:${port}`
  try {
    const info = parseInfo(textOf(await servers.command(index, 'INFO'), 'INFO'))
    const cluster = parseInfo(textOf(await servers.command(index, 'CLUSTER', 'INFO'), 'CLUSTER INFO'))
    const nodes = parseNodes(textOf(await servers.command(index, 'CLUSTER', 'NODES'), 'CLUSTER NODES'))
    const mine = nodes.find(({ flags }) => flags.includes('myself'))
    const master = nodes.find(({ id }) => id === mine?.master)?.address.split('@')[0] ?? '?'
    const isReplica = info.get('role') === 'slave'
    return {
      address,
      role: isReplica ? `${REPLICA_OF}${master}` : 'master',
      pid: Number(info.get('process_id')),
      slots: mine?.slots.join(' ') ?? '',
      offset: Number(info.get(isReplica ? 'slave_repl_offset' : 'master_repl_offset')),
      state: stateOf(info, cluster),
    }
  } catch (error) {
    return { address, role: '', pid: null, slots: '', offset: null, state: `does not answer: ${messageOf(error)}` }
  }
}

function stateOf(info: ReadonlyMap<string, string>, cluster: ReadonlyMap<string, string>): string {
  if (info.get('loading') === '1') return 'loads its data'
  if (cluster.get('cluster_state') !== 'ok') return 'not all slots are served'
  return info.get('role') === 'slave' && info.get('master_link_status') !== 'up' ? 'not in step with its master' : 'ok'
}
