/**
 * `ringfs redis-cluster`: a real Redis Cluster on this machine, for trials and tests. Its folder:
 *
 *   redis-cluster.json   how many masters and replicas, the ports, whether it was formed; mode 0600
 *   password             of all servers, mode 0600: the URL names this file, so that no secret stands in it
 *   tls/                 with --tls: the certificate of all servers and its key: server-certificate.ts
 *   1/ 2/ …              a server each: private-redis-files.ts
 *   running.json         the process that keeps it running, while there is one
 *   log                  of --detach
 *
 * Invariants. Ports, password and certificate are fixed before the first server starts, and never change: servers find each other again by
 * them. The process that keeps it running holds the folder's lock; a crash of it leaves the servers running, and they are adopted by
 * the next `up`, or ended by `down`.
 */
import { readFile, readdir, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../base/clock.js'
import { RingfsError, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { makeFolders } from '../base/make-folders.js'
import { startOf } from '../base/processes.js'
import { lockFolder } from '../base/folder-lock.js'
import { formCluster, untilWhole, type ClusterServers } from '../cluster/form-cluster.js'
import { freePorts, newPassword, writePrivate, type FixedServer } from '../cluster/private-redis-files.js'
import { linkTo } from '../cluster/private-redis-process.js'
import { certificateIn, checkCertificate, makeCertificate } from '../cluster/server-certificate.js'
import { startPrivateRedis, stopLeftPrivateRedis, type PrivateRedis } from '../cluster/private-redis.js'
import { formatMetaUrlRedacted, type MetaUrl } from '../cluster/url.js'
import { Closer } from './closer.js'
import { untilEnded } from './down.js'
import {
  PLAN_FILE,
  PLAN_FORMAT,
  RUNNING_FILE,
  readPlan,
  readRunning,
  writePlan,
  writeRunning,
  type Plan,
  type Running,
} from './redis-cluster-files.js'
import { keepRedis } from './redis-keeper.js'
import { isRunning } from './runfiles.js'

export interface ClusterUpOptions {
  readonly folder: string
  /** Default: as at the first start, and 3 then. */
  readonly masters?: number | undefined
  /** Of each master. Default: as at the first start, and 1 then. */
  readonly replicas?: number | undefined
  /** Default: as at the first start, and 5,000 then. */
  readonly nodeTimeoutMs?: number | undefined
  /** TLS and nothing else. Default: as at the first start, and not then. */
  readonly tls?: boolean | undefined
  /** A server that dies is started again. */
  readonly restarts: boolean
  readonly volume: string
  readonly log: Log
  readonly say: (text: string) => void
}

export interface ClusterReady {
  readonly folder: string
  /** Without a secret. */
  readonly url: string
  readonly masters: number
  readonly replicas: number
}

const LOCK = 'redis-cluster'
const PASSWORD_FILE = 'password'
const TLS_FOLDER = 'tls'
const NODE_TIMEOUT_MS = 5_000
/** A promotion must come after more silence than a client needs to doubt a master: docs/decisions/2026-11-21-masters-that-come-back.md. */
const NODE_TIMEOUT_MIN_MS = 2_000
/** A majority of all masters, the lost one included, has to agree to a promotion. */
const FAILOVER_MASTERS = 3
const AWAKE_MS = 60_000
const OURS = /^(redis-cluster\.json(\.new)?|password(\.new)?|running\.json(\.new)?|tls(\.new)?|log|\d+)$/

/** Runs until `stop` fires. Errors: ALREADY_RUNNING, PACKAGE_MISSING, USAGE, LISTEN_FAILED, REDIS_UNREACHABLE. */
export async function runRedisCluster(
  options: ClusterUpOptions,
  stop: Promise<void>,
  onReady: (ready: ClusterReady) => void,
): Promise<void> {
  const closer = new Closer()
  // Nothing else keeps this process going: the servers are on their own.
  const awake = setInterval(() => undefined, AWAKE_MS)
  closer.add(() => clearInterval(awake))
  let isStopping = false
  void stop.then(() => (isStopping = true))
  await closer.orClose(async () => {
    const ready = await start(options, closer, () => {
      if (isStopping)
        throw new RingfsError('CANCELLED', 'stopped before it was ready; what was begun is completed by the next start')
    })
    onReady(ready)
    await stop
  })
  await closer.close()
}

async function start(options: ClusterUpOptions, closer: Closer, checkStop: () => void): Promise<ClusterReady> {
  const folder = await openFolder(options.folder)
  const lock = await lockFolder(folder, LOCK, `ringfs redis-cluster down ${folder}`)
  closer.add(() => lock.release())
  const before = readPlan(folder)
  const plan = before === undefined ? await firstPlan(options) : checkPlan(before, options)
  checkNodeTimeout(plan)
  const password = await ensurePassword(folder, before === undefined)
  if (plan.tls) await ensureCertificate(folder, before === undefined)
  await writePlan(folder, plan)
  const fixed = plan.servers.map((server) => fixedOf(folder, plan, server, password))
  await writeRunning(folder, { pid: process.pid, startedAt: startOf(process.pid) })
  closer.add(() => rm(join(folder, RUNNING_FILE), { force: true }))
  await startServers(folder, fixed, options, closer)
  checkStop()
  const servers = serversOf(folder, fixed)
  if (plan.isFormed) await untilWhole(servers, { clock: systemClock })
  else await formCluster(servers, { masters: plan.masters, clock: systemClock })
  await writePlan(folder, { ...plan, isFormed: true })
  const url = formatMetaUrlRedacted(urlOf(folder, plan, options.volume))
  return { folder, url, masters: plan.masters, replicas: plan.replicas }
}

/** All at once; those that started are ended when one does not. */
async function startServers(
  folder: string,
  fixed: readonly FixedServer[],
  { log, restarts, say }: ClusterUpOptions,
  closer: Closer,
): Promise<void> {
  const stops: (() => Promise<void>)[] = []
  // Each syncs its files as it ends: all at the same time.
  closer.add(async () => {
    const failed = (await Promise.allSettled(stops.map((stop) => stop()))).find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
  })
  const results = await Promise.allSettled(
    fixed.map(async (one, index) => {
      const own = { folder: serverFolder(folder, index), log, fixed: one }
      const redis = await startPrivateRedis(own)
      stops.push(restarts ? kept(redis, own, say) : () => redis.stop())
      if (redis.isAdopted) say(`server ${index + 1} was left running by an earlier start, and is taken over`)
    }),
  )
  const failed = results.find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') throw failed.reason
}

function kept(
  redis: PrivateRedis,
  options: { readonly folder: string; readonly log: Log; readonly fixed: FixedServer },
  say: (text: string) => void,
): () => Promise<void> {
  const keeper = keepRedis(redis, options)
  void keeper.lost.then((error) => say(`${options.folder} is not started again: ${messageOf(error)}`))
  return () => keeper.stop()
}

/** One that was not ended in order leaves servers behind: they are ended, too. Answers what was done. Errors: NOT_RUNNING. */
export async function stopRedisCluster(path: string, log: Log): Promise<string> {
  const { folder, plan } = await findCluster(path)
  const process_ = runningIn(folder)
  if (process_ !== undefined) {
    process.kill(process_.pid, 'SIGTERM')
    await untilEnded(process_)
    return `the Redis Cluster in ${folder} is stopped; its data stay`
  }
  const stopped = await Promise.all(
    plan.servers.map((_, index) => stopLeftPrivateRedis({ folder: serverFolder(folder, index), log })),
  )
  await rm(join(folder, RUNNING_FILE), { force: true })
  if (!stopped.includes(true)) throw new RingfsError('NOT_RUNNING', `no Redis Cluster runs in ${folder}`)
  return `what was left running in ${folder} is stopped; its data stay`
}

function runningIn(folder: string): Running | undefined {
  const running = readRunning(folder)
  return running !== undefined && isRunning(running) ? running : undefined
}

export interface FoundCluster {
  readonly folder: string
  readonly masters: number
  readonly replicas: number
  readonly url: (volume: string) => string
  readonly servers: ClusterServers
  /** The process that keeps it running. */
  readonly keeper: number | undefined
}

/** Errors: NOT_RUNNING when the folder has none. */
export async function openRedisCluster(path: string): Promise<FoundCluster> {
  const { folder, plan } = await findCluster(path)
  const password = await ensurePassword(folder, false)
  return {
    folder,
    masters: plan.masters,
    replicas: plan.replicas,
    url: (volume) => formatMetaUrlRedacted(urlOf(folder, plan, volume)),
    servers: serversOf(
      folder,
      plan.servers.map((server) => fixedOf(folder, plan, server, password)),
    ),
    keeper: runningIn(folder)?.pid,
  }
}

async function findCluster(path: string): Promise<{ readonly folder: string; readonly plan: Plan }> {
  const folder = await realpath(path).catch(() => path)
  const plan = readPlan(folder)
  if (plan === undefined)
    throw new RingfsError('NOT_RUNNING', `${path} holds no Redis Cluster of ringfs redis-cluster up`)
  return { folder, plan }
}

/** Errors: USAGE for one that cannot be made, or has somebody else's files in it. */
async function openFolder(path: string): Promise<string> {
  let folder: string
  let names: readonly string[]
  try {
    makeFolders(path, 0o700)
    folder = await realpath(path)
    names = await readdir(folder)
  } catch (error) {
    throw new RingfsError('USAGE', `${path} cannot be a folder for a Redis Cluster: ${messageOf(error)}`)
  }
  const foreign = names.find((name) => !OURS.test(name))
  if (foreign !== undefined && !names.includes(PLAN_FILE)) {
    throw new RingfsError('USAGE', `${path} is not a folder of a Redis Cluster (it has ${foreign}): give an empty one`)
  }
  return folder
}

async function firstPlan(options: ClusterUpOptions): Promise<Plan> {
  const { masters = 3, replicas = 1, nodeTimeoutMs = NODE_TIMEOUT_MS, tls = false } = options
  const count = masters * (1 + replicas)
  const ports = await freePorts(Math.random, 2 * count)
  const servers = Array.from({ length: count }, (_, i) => ({ port: ports[i] ?? 0, busPort: ports[count + i] ?? 0 }))
  return { format: tls ? PLAN_FORMAT : 1, masters, replicas, nodeTimeoutMs, servers, isFormed: false, tls }
}

/** Errors: USAGE when this start contradicts the first one. */
function checkPlan(plan: Plan, { masters, replicas, nodeTimeoutMs, tls }: ClusterUpOptions): Plan {
  if (tls === true && !plan.tls) {
    throw new RingfsError(
      'USAGE',
      'the Redis Cluster in this folder was made without TLS: give another folder for --tls',
    )
  }
  for (const [name, wanted, has] of [
    ['masters', masters, plan.masters],
    ['replicas', replicas, plan.replicas],
  ] as const) {
    if (wanted === undefined || wanted === has) continue
    throw new RingfsError(
      'USAGE',
      `the Redis Cluster in this folder has ${has} ${name}: give another folder for ${wanted}`,
    )
  }
  return { ...plan, nodeTimeoutMs: nodeTimeoutMs ?? plan.nodeTimeoutMs }
}

/** Errors: USAGE. */
function checkNodeTimeout({ nodeTimeoutMs }: Plan): void {
  if (nodeTimeoutMs >= NODE_TIMEOUT_MIN_MS) return
  throw new RingfsError(
    'USAGE',
    `--node-timeout ${nodeTimeoutMs / 1_000}: after less than ${NODE_TIMEOUT_MIN_MS / 1_000} s a replica may take the place of a master that only ` +
      'stood still, and what that one acknowledges then, before it knows, would be believed and lost: give 2 or more',
  )
}

/** Why no replica takes the place of a lost master; undefined: one does, or there are none. */
export function noFailover({ masters, replicas }: Pick<Plan, 'masters' | 'replicas'>): string | undefined {
  if (replicas === 0 || masters >= FAILOVER_MASTERS) return undefined
  return (
    `with ${masters === 1 ? 'one master' : `${masters} masters`} no replica can take the place of a lost one, since a majority of all masters has to ` +
    `agree: such a cluster waits until it is back. For failovers: --masters ${FAILOVER_MASTERS}, in another folder`
  )
}

async function ensurePassword(folder: string, isFirst: boolean): Promise<string> {
  const file = join(folder, PASSWORD_FILE)
  const known = (await readFile(file, 'utf8').catch(() => '')).trim()
  if (known !== '') return known
  if (!isFirst)
    throw new RingfsError('USAGE', `${file} is missing: restore it; without the password nobody can connect`)
  const password = newPassword()
  await writePrivate(file, `${password}\n`)
  return password
}

async function ensureCertificate(folder: string, isFirst: boolean): Promise<void> {
  const tls = join(folder, TLS_FOLDER)
  if (isFirst) await rm(tls, { recursive: true, force: true })
  await (isFirst ? makeCertificate(tls) : checkCertificate(tls))
}

function serverFolder(folder: string, index: number): string {
  return join(folder, String(index + 1))
}

function fixedOf(
  folder: string,
  { nodeTimeoutMs, tls }: Plan,
  { port, busPort }: Plan['servers'][number],
  password: string,
): FixedServer {
  const secure = tls ? { tls: certificateIn(join(folder, TLS_FOLDER)) } : {}
  return { port, password, member: { busPort, nodeTimeoutMs, ...secure } }
}

function urlOf(folder: string, plan: Plan, volume: string): MetaUrl {
  const hosts = plan.servers.map(({ port }) => ({ host: '127.0.0.1', port }))
  const tls = plan.tls ? { tls: { caFile: certificateIn(join(folder, TLS_FOLDER)).certFile } } : {}
  return { hosts, passwordFile: join(folder, PASSWORD_FILE), volume, ...tls }
}

function serversOf(folder: string, fixed: readonly FixedServer[]): ClusterServers {
  return {
    addresses: fixed.map(({ port, member }) => ({ host: '127.0.0.1', port, busPort: member.busPort })),
    command: async (index, name, ...args) => {
      const one = fixed[index]
      if (one === undefined) throw new RangeError(`there is no server ${index}`)
      const link = linkTo({ folder: serverFolder(folder, index), ...one })
      try {
        await link.connect()
        return await link.send(name, args)
      } finally {
        link.abort()
      }
    },
  }
}
