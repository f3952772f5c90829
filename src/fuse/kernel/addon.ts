/** The kernel driver's part of the addon: native/fuse_device.c, native/notifier.c. */
import { hasAll, loadNative } from '../../base/addon.js'
import { RingfsError, messageOf } from '../../base/errors.js'
import type { NotifierThreads } from './notifier.js'

export interface FuseAddon {
  /** mount(2). Throws an Error with `errno`. */
  mount(source: string, target: string, type: string, flags: number, options: string): void
  /** Two connected descriptors, both closed on exec. */
  socketPair(): readonly [number, number]
  /** The descriptor that fusermount3 sent over the socket, once that has exited. Throws an Error with `errno`. */
  receiveDescriptor(socket: number): number
  /**
   * Reads requests from `fd` into `buffer` on the main loop until the end. `onRequest(length)` answers the buffer for the
   * next one: the same if it kept nothing of it. A length below 0 is a negative errno: the last call (ENODEV: unmounted).
   *
   * After a request the loop does not sleep for `spinMicroseconds`; for `awaitMicroseconds` while the native-endian 32 bits
   * at the start of `underWay` are not 0.
   */
  read(
    fd: number,
    buffer: Buffer,
    spinMicroseconds: number,
    awaitMicroseconds: number,
    underWay: Uint8Array,
    onRequest: (length: number) => Buffer,
  ): () => void
  /**
   * A function that writes the first `length` bytes of `head`, and behind them `body`, in one write(2) or writev(2) to `fd`. It
   * answers 0 or a positive errno.
   */
  writer(fd: number, head: Buffer): (length: number, body?: Buffer) => number
  /**
   * Threads that write what is sent into `fd`, each write as a whole: it may wait in the kernel, and `send` does not. `onDone`
   * is called on the main loop when it is written, with 0 or a positive errno. After `close` nothing is written any more
   * and nothing told; a thread that waits in the kernel ends when it is let go.
   */
  notifier(fd: number, threads: number, onDone: (id: number, errno: number) => void): NotifierThreads
  /** Ends the process at once, with all its threads. */
  exit(code: number): never
}

/** Errors: RingfsError DRIVER_MISSING. */
export function loadAddon(folder?: string): FuseAddon {
  try {
    const addon: unknown = loadNative(folder)
    if (!isAddon(addon)) throw new Error('it is of another version')
    return addon
  } catch (error) {
    const [reason] = messageOf(error).split('\n', 1)
    const message = `the kernel driver cannot be loaded (${reason ?? ''}): npm run build, or --driver fuse-native`
    throw new RingfsError('DRIVER_MISSING', message, { cause: error })
  }
}

function isAddon(value: unknown): value is FuseAddon {
  return hasAll(value, ['mount', 'socketPair', 'receiveDescriptor', 'read', 'writer', 'notifier', 'exit'])
}
