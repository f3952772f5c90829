/** The driver that speaks the kernel's own protocol (Linux). */
import { RingfsError } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { VfsContract } from '../../vfs/contract.js'
import type { FuseDriver, Mounted, MountOptions } from '../driver.js'
import { mountAlone } from '../mountpoint.js'
import { hasMountBelow, mountOn } from '../mounts.js'
import { isMountedOn, takeOffEnded, unmountPath, untilReleased, writeAll } from '../unmount.js'
import { loadAddon, type FuseAddon } from './addon.js'
import { attach } from './attach.js'
import { FuseDevice } from './device.js'
import { startGuard } from './guard.js'
import { raiseReadAhead } from './read-ahead.js'
import { FuseServer } from './server.js'
import { startStayingAwake } from './stay-awake.js'

export class KernelDriver implements FuseDriver {
  readonly name = 'kernel'
  readonly #load: () => FuseAddon

  constructor(load: () => FuseAddon = loadAddon) {
    this.#load = load
  }

  async mount(vfs: VfsContract, options: MountOptions, log: Log): Promise<Mounted> {
    const addon = this.#load()
    return await mountAlone(options.mountpoint, log, async (mountpoint) => {
      const fd = await attach(addon, mountpoint, options)
      return await serve(addon, fd, mountpoint, vfs, options, log)
    })
  }
}

/** Closes the descriptor when it fails. Errors: RingfsError MOUNT_FAILED. */
async function serve(
  addon: FuseAddon,
  fd: number,
  mountpoint: string,
  vfs: VfsContract,
  options: MountOptions,
  log: Log,
): Promise<Mounted> {
  let begun: (how: 'ready' | 'refused' | 'ended') => void = () => undefined
  const beginning = new Promise<'ready' | 'refused' | 'ended'>((resolve) => (begun = resolve))
  const server: FuseServer = new FuseServer({
    vfs,
    log,
    ...(options.metrics && { metrics: options.metrics }),
    send: (parts) => {
      device.send(parts)
    },
    onRefused: () => begun('refused'),
    onUnderWay: (count) => {
      device.underWay(count)
    },
    hasNested: () => hasMountBelow(mountpoint),
    startThreads: (threads, onDone) => addon.notifier(fd, threads, onDone),
    onReady: () => {
      begun('ready')
      void raiseReadAhead(mountpoint, log)
    },
  })
  const awake = startStayingAwake(options)
  const device: FuseDevice = new FuseDevice(addon, fd, (bytes, isLent) => server.handle(bytes, isLent), log, awake)
  void device.ended.then(() => begun('ended'))
  try {
    // The kernel asks as soon as it is mounted.
    if ((await beginning) === 'refused') {
      const message = 'the kernel speaks an older FUSE protocol than 7.31: use --driver fuse-native'
      throw new RingfsError('MOUNT_FAILED', message)
    }
    const number = (await mountOn(mountpoint))?.device
    const guard = number === undefined ? undefined : startGuard(addon, number, log)
    void device.ended.then(() => guard?.end())
    return new KernelMount(mountpoint, number, vfs, server, device, log)
  } catch (error) {
    device.close()
    await server.end()
    throw error
  }
}

class KernelMount implements Mounted {
  readonly ended: Promise<void>
  readonly device: string | undefined
  readonly #mountpoint: string
  readonly #vfs: VfsContract
  readonly #log: Log
  #isOver = false

  constructor(
    mountpoint: string,
    deviceNumber: string | undefined,
    vfs: VfsContract,
    server: FuseServer,
    device: FuseDevice,
    log: Log,
  ) {
    this.#mountpoint = mountpoint
    this.device = deviceNumber
    this.#vfs = vfs
    this.#log = log
    this.ended = device.ended.then(async () => {
      this.#isOver = true
      await server.end()
      device.close()
    })
  }

  async unmount(lazy: boolean): Promise<void> {
    if (this.#isOver) {
      await this.ended
      return await takeOffEnded(this.#mountpoint, this.device)
    }
    await writeAll(this.#vfs, lazy, this.#log)
    if (!(await isMountedOn(this.#mountpoint, this.device))) return
    await unmountPath(this.#mountpoint, lazy)
    // Lazily unmounted, it goes on for those who still use it.
    if (!lazy) await untilReleased(this.ended, this.#mountpoint, this.device, this.#log)
  }
}
