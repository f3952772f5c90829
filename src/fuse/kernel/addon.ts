/** The native part, native/fuse_device.c: built by scripts/build-native.mjs. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { RingfsError, messageOf } from '../../base/errors.js'

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
   */
  read(fd: number, buffer: Buffer, spinMicroseconds: number, onRequest: (length: number) => Buffer): () => void
}

const NAME = join('native', 'build', 'fuse_device.node')

/** Errors: RingfsError DRIVER_MISSING. */
export function loadAddon(): FuseAddon {
  const path = find(dirname(fileURLToPath(import.meta.url)))
  if (path === undefined) {
    throw new RingfsError('DRIVER_MISSING', 'the kernel driver is not built: npm run build, or --driver fuse-native')
  }
  try {
    const addon: unknown = createRequire(import.meta.url)(path)
    if (!isAddon(addon)) throw new Error('it is of another version')
    return addon
  } catch (error) {
    const message = `the kernel driver cannot be loaded (${messageOf(error)}): npm run build, or --driver fuse-native`
    throw new RingfsError('DRIVER_MISSING', message, { cause: error })
  }
}

function isAddon(value: unknown): value is FuseAddon {
  if (typeof value !== 'object' || value === null) return false
  return ['mount', 'socketPair', 'receiveDescriptor', 'read'].every((name) => name in value)
}

/** The package's folder is above ours, in a checkout and when installed. */
function find(from: string): string | undefined {
  for (let at = from; ; at = dirname(at)) {
    const path = join(at, NAME)
    if (existsSync(path)) return path
    if (dirname(at) === at) return undefined
  }
}
