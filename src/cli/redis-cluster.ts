import { Command, Option } from 'commander'
import * as z from 'zod'
import { join, resolve } from 'node:path'
import { isVolumeName } from '../cluster/url.js'
import { RingfsError } from '../base/errors.js'
import { ReadyPipe, detach } from '../main/detach.js'
import {
  noFailover,
  openRedisCluster,
  runRedisCluster,
  stopRedisCluster,
  type ClusterReady,
} from '../main/redis-cluster.js'
import { REPLICA_OF, serverStatus, type ServerStatus } from '../main/redis-cluster-status.js'
import { stopSignal } from '../main/stop-signal.js'
import { integer, positive } from './arguments.js'
import { logOf, print, say, type CommonOptions, type Surroundings } from './surroundings.js'
import { counted, table } from './units.js'

interface UpOptions extends CommonOptions {
  readonly masters?: number
  readonly replicas?: number
  readonly nodeTimeout?: number
  readonly tls?: boolean
  readonly restart: boolean
  readonly volume: string
  readonly detach?: boolean
  readonly readyPipe?: boolean
}

interface StatusOptions extends CommonOptions {
  readonly volume: string
  readonly json?: boolean
}

const VOLUME = 'ringfs'
const NOT_WHOLE = 4

const EXAMPLES = `
For trials and tests on one machine: all servers listen on loopback. Their password is in DIR/password, which the META_URL names, and
with --tls also the certificate in DIR/tls, which it trusts.

Examples:
  $ ringfs redis-cluster up /tmp/redis --detach
  $ ringfs format "$(ringfs redis-cluster status /tmp/redis --url)" --meta-replicas 1
  $ ringfs redis-cluster status /tmp/redis
  $ ringfs redis-cluster down /tmp/redis`

const readySchema = z.object({ folder: z.string(), url: z.string(), masters: z.number(), replicas: z.number() })

export function redisClusterCommand(surroundings: Surroundings): Command {
  return new Command('redis-cluster')
    .summary('run a Redis Cluster on this machine, for trials')
    .description('Starts, shows and stops a real Redis Cluster on this machine, for trials and tests.')
    .addHelpText('after', EXAMPLES)
    .addCommand(upCommand(surroundings))
    .addCommand(statusCommand(surroundings))
    .addCommand(downCommand(surroundings))
}

function upCommand(surroundings: Surroundings): Command {
  return new Command('up')
    .description(
      'Starts the servers and makes a cluster of them. Ctrl-C stops them; the data stay, and the next start finds them.',
    )
    .argument('<dir>', 'folder of the servers; made if it is missing')
    .option('--masters <n>', 'fixed at the first start (default: 3)', integer(1))
    .option('--replicas <n>', 'of each master; fixed at the first start (default: 1)', integer(0))
    .option(
      '--node-timeout <seconds>',
      'silence after which a replica takes its master’s place, 2 or more (default: 5)',
      positive,
    )
    .option('--tls', 'TLS, with a certificate that is made here; fixed at the first start')
    .option('--no-restart', 'leave a server that dies as it is')
    .option('--volume <name>', 'for the META_URL that is printed', VOLUME)
    .option('--detach', 'go on in the background; log to DIR/log')
    .addOption(new Option('--ready-pipe').hideHelp())
    .action(async (dir: string, _options: UpOptions, command: Command) => {
      const options = command.optsWithGlobals<UpOptions>()
      if (!isVolumeName(options.volume)) throw new RingfsError('USAGE', `'${options.volume}' is not a volume name`)
      await (options.detach === true ? inBackground(surroundings, dir, options) : here(surroundings, dir, options))
    })
}

async function here(surroundings: Surroundings, dir: string, options: UpOptions): Promise<void> {
  const pipe = new ReadyPipe(options.readyPipe === true)
  const { stopped } = stopSignal()
  const { masters, replicas, nodeTimeout, tls, restart: restarts, volume } = options
  const nodeTimeoutMs = nodeTimeout === undefined ? undefined : Math.ceil(nodeTimeout * 1_000)
  const log = logOf(surroundings, options, options.readyPipe === true ? 'info' : 'warn')
  try {
    await runRedisCluster(
      {
        folder: dir,
        masters,
        replicas,
        nodeTimeoutMs,
        tls,
        restarts,
        volume,
        log,
        say: (text) => say(surroundings, text),
      },
      stopped,
      (ready) => {
        pipe.ready(ready)
        if (options.readyPipe === true) process.chdir('/')
        else tell(surroundings, ready, 'Ctrl-C stops it')
      },
    )
  } catch (error) {
    pipe.failed(error)
    throw error
  }
}

/** The URL alone goes to standard output, for whoever wants to use it in a script. */
function tell(surroundings: Surroundings, { folder, url, masters, replicas }: ClusterReady, how: string): void {
  say(
    surroundings,
    `a Redis Cluster of ${counted(masters, 'master')} with ${counted(replicas, 'replica')} each runs in ${folder}; ${how}`,
  )
  const warning = noFailover({ masters, replicas })
  if (warning !== undefined) say(surroundings, warning)
  print(surroundings, `${url}\n`)
}

async function inBackground(surroundings: Surroundings, dir: string, options: UpOptions): Promise<void> {
  const folder = resolve(dir)
  const { masters, replicas, nodeTimeout, tls, restart, volume, debug } = options
  const pairs = Object.entries({ masters, replicas, 'node-timeout': nodeTimeout, volume })
  const words = pairs.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]))
  const flags = [
    ...(restart ? [] : ['--no-restart']),
    ...(tls === true ? ['--tls'] : []),
    ...(debug === true ? ['--debug'] : []),
  ]
  const ready = await detach({
    words: ['redis-cluster', 'up', folder, '--ready-pipe', ...words, ...flags],
    env: surroundings.environment.inherited,
    logFile: join(folder, 'log'),
    schema: readySchema,
  })
  tell(surroundings, ready, `process ${ready.pid}; ringfs redis-cluster down ${dir} stops it`)
}

function downCommand(surroundings: Surroundings): Command {
  return new Command('down')
    .description('Stops the servers, also those that an interrupted start has left behind. The data stay.')
    .argument('<dir>')
    .action(async (dir: string, _options: CommonOptions, command: Command) => {
      const log = logOf(surroundings, command.optsWithGlobals<CommonOptions>(), 'error')
      print(surroundings, `${await stopRedisCluster(dir, log)}\n`)
    })
}

function statusCommand(surroundings: Surroundings): Command {
  return new Command('status')
    .description('Shows the servers, who is whose replica, and whether every slot is served. Exit code 4: not so.')
    .argument('<dir>')
    .option('--volume <name>', 'for the META_URL', VOLUME)
    .option('--url', 'print the META_URL and nothing else')
    .option('--json', 'for programs')
    .action(async (dir: string, _options: StatusOptions, command: Command) => {
      const options = command.optsWithGlobals<StatusOptions & { readonly url?: boolean }>()
      const cluster = await openRedisCluster(dir)
      const url = cluster.url(options.volume)
      if (options.url === true) {
        print(surroundings, `${url}\n`)
        return
      }
      const servers = await serverStatus(cluster.servers)
      const isWhole = servers.every(({ state }) => state === 'ok')
      const { folder, masters, replicas, keeper } = cluster
      if (options.json === true) {
        print(
          surroundings,
          `${JSON.stringify({ folder, url, masters, replicas, keeper: keeper ?? null, servers }, null, 2)}\n`,
        )
      } else {
        print(surroundings, asText(servers))
        print(
          surroundings,
          `${keeper === undefined ? 'nobody keeps it running' : `process ${keeper} keeps it running`}\n${url}\n`,
        )
      }
      if (!isWhole) process.exitCode = NOT_WHOLE
    })
}

function asText(servers: readonly ServerStatus[]): string {
  const rows = servers.map(({ address, role, pid, slots, offset, state }) => {
    const master = servers.find((one) => role === `${REPLICA_OF}${one.address}`)
    // What the master wrote while we asked counts, too.
    const behind = offset === null || typeof master?.offset !== 'number' ? '' : Math.max(0, master.offset - offset)
    return [address, role, pid ?? '', slots, behind, state]
  })
  return table(['SERVER', 'ROLE', 'PID', 'SLOTS', 'BYTES BEHIND', 'STATE'], rows)
}
