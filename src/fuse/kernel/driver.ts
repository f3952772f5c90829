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
import { FuseServer } from './server.js'

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
    if (!lazy) await this.ended
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
