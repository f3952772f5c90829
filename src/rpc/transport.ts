/** Sockets: dialling and listening over TCP, TLS-PSK and Unix sockets. Above this only connected byte streams are seen. */
import { createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { RingfsError, hasCode } from '../base/errors.js'
import { formatAddress, parseAddress, resolveListenHost, type Address } from './address.js'
import { connectFed, feedAccepted } from './feed.js'
import type { ClusterKey, KeyRing } from './key-ring.js'
import { explainRefusal, explainTlsFailure, tlsClientOptions, tlsServerOptions, type Offered } from './psk.js'
import { listenUnix } from './unix-listen.js'

/** The kernel notices a host that vanished while nothing is outstanding; that costs this process nothing. */
const TCP_KEEPALIVE_MS = 60_000
const HANDSHAKE_TIMEOUT_MS = 10_000
const BACKLOG = 1024

export interface DialOptions {
  /** The cluster keys: TLS-PSK over TCP. A Unix socket is guarded by its mode instead. */
  readonly key: KeyRing | null
  /** For each key that is tried. */
  readonly timeoutMs: number
}

/** By which key a connection was let in. */
const keyIds = new WeakMap<Socket, string>()

/** null: without a key. */
export function keyIdOf(socket: Socket): string | null {
  return keyIds.get(socket) ?? null
}

/**
 * Connects, handshake included. Keys that the peer refuses are tried in turn: it may not have the newest yet.
 * Errors: RingfsError USAGE (address), KEY_REQUIRED (keys differ), NODE_UNREACHABLE.
 */
export async function dial(target: string, { key: ring, timeoutMs }: DialOptions): Promise<Socket> {
  const address = parseAddress(target)
  if (address.kind === 'unix' || ring === null) return dialOnce(target, address, null, timeoutMs)
  let refusal: unknown
  for (const key of ring.keys) {
    try {
      return await dialOnce(target, address, key, timeoutMs)
    } catch (error) {
      if (!hasCode(error, 'KEY_REQUIRED')) throw error
      refusal ??= error
    }
  }
  throw refusal
}

function dialOnce(target: string, address: Address, key: ClusterKey | null, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = open(address, key)
    const timer = setTimeout(() => fail(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs)
    const fail = (error: NodeJS.ErrnoException): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(explainDial(error, target, key))
    }
    const onClose = (): void => fail(new Error('closed during the handshake'))
    socket.once('error', fail)
    socket.once('close', onClose)
    socket.once(key === null ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer)
      socket.removeListener('error', fail)
      socket.removeListener('close', onClose)
      if (key !== null) keyIds.set(socket, key.id)
      resolve(socket)
    })
  })
}

function open(address: Address, key: ClusterKey | null): Socket {
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

function explainDial(error: NodeJS.ErrnoException, target: string, key: ClusterKey | null): RingfsError {
  const tls = key === null ? null : explainTlsFailure(error.code ?? '', target, key)
  return (
    tls ?? new RingfsError('NODE_UNREACHABLE', `cannot connect to ${target}: ${error.message || (error.code ?? '')}`)
  )
}

export interface ListenOptions {
  readonly key: KeyRing | null
  readonly onSocket: (socket: Socket) => void
  /** A connection that ended before it was one, and why in words: a wrong key, a port scan. */
  readonly onRefused: (peer: string, reason: string) => void
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
      `refusing to listen on ${target} without a cluster key: others could read and write everything. Make one with ` +
        '`ringfs key new FILE`, copy it to every machine of the volume and give it with --key-file FILE; or listen on 127.0.0.1',
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

/** Who has not shown yet that it knows a key may take up only so many descriptors; a stranger who asks for more waits. */
const HANDSHAKES_MAX = 256

function secureServer(options: ListenOptions, ring: KeyRing): Server {
  const offers = new WeakMap<Socket, Offered>()
  const onOffer = (socket: TLSSocket, offered: Offered): void => void offers.set(socket, offered)
  const server = createTlsServer(
    { ...tlsServerOptions(ring, onOffer), ...TCP_OPTIONS, handshakeTimeout: HANDSHAKE_TIMEOUT_MS },
    (socket) => {
      const id = offers.get(socket)?.id
      if (id !== undefined) keyIds.set(socket, id)
      options.onSocket(socket)
    },
  )
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    options.onRefused(socket.remoteAddress ?? 'a peer', explainRefusal(error.code ?? error.message, offers.get(socket)))
  })
  limitHandshakes(server, options)
  return server
}

function limitHandshakes(server: Server, { onRefused }: ListenOptions): void {
  const open = new Set<Socket>()
  // Before the listener of the TLS server, so that it never sees what is refused here.
  server.prependListener('connection', (socket: Socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    if (open.size <= HANDSHAKES_MAX) return
    onRefused(socket.remoteAddress ?? 'a peer', `${HANDSHAKES_MAX} connections are in their handshake already`)
    const [oldest] = open
    oldest?.destroy()
  })
  server.on('secureConnection', (socket: TLSSocket) => {
    for (const raw of open)
      if (raw.remotePort === socket.remotePort && raw.remoteAddress === socket.remoteAddress) open.delete(raw)
  })
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
