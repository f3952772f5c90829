/** Sockets: dialling and listening over TCP, TLS-PSK and Unix sockets. Above this only connected byte streams are seen. */
import { createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { RingfsError } from '../base/errors.js'
import { formatAddress, parseAddress, resolveListenHost, type Address } from './address.js'
import { connectFed, feedAccepted } from './feed.js'
import { explainTlsFailure, tlsClientOptions, tlsServerOptions } from './psk.js'
import { listenUnix } from './unix-listen.js'

/** The kernel notices a host that vanished while nothing is outstanding; that costs this process nothing. */
const TCP_KEEPALIVE_MS = 60_000
const HANDSHAKE_TIMEOUT_MS = 10_000
const BACKLOG = 1024

export interface DialOptions {
  /** The cluster key: TLS-PSK over TCP. A Unix socket is guarded by its mode instead. */
  readonly key: Buffer | null
  readonly timeoutMs: number
}

/**
 * Connects, handshake included.
 * Errors: RingfsError USAGE (address), KEY_REQUIRED (keys differ), NODE_UNREACHABLE.
 */
export function dial(target: string, options: DialOptions): Promise<Socket> {
  const address = parseAddress(target)
  return new Promise((resolve, reject) => {
    const secure = address.kind === 'tcp' && options.key !== null
    const socket = open(address, options.key)
    const timer = setTimeout(() => fail(new Error(`no answer in ${options.timeoutMs} ms`)), options.timeoutMs)
    const fail = (error: NodeJS.ErrnoException): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(explainDial(error, target, secure))
    }
    const onClose = (): void => fail(new Error('closed during the handshake'))
    socket.once('error', fail)
    socket.once('close', onClose)
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer)
      socket.removeListener('error', fail)
      socket.removeListener('close', onClose)
      resolve(socket)
    })
  })
}

function open(address: Address, key: Buffer | null): Socket {
  if (address.kind === 'unix') return connectFed({ path: address.path })
  const tcp = {
    host: address.host,
    port: address.port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: TCP_KEEPALIVE_MS,
  }
  if (key === null) return connectFed(tcp)
  const socket = connectTls({ ...tlsClientOptions(key), ...tcp })
  socket.setNoDelay(true)
  return socket
}

function explainDial(error: NodeJS.ErrnoException, target: string, secure: boolean): RingfsError {
  const tls = secure ? explainTlsFailure(error.code ?? '', target) : null
  return (
    tls ?? new RingfsError('NODE_UNREACHABLE', `cannot connect to ${target}: ${error.message || (error.code ?? '')}`)
  )
}

export interface ListenOptions {
  readonly key: Buffer | null
  readonly onSocket: (socket: Socket) => void
  /** A connection that ended before it was one: a wrong key, a port scan. */
  readonly onRefused: (reason: string) => void
}

export interface Listener {
  /** As dialled: the port that was taken in place of 0. */
  readonly address: string
  /** Accepts no more; connections that are open stay. */
  close(): Promise<void>
}

/**
 * Errors: RingfsError USAGE (address), KEY_REQUIRED (not loopback and no key), LISTEN_FAILED.
 */
export async function listen(target: string, options: ListenOptions): Promise<Listener> {
  const address = parseAddress(target)
  if (address.kind === 'unix') {
    const server = createServer((socket) => options.onSocket(feedAccepted(socket)))
    await listenUnix(server, address.path)
    return listenerOf(server, target)
  }
  const { ip, loopback } = await resolveListenHost(address.host)
  if (!loopback && options.key === null) {
    throw new RingfsError(
      'KEY_REQUIRED',
      `refusing to listen on ${target} without a cluster key: others could read and write everything. Give a key or listen on 127.0.0.1`,
    )
  }
  const server = options.key === null ? plainServer(options) : secureServer(options, options.key)
  const port = await listenTcp(server, ip, address.port)
  return listenerOf(server, formatAddress({ kind: 'tcp', host: address.host, port }))
}

const TCP_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS }

function plainServer(options: ListenOptions): Server {
  return createServer(TCP_OPTIONS, (socket) => options.onSocket(feedAccepted(socket)))
}

function secureServer(options: ListenOptions, key: Buffer): Server {
  const server = createTlsServer(
    { ...tlsServerOptions(key), ...TCP_OPTIONS, handshakeTimeout: HANDSHAKE_TIMEOUT_MS },
    options.onSocket,
  )
  server.on('tlsClientError', (error: NodeJS.ErrnoException) => options.onRefused(error.code ?? error.message))
  return server
}

function listenTcp(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      reject(new RingfsError('LISTEN_FAILED', `cannot listen on ${host}:${port}: ${error.message}`))
    }
    server.once('error', onError)
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.removeListener('error', onError)
      const bound = server.address()
      resolve(typeof bound === 'object' && bound !== null ? bound.port : port)
    })
  })
}

function listenerOf(server: Server, address: string): Listener {
  // accept(2) failing (too many files) must not end the process: the next connection may do better.
  server.on('error', () => undefined)
  return {
    address,
    // The callback waits for every connection to end too; those are the owner's business.
    close: () => {
      server.close()
      return Promise.resolve()
    },
  }
}
