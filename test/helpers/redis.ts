/** Real redis-server processes in cluster mode for tests: on loopback, in temporary folders, always taken down. */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Redis } from 'ioredis'
import { systemClock } from '../../src/base/clock.js'
import { hasCode } from '../../src/base/errors.js'
import { silentLog } from '../../src/base/log.js'
import type { RedisArg, RedisStore, RedisValue } from '../../src/cluster/contract.js'
import { agree, formCluster, isWhole, untilWhole, type ClusterServers } from '../../src/cluster/form-cluster.js'
import { connectRedis, type ConnectOptions } from '../../src/cluster/redis.js'
import { formatMetaUrl, type MetaUrl } from '../../src/cluster/url.js'
import type { Authority, Issued } from './certificates.js'
import { PATIENCE_MS } from './deadline.js'

/** After so long a silence the others call a server failed, unless the test configures it otherwise. */
export const NODE_TIMEOUT_MS = 5_000

export interface RedisOptions {
  /** Default 1. */
  readonly masters?: 1 | 3
  /** Of each master, default 0. Servers after the masters: the replica of master i is server masters + i. */
  readonly replicas?: 0 | 1
  /** TLS and nothing else, and clients must show a certificate of the same authority. */
  readonly tls?: Authority
  /** Further lines of redis.conf. */
  readonly config?: readonly string[]
  /** Added to the environment of the servers. */
  readonly env?: NodeJS.ProcessEnv
}

export interface TestRedis {
  url(volume: string): MetaUrl
  urlText(volume: string): string
  readonly password: string
  readonly ports: readonly number[]
  /** Of the servers that run now; a killed one keeps its old number. */
  readonly pids: readonly number[]
  /** One command on one server, past everything under test. Texts are decoded. */
  command(index: number, name: string, ...args: (string | number)[]): Promise<unknown>
  /** SIGKILL, waits until it is gone. */
  kill(index: number): Promise<void>
  /** Starts a killed server again with its data; waits until it serves. */
  restart(index: number): Promise<void>
  /** All are killed at the same moment, and each is started again when it is gone. */
  crashAll(): Promise<void>
  /** All are killed at the same moment; waits until they are gone. */
  killAll(): Promise<void>
  /** Starts all again, after killAll; waits until they are a cluster that serves. */
  restartAll(): Promise<void>
  isMaster(index: number): Promise<boolean>
  /** SIGSTOP: connections stay open and nothing answers. */
  pause(index: number): void
  resume(index: number): void
  /** Hands a slot with its keys from one master to another, as redis-cli --cluster reshard does. */
  moveSlot(slot: number, from: number, to: number, keysAtOnce?: number): Promise<void>
  stop(): Promise<void>
}

const START_ATTEMPTS = 3
const POLL_MS = 30
/** Redis's own, where no cluster-port is set. */
const BUS_OFFSET = 10_000

/** Stopped by t.teardown, also when the start itself fails. */
export async function startRedis(t: Pick<Test, 'teardown'>, options: RedisOptions = {}): Promise<TestRedis> {
  for (let attempt = 1; ; attempt++) {
    const tls = await options.tls?.issue('127.0.0.1')
    const secure = options.tls && tls && { ca: options.tls.ca, ...tls }
    const servers = new Servers(await mkdtemp(join(tmpdir(), 'ringfs-redis-')), options, secure)
    t.teardown(() => servers.stop())
    try {
      await servers.start(options.masters ?? 1, options.replicas ?? 0)
      return servers
    } catch (error) {
      // Another test may have taken the port since it was found free.
      await servers.stop()
      if (attempt === START_ATTEMPTS) throw error
    }
  }
}

/** Connects to servers that are there, however slow this machine is just now. */
export async function connectPatiently(
  url: MetaUrl,
  options: ConnectOptions = { log: silentLog },
): Promise<RedisStore> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    try {
      return await connectRedis(url, options)
    } catch (error) {
      if (!hasCode(error, 'REDIS_UNREACHABLE') || performance.now() > deadline) throw error
    }
  }
}

class StartError extends Error {}

class Server {
  process: ChildProcess | undefined
  watchdog: ChildProcess | undefined
  readonly config: string
  constructor(
    readonly port: number,
    readonly folder: string,
  ) {
    this.config = join(folder, `redis-${port}.conf`)
  }
}

class Servers implements TestRedis {
  readonly password = randomBytes(12).toString('hex')
  readonly #folder: string
  readonly #extra: readonly string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #tls: (Issued & { readonly ca: string }) | undefined
  #servers: Server[] = []

  constructor(folder: string, options: RedisOptions, tls: (Issued & { readonly ca: string }) | undefined) {
    this.#folder = folder
    this.#extra = options.config ?? []
    this.#env = options.env ?? {}
    this.#tls = tls
  }

  get ports(): readonly number[] {
    return this.#servers.map((server) => server.port)
  }

  get pids(): readonly number[] {
    return this.#servers.map((server) => server.process?.pid ?? 0)
  }

  url(volume: string): MetaUrl {
    const { ca, certFile, keyFile } = this.#tls ?? {}
    const tls = ca && certFile && keyFile ? { tls: { caFile: ca, certFile, keyFile } } : {}
    return { hosts: this.ports.map((port) => ({ host: '127.0.0.1', port })), password: this.password, volume, ...tls }
  }

  urlText(volume: string): string {
    return formatMetaUrl(this.url(volume))
  }

  async start(masters: number, replicas: number): Promise<void> {
    const ports = await freePorts(masters * (1 + replicas))
    this.#servers = ports.map((port) => new Server(port, this.#folder))
    await Promise.all(this.#servers.map((server) => this.#launch(server)))
    await formCluster(this.#asCluster(), { masters, clock: systemClock, timeoutMs: PATIENCE_MS })
  }

  #asCluster(): ClusterServers {
    return {
      addresses: this.ports.map((port) => ({ host: '127.0.0.1', port, busPort: port + BUS_OFFSET })),
      command: async (index, name, ...args) => asReply(await this.command(index, name, ...args.map(asText))),
    }
  }

  async #launch(server: Server): Promise<void> {
    const lines = [
      ...this.#portLines(server.port),
      'bind 127.0.0.1',
      `dir ${this.#folder}`,
      'daemonize no',
      `requirepass ${this.password}`,
      `masterauth ${this.password}`,
      'cluster-enabled yes',
      `cluster-config-file nodes-${server.port}.conf`,
      'cluster-announce-ip 127.0.0.1',
      `cluster-node-timeout ${NODE_TIMEOUT_MS}`,
      'appendonly yes',
      // With everysec Redis may reply before it writes, while its own sync is under way: a kill would lose what it said it has.
      'appendfsync no',
      `appendfilename appendonly-${server.port}.aof`,
      `appenddirname aof-${server.port}`,
      'save ""',
      `dbfilename dump-${server.port}.rdb`,
      'repl-diskless-sync-delay 0',
      'enable-debug-command yes',
      `logfile redis-${server.port}.log`,
      ...this.#extra,
    ]
    await writeFile(server.config, `${lines.join('\n')}\n`, { mode: 0o600 })
    const child = spawn('redis-server', [server.config], { stdio: 'ignore', env: { ...process.env, ...this.#env } })
    server.process = child
    server.watchdog = watch(child)
    let failure: Error | undefined
    child.on('error', (error) => (failure = error))
    const log = join(this.#folder, `redis-${server.port}.log`)
    child.on('exit', () => {
      failure ??= new Error(`redis-server on port ${server.port} ended at once: ${lastLinesOf(log)}`)
    })
    const index = this.#servers.indexOf(server)
    await this.#until(`redis-server on port ${server.port} answers`, async () => {
      if (failure !== undefined) throw new StartError(failure.message, { cause: failure })
      return String(await this.command(index, 'INFO', 'persistence')).includes('loading:0')
    })
  }

  #portLines(port: number): readonly string[] {
    if (this.#tls === undefined) return [`port ${port}`]
    const { ca, certFile, keyFile } = this.#tls
    return [
      ...['port 0', `tls-port ${port}`, 'tls-cluster yes', 'tls-replication yes', 'tls-auth-clients yes'],
      ...[`tls-ca-cert-file ${ca}`, `tls-cert-file ${certFile}`, `tls-key-file ${keyFile}`],
    ]
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS
    for (;;) {
      const done = await condition().catch((error: unknown) => {
        if (error instanceof StartError) throw error
        return false
      })
      if (done) return
      if (Date.now() > deadline) throw new Error(`gave up waiting until ${what}`)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  async command(index: number, name: string, ...args: (string | number)[]): Promise<unknown> {
    const port = this.ports[index]
    const redis = new Redis({
      port: port ?? 0,
      host: '127.0.0.1',
      password: this.password,
      ...(this.#tls && { tls: { ca: await readFile(this.#tls.ca), cert: this.#tls.cert, key: this.#tls.key } }),
      lazyConnect: true,
      retryStrategy: () => null,
      enableReadyCheck: false,
      connectTimeout: 20_000,
      commandTimeout: 30_000,
      disconnectTimeout: 100,
    })
    redis.on('error', () => undefined)
    try {
      await redis.connect()
      return await redis.call(name, ...args)
    } finally {
      redis.disconnect()
    }
  }

  #server(index: number): Server {
    const server = this.#servers[index]
    if (server === undefined) throw new Error(`there is no server ${index}`)
    return server
  }

  async kill(index: number): Promise<void> {
    await end(this.#server(index))
  }

  async restart(index: number): Promise<void> {
    await this.#launch(this.#server(index))
    await this.#until('the cluster is whole again', () => isWhole(this.#asCluster()))
  }

  async crashAll(): Promise<void> {
    await Promise.all(this.#servers.map((server) => end(server).then(() => this.#launch(server))))
    await untilWhole(this.#asCluster(), { clock: systemClock, timeoutMs: PATIENCE_MS })
  }

  async killAll(): Promise<void> {
    await Promise.all(this.#servers.map(end))
  }

  async restartAll(): Promise<void> {
    await Promise.all(this.#servers.map((server) => this.#launch(server)))
    await untilWhole(this.#asCluster(), { clock: systemClock, timeoutMs: PATIENCE_MS })
  }

  async isMaster(index: number): Promise<boolean> {
    return String(await this.command(index, 'INFO', 'replication')).includes('role:master')
  }

  pause(index: number): void {
    this.#server(index).process?.kill('SIGSTOP')
  }

  resume(index: number): void {
    this.#server(index).process?.kill('SIGCONT')
  }

  async moveSlot(slot: number, from: number, to: number, keysAtOnce = 100): Promise<void> {
    const [source, target] = await Promise.all([from, to].map((index) => this.command(index, 'CLUSTER', 'MYID')))
    await this.command(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(source))
    await this.command(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(target))
    for (;;) {
      const keys = await this.command(from, 'CLUSTER', 'GETKEYSINSLOT', slot, keysAtOnce)
      if (!Array.isArray(keys) || keys.length === 0) break
      const names = keys.map(String)
      const port = this.ports[to] ?? 0
      await this.command(from, 'MIGRATE', '127.0.0.1', port, '', 0, 5000, 'AUTH', this.password, 'KEYS', ...names)
    }
    await this.command(to, 'CLUSTER', 'SETSLOT', slot, 'NODE', String(target))
    await this.command(from, 'CLUSTER', 'SETSLOT', slot, 'NODE', String(target))
    for (const index of this.#servers.keys()) {
      if (index === from || index === to || (await this.#isReplica(index))) continue
      await this.command(index, 'CLUSTER', 'SETSLOT', slot, 'NODE', String(target))
    }
    await this.#until('all servers agree on slots and epochs', () => agree(this.#asCluster()))
  }

  /** Replicas learn of slots from the others, and refuse to be told. */
  async #isReplica(index: number): Promise<boolean> {
    return String(await this.command(index, 'INFO', 'replication')).includes('role:slave')
  }

  async stop(): Promise<void> {
    await Promise.all(this.#servers.map(end))
    // A server's child that writes a snapshot outlives it for a moment.
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 })
  }
}

function lastLinesOf(log: string): string {
  return existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n').slice(-3).join('; ') : 'it wrote no log'
}

function asText(arg: RedisArg): string | number {
  return Buffer.isBuffer(arg) ? arg.toString() : arg
}

/** What the commands that form a cluster answer. */
function asReply(value: unknown): RedisValue {
  return typeof value === 'number' ? value : Buffer.from(String(value))
}

/** Kills the server when this process ends in whatever way: its end of the pipe is closed then. */
function watch(child: ChildProcess): ChildProcess | undefined {
  if (child.pid === undefined) return undefined
  const watchdog = spawn('sh', ['-c', 'read nothing; kill -9 "$0"', String(child.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watchdog.on('error', () => undefined)
  watchdog.unref()
  return watchdog
}

/** SIGKILL works on a stopped process too. The watchdog goes first: later the pid may be somebody else's. */
async function end(server: Server): Promise<void> {
  server.watchdog?.kill('SIGKILL')
  const child = server.process
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

/** Free ports whose bus port (10,000 above) is no ephemeral one either. All are held open until all are found, so none comes twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(servers.map(async (server) => listenLow(server)))
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

async function listenLow(server: ReturnType<typeof createServer>): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 10_000 + Math.floor(Math.random() * 10_000)
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    server.removeAllListeners('error')
    if (isFree) return port
  }
  throw new Error('no free port found')
}
