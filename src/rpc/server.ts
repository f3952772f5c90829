/** The answering side: listeners, connections, and the table of methods they share. */
import type { Socket } from 'node:net'
import { RingfsError, messageOf } from '../base/errors.js'
import { invariant } from '../base/invariant.js'
import { silentLog, type Log } from '../base/log.js'
import type { KeyRing } from './key-ring.js'
import { SERVER_LIMITS, type ServerLimits } from './limits.js'
import { PING, type Method } from './method.js'
import type { PayloadMemory } from './frame.js'
import { Refusals } from './refusals.js'
import { ServerConnection, type CallContext, type RawHandler, type ServerLoad } from './server-connection.js'
import { keyIdOf, listen, type Listener } from './transport.js'

export type { CallContext } from './server-connection.js'

export interface ServerOptions {
  readonly log?: Log
  readonly limits?: Partial<ServerLimits>
  /** Cluster keys: every TCP listener asks for one of them. */
  readonly key?: KeyRing
  /** Where long payloads of requests land. They are the handler's until its reply has been sent. */
  readonly memory?: PayloadMemory
}

/** What a handler answers: the message, and the payload, whose buffers must not change before `onSent`. */
export interface HandlerReply<Reply> {
  readonly reply: Reply
  readonly payload?: readonly Uint8Array[]
  /** Called once, when nothing of the payload is needed any more, whether it was sent or not. */
  readonly onSent?: (() => void) | undefined
}

export type Handler<Request, Reply> = (
  request: Request,
  payload: readonly Buffer[],
  context: CallContext,
) => Promise<HandlerReply<Reply>>

export class RpcServer {
  readonly #log: Log
  readonly #limits: ServerLimits
  readonly #key: KeyRing | null
  readonly #refusals: Refusals
  readonly #unwatchKeys: () => void
  readonly #handlers = new Map<number, RawHandler>()
  readonly #listeners: Listener[] = []
  /** With the key that each was let in with; null without one. */
  readonly #connections = new Map<ServerConnection, string | null>()
  #graceTimer: NodeJS.Timeout | null = null
  readonly #load: ServerLoad
  #closing = false

  constructor(options: ServerOptions = {}) {
    this.#log = options.log ?? silentLog
    this.#limits = { ...SERVER_LIMITS, ...options.limits }
    this.#key = options.key ?? null
    this.#refusals = new Refusals(this.#log)
    this.#unwatchKeys = this.#key?.onChange(() => this.#keysChanged()) ?? (() => undefined)
    this.#load = { bytes: 0, memory: options.memory ?? null }
    this.handle(PING, (_request, payload) => Promise.resolve({ reply: { pid: process.pid }, payload }))
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Before listening. A method has one handler. */
  handle<Request, Reply>(method: Method<Request, Reply>, handler: Handler<Request, Reply>): void {
    invariant(!this.#handlers.has(method.number), `one handler for ${method.name}`)
    this.#handlers.set(method.number, async (frame, context) => {
      const answer = await handler(method.request.decode(frame.header), frame.payload, context)
      const { reply, payload = [], onSent } = answer
      return { header: method.reply.encode(reply), payload, onSent }
    })
  }

  /**
   * `host:port` (port 0: any) or `unix:/path`; answers the address to dial.
   * Errors: RingfsError USAGE, KEY_REQUIRED (an address others can reach needs the cluster key), LISTEN_FAILED.
   */
  async listen(address: string): Promise<string> {
    const listener = await listen(address, {
      key: this.#key,
      onSocket: (socket) => this.#accept(socket),
      onRefused: (peer, reason) => this.#refusals.add(peer, reason),
    })
    if (this.#closing) {
      await listener.close()
      throw new RingfsError('LISTEN_FAILED', 'the server is closing')
    }
    this.#listeners.push(listener)
    return listener.address
  }

  /** Accepts nothing new, lets requests in work finish (at most limits.drainMs), then closes every connection. */
  async close(): Promise<void> {
    this.#closing = true
    this.#unwatchKeys()
    if (this.#graceTimer !== null) clearTimeout(this.#graceTimer)
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close()))
    await Promise.all([...this.#connections.keys()].map((connection) => connection.drain()))
  }

  #accept(socket: Socket): void {
    if (this.#closing || this.#connections.size >= this.#limits.maxConnections) {
      this.#log.warn({ connections: this.#connections.size }, 'connection refused: too many')
      socket.destroy()
      return
    }
    const connection = new ServerConnection(socket, this.#handlers, this.#limits, this.#load, (error) => {
      this.#connections.delete(connection)
      if (error !== null) this.#log.debug({ reason: messageOf(error) }, 'connection ended')
    })
    this.#connections.set(connection, keyIdOf(socket))
  }

  /**
   * Who was let in with a key that has been taken away may have it no longer. A peer that has the new one goes over by
   * itself, between two calls; whoever is still here after the grace is drained.
   */
  #keysChanged(): void {
    this.#graceTimer ??= setTimeout(() => {
      this.#graceTimer = null
      for (const [connection, id] of this.#connections) {
        if (id !== null && this.#key?.find(id) === undefined) void connection.drain()
      }
    }, this.#limits.keyGraceMs).unref()
  }
}
