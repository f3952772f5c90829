/**
 * The socket below an ioredis connection. ioredis makes the connection (HELLO, AUTH, what to do when it ends); once that is
 * ready, the bytes go past it: redis-link.ts.
 *
 * The socket reads into one buffer that is used again, where Node's streams make a new one of 64 KiB for each read.
 */
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import { createConnection, type Socket, type TcpNetConnectOpts, type IpcNetConnectOpts } from 'node:net'
import { AbstractConnector } from 'ioredis'

const READ_BYTES = 64 * 1024

export type Where = { readonly host: string; readonly port: number } | { readonly path: string }

/** Called for what comes until it says that it has taken over. */
export interface SocketOptions {
  readonly where: Where
  /** Over TCP only; asked when the connection is made. undefined: without TLS. */
  readonly tls: () => ConnectionOptions | undefined
  /** How long ioredis waits for the other side to close. */
  readonly closeGraceMs: number
  /** What came, valid during the call. false: it is for ioredis still. */
  readonly onBytes: (bytes: Buffer) => boolean
}

/** For the option `Connector` of ioredis, which makes one with its own options. */
export function connectorTo(options: SocketOptions): new () => AbstractConnector {
  return class extends SocketConnector {
    constructor() {
      super(options)
    }
  }
}

class SocketConnector extends AbstractConnector {
  readonly #options: SocketOptions

  constructor(options: SocketOptions) {
    super(options.closeGraceMs)
    this.#options = options
  }

  connect(): Promise<Socket> {
    this.connecting = true
    const socket: Socket = connectTo(this.#options, (bytes) => {
      if (!this.#options.onBytes(bytes)) socket.emit('data', Buffer.from(bytes))
    })
    socket.once('error', (error) => (this.firstError = error))
    this.stream = socket
    return Promise.resolve(socket)
  }
}

function connectTo({ where, tls }: SocketOptions, onBytes: (bytes: Buffer) => void): Socket {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  const onread = {
    buffer,
    callback: (length: number): boolean => {
      onBytes(buffer.subarray(0, length))
      return true
    },
  }
  const secure = 'host' in where ? tls() : undefined
  // Documented for tls.connect, and missing from its types.
  const secured = { ...secure, ...where, onread }
  if (secure !== undefined) return connectTls(secured)
  const options: TcpNetConnectOpts | IpcNetConnectOpts = { ...where, onread }
  return createConnection(options)
}
