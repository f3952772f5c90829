/**
 * When a mount is over. fuse-native does not say, so this watches the descriptor of /dev/fuse that the library opened: it
 * closes it when the kernel has ended the connection, that is after an unmount by anyone, and after a lazy one when the
 * last user is gone. The list of mounts would say it too early then, and the mount point itself must not be asked: a
 * process that waits for its own mount waits for ever.
 */
import { readdir, readlink } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const DESCRIPTORS = '/proc/self/fd'
const DEVICE = '/dev/fuse'
const POLL_MS = 250
const HURRIED_POLL_MS = 10

export class DeviceWatch {
  readonly #others: ReadonlySet<string>
  #pollMs = POLL_MS
  #wake = new AbortController()
  #closed = false

  private constructor(others: ReadonlySet<string>) {
    this.#others = others
  }

  /** To be called before the mount: the descriptor that is there after it and not now is the one. */
  static async before(): Promise<DeviceWatch> {
    return new DeviceWatch(new Set(await devices()))
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** To be called after the mount. */
  async closed(): Promise<void> {
    const own = (await devices()).find((descriptor) => !this.#others.has(descriptor))
    // None: somebody unmounted it at once.
    while (own !== undefined && (await isDevice(own))) await this.#pause()
    this.#closed = true
  }

  /** The end is near: look more often. */
  hurry(): void {
    this.#pollMs = HURRIED_POLL_MS
    this.#wake.abort()
  }

  async #pause(): Promise<void> {
    await sleep(this.#pollMs, undefined, { signal: this.#wake.signal, ref: false }).catch(() => {
      this.#wake = new AbortController()
    })
  }
}

async function devices(): Promise<readonly string[]> {
  const descriptors = await readdir(DESCRIPTORS)
  const kept = await Promise.all(
    descriptors.map(async (descriptor) => ((await isDevice(descriptor)) ? [descriptor] : [])),
  )
  return kept.flat()
}

async function isDevice(descriptor: string): Promise<boolean> {
  return (await readlink(`${DESCRIPTORS}/${descriptor}`).catch(() => '')) === DEVICE
}
