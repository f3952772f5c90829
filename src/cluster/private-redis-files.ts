/**
 * What a private redis-server keeps in its folder (mode 0700):
 *
 *   ringfs-redis.json   port and password, mode 0600: written once, again only when the port was taken; for a server of a
 *                       cluster its bus port and timeout, too, and then neither port ever changes: the others know it by them
 *   redis.conf          mode 0600, written from the above before each start
 *   redis.sock          what processes of this user on this machine connect to (socketPath)
 *   redis.pid redis.log nodes.conf appendonlydir/    Redis's own
 */
import { randomBytes } from 'node:crypto'
import { chmod, open, readFile, realpath, rename } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import * as z from 'zod'
import { RingfsError, codeOf, messageOf } from '../base/errors.js'
import { makeFolders } from '../base/make-folders.js'
import type { ServerCertificate } from './server-certificate.js'

export interface RedisFiles {
  readonly folder: string
  readonly port: number
  readonly password: string
  /** It is one of several that make up a Redis Cluster. */
  readonly member?: ClusterMember
}

export interface ClusterMember {
  readonly busPort: number
  /** cluster-node-timeout: so long a server may be silent before the others take it for failed. */
  readonly nodeTimeoutMs: number
  /** It speaks TLS and nothing else over TCP, with clients and with the other servers, which all have this certificate. */
  readonly tls?: ServerCertificate | undefined
}

const STATE_FILE = 'ringfs-redis.json'
export const CONFIG_FILE = 'redis.conf'
export const PID_FILE = 'redis.pid'
export const LOG_FILE = 'redis.log'
const SOCKET_FILE = 'redis.sock'
/** unix(7): sun_path has 108 bytes with the NUL at its end; macOS has 104. */
const SOCKET_PATH_MAX_BYTES = 100

/** Below the ephemeral ports of Linux and macOS, so that outgoing connections do not take it while we are stopped. */
const PORT_MIN = 20_000
const PORT_MAX = 32_000
const PORT_ATTEMPTS = 100

/** What a server is to be, where others depend on it. */
export type FixedServer = Required<Omit<RedisFiles, 'folder'>>

/**
 * The folder with its state, made if they do not exist; `fixed`: as which server. Errors: USAGE for a state file that is not
 * ours.
 */
export async function openFiles(path: string, random: () => number, fixed?: FixedServer): Promise<RedisFiles> {
  makeFolders(path, 0o700)
  // Also one that was made by hand: the append-only file holds every name of the filesystem.
  await chmod(path, 0o700)
  const folder = await realpath(path)
  const found = await readFiles(folder)
  if (found !== undefined && fixed === undefined) return found
  const files = { folder, ...(fixed ?? { port: await freePort(random), password: newPassword() }) }
  await writeFiles(files)
  return files
}

export function newPassword(): string {
  return randomBytes(24).toString('base64url')
}

/** undefined: no private Redis was ever started here. */
export async function readFiles(path: string): Promise<RedisFiles | undefined> {
  let text: string
  try {
    text = await readFile(join(path, STATE_FILE), 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  return { folder: await realpath(path), ...parseState(text, join(path, STATE_FILE)) }
}

const stateSchema = z.object({
  port: z.int().positive(),
  password: z.string().min(1),
  member: z
    .object({
      busPort: z.int().positive(),
      nodeTimeoutMs: z.int().positive(),
      tls: z.object({ certFile: z.string(), keyFile: z.string() }).optional(),
    })
    .optional(),
})

function parseState(text: string, file: string): Omit<RedisFiles, 'folder'> {
  let state: unknown
  try {
    state = JSON.parse(text)
  } catch (error) {
    throw new RingfsError('USAGE', `${file} cannot be read: ${messageOf(error)}`)
  }
  const { success, data } = stateSchema.safeParse(state)
  if (success) {
    const { port, password, member } = data
    return { port, password, ...(member === undefined ? {} : { member }) }
  }
  throw new RingfsError('USAGE', `${file} lacks port or password; restore it: without the password nobody can connect`)
}

async function writeFiles({ folder, ...state }: RedisFiles): Promise<void> {
  await writePrivate(join(folder, STATE_FILE), `${JSON.stringify(state)}\n`)
}

/** Never half written, never readable by others, not even for a moment. */
export async function writePrivate(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.chmod(0o600)
    await file.writeFile(text)
    await file.datasync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

/**
 * Writes redis.conf; with another port, written down too, when something else listens on ours. Errors: LISTEN_FAILED, for one of
 * a cluster, whose ports are known to the others.
 */
export async function prepareStart(files: RedisFiles, random: () => number): Promise<RedisFiles> {
  if (files.member !== undefined) {
    for (const port of [files.port, files.member.busPort]) if (!(await canListen(port))) throw taken(port)
    await writePrivate(join(files.folder, CONFIG_FILE), configText(files, files.member.busPort))
    return files
  }
  const isFree = await canListen(files.port)
  const chosen = isFree ? files : { ...files, port: await freePort(random) }
  if (!isFree) await writeFiles(chosen)
  // The bus is of no use to a lone server, but Redis wants a port for it.
  await writePrivate(join(chosen.folder, CONFIG_FILE), configText(chosen, await freePort(random, chosen.port)))
  return chosen
}

function taken(port: number): RingfsError {
  return new RingfsError(
    'LISTEN_FAILED',
    `port ${port} is taken by another process, and the other servers of the Redis Cluster know this one by it: ` +
      'end that process (ss -ltnp shows it) and start again',
  )
}

/** undefined: the folder's path is too long for one, and there is none. */
export function socketPath(folder: string): string | undefined {
  const path = join(folder, SOCKET_FILE)
  return Buffer.byteLength(path) <= SOCKET_PATH_MAX_BYTES ? path : undefined
}

function configText({ folder, port, password, member }: RedisFiles, busPort: number): string {
  const socket = socketPath(folder)
  const lines = [
    '# Written by ringfs at each start: changes here are lost.',
    'bind 127.0.0.1',
    ...portLines(port, member?.tls),
    `cluster-port ${busPort}`,
    ...(socket === undefined ? [] : [`unixsocket ${quote(socket)}`, 'unixsocketperm 600']),
    `requirepass ${quote(password)}`,
    'daemonize no',
    `dir ${quote(folder)}`,
    `pidfile ${quote(join(folder, PID_FILE))}`,
    `logfile ${quote(join(folder, LOG_FILE))}`,
    'cluster-enabled yes',
    'cluster-config-file nodes.conf',
    // Without it a lone server does not know its own address, and CLUSTER SLOTS leaves it empty.
    'cluster-announce-ip 127.0.0.1',
    'appendonly yes',
    // Redis writes to the file before each reply; we put it on disk (aof.ts).
    'appendfsync no',
    'save ""',
    'maxmemory-policy noeviction',
    ...(member === undefined ? [] : memberLines(password, member)),
  ]
  return `${lines.join('\n')}\n`
}

function portLines(port: number, tls: ServerCertificate | undefined): readonly string[] {
  if (tls === undefined) return [`port ${port}`, `cluster-announce-port ${port}`]
  return [
    ...['port 0', `tls-port ${port}`, `cluster-announce-tls-port ${port}`],
    ...['tls-cluster yes', 'tls-replication yes'],
    // The password tells who a client is. The other servers show the certificate all the same.
    'tls-auth-clients no',
    `tls-ca-cert-file ${quote(tls.certFile)}`,
    `tls-cert-file ${quote(tls.certFile)}`,
    `tls-key-file ${quote(tls.keyFile)}`,
  ]
}

function memberLines(password: string, { nodeTimeoutMs }: ClusterMember): readonly string[] {
  return [
    `masterauth ${quote(password)}`,
    `cluster-node-timeout ${nodeTimeoutMs}`,
    // A replica that was away for a while gets what it missed, and not everything.
    'repl-backlog-size 64mb',
    'repl-diskless-sync-delay 0',
  ]
}

/** redis.conf strings: quotes and backslashes escaped, everything unusual as \xHH of its UTF-8 bytes. */
export function quote(text: string): string {
  const bytes = [...Buffer.from(text)].map((byte) => {
    const isPlain = byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c
    return isPlain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
  })
  return `"${bytes.join('')}"`
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

async function freePort(random: () => number, except?: number): Promise<number> {
  for (let attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
    const port = PORT_MIN + Math.floor(random() * (PORT_MAX - PORT_MIN))
    if (port !== except && (await canListen(port))) return port
  }
  throw new RingfsError(
    'LISTEN_FAILED',
    `no free port found from ${PORT_MIN} to ${PORT_MAX} for the private redis-server`,
  )
}

/** Different ones. Errors: LISTEN_FAILED. */
export async function freePorts(random: () => number, count: number): Promise<readonly number[]> {
  const ports = new Set<number>()
  while (ports.size < count) ports.add(await freePort(random))
  return [...ports]
}
