/**
 * Sockets that read into memory of the reader's choice.
 *
 * By itself a Node socket allocates 64 KiB for each read and hands it over. At some hundred MB/s that is thousands of
 * external buffers a second: V8 counts them and runs a full collection every 64 MB, and each must be copied again to lie in
 * one piece. With `onread` (documented for net.connect) a socket reads where it is told to, so that a payload lands where it
 * will be used.
 *
 * For accepted sockets Node has no such option; but a Socket made over the same handle takes it. `feedAccepted` does that
 * where the handle can (TCP and Unix sockets of today's Node), and leaves the socket as it is where it cannot: then it emits
 * 'data', which FrameSocket takes as well. TLS sockets are left as they are.
 */
import { Socket, connect, type NetConnectOpts, type OnReadOpts } from 'node:net'
import { KIB } from '../base/limits.js'

export interface FeedSink {
  /** Where the next bytes should go, not empty; null: anywhere. */
  room(): Buffer | null
  /** `bytes` were read into what room() answered. */
  landed(bytes: number): void
  /** Bytes in memory that is used again for the next read. */
  passing(data: Buffer): void
}

/** One for all sockets: what is read into it is taken out before the next read of anyone. */
const SCRATCH = Buffer.allocUnsafeSlow(64 * KIB)

class Feed {
  #sink: FeedSink | null = null
  #early: Buffer[] = []

  readonly onread: OnReadOpts = {
    buffer: () => this.#sink?.room() ?? SCRATCH,
    callback: (bytes, memory) => {
      this.#take(bytes, memory === SCRATCH)
      return true
    },
  }

  attach(sink: FeedSink): void {
    this.#sink = sink
    for (const data of this.#early.splice(0)) sink.passing(data)
  }

  #take(bytes: number, scratch: boolean): void {
    if (!scratch) this.#sink?.landed(bytes)
    else if (this.#sink === null) this.#early.push(Buffer.from(SCRATCH.subarray(0, bytes)))
    else this.#sink.passing(SCRATCH.subarray(0, bytes))
  }
}

const feeds = new WeakMap<Socket, Feed>()

export function connectFed(options: NetConnectOpts): Socket {
  const feed = new Feed()
  const socket = connect({ ...options, onread: feed.onread })
  feeds.set(socket, feed)
  return socket
}

/** The socket to use instead of `accepted`. */
export function feedAccepted(accepted: Socket): Socket {
  const handle: unknown = Reflect.get(accepted, '_handle')
  if (typeof handle !== 'object' || handle === null || !('useUserBuffer' in handle)) return accepted
  const feed = new Feed()
  const options = { handle, onread: feed.onread, readable: true, writable: true }
  const socket = new Socket(options)
  feeds.set(socket, feed)
  // The handle is the new socket's. The old one keeps its place among the server's connections until that has ended.
  Reflect.set(accepted, '_handle', null)
  socket.once('close', () => accepted.destroy())
  return socket
}

/** true: the socket's bytes go to `sink`, and it emits no 'data'. */
export function attachSink(socket: Socket, sink: FeedSink): boolean {
  const feed = feeds.get(socket)
  feed?.attach(sink)
  return feed !== undefined
}
