/** The driver that speaks the kernel's own protocol (Linux). */
import { messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { VfsContract } from '../../vfs/contract.js'
import type { FuseDriver, Mounted, MountOptions } from '../driver.js'
import { prepareMountpoint } from '../mountpoint.js'
import { unmountPath } from '../unmount.js'
import { loadAddon } from './addon.js'
import { attach } from './attach.js'
import { FuseDevice } from './device.js'
import { raiseReadAhead } from './read-ahead.js'
import { FuseServer } from './server.js'

/** Closing what was left open, with what is buffered, takes a moment. */
const END_WAIT_MS = 15_000

export class KernelDriver implements FuseDriver {
  readonly name = 'kernel'

  async mount(vfs: VfsContract, options: MountOptions, log: Log): Promise<Mounted> {
    const addon = loadAddon()
    const mountpoint = await prepareMountpoint(options.mountpoint, log)
    const fd = await attach(addon, mountpoint, options)
    const server: FuseServer = new FuseServer({
      vfs,
      log,
      send: (parts) => {
        device.send(parts)
      },
      onRefused: () => {
        log.error('the kernel speaks an older FUSE protocol than 7.31: use --driver fuse-native')
        device.close()
      },
      onReady: () => void raiseReadAhead(mountpoint, log),
    })
    const device: FuseDevice = new FuseDevice(addon, fd, (bytes) => server.handle(bytes), log)
    return new KernelMount(mountpoint, vfs, server, device, log)
  }
}

class KernelMount implements Mounted {
  readonly ended: Promise<void>
  readonly #mountpoint: string
  readonly #vfs: VfsContract
  readonly #log: Log
  #isOver = false

  constructor(mountpoint: string, vfs: VfsContract, server: FuseServer, device: FuseDevice, log: Log) {
    this.#mountpoint = mountpoint
    this.#vfs = vfs
    this.#log = log
    this.ended = device.ended.then(async () => {
      this.#isOver = true
      await server.end()
      device.close()
    })
  }

  async unmount(lazy: boolean): Promise<void> {
    if (this.#isOver) return this.ended
    await this.#flush(lazy)
    await unmountPath(this.#mountpoint, lazy)
    // Lazily unmounted, it goes on for those who still use it.
    if (!lazy) await this.#untilEnded()
  }

  /**
   * A container or service with a mount namespace of its own, started meanwhile, holds a copy of the mount, and the kernel
   * does not let go for as long as that runs: whoever unmounts here is not kept waiting for it.
   */
  async #untilEnded(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(true), END_WAIT_MS)))
    const isHeld = await Promise.race([this.ended.then(() => false), late])
    clearTimeout(timer)
    if (isHeld)
      this.#log.warn({ mountpoint: this.#mountpoint }, 'unmounted here, still held by another mount namespace')
  }

  /** What cannot be written must not keep a lazy unmount from happening: nobody would come back for it. */
  async #flush(lazy: boolean): Promise<void> {
    try {
      await this.#vfs.syncAll(false)
    } catch (error) {
      if (!lazy) throw error
      this.#log.error({ error: messageOf(error) }, 'not everything could be written before the unmount')
    }
  }
}
