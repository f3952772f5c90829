/** The driver on the npm package fuse-native, which is libfuse 2.9 with paths. What it cannot do: docs/fuse-native.md. */
import { RingfsError, messageOf } from '../../base/errors.js'
import type { Log } from '../../base/log.js'
import type { VfsContract } from '../../vfs/contract.js'
import type { FuseDriver, Mounted, MountOptions } from '../driver.js'
import { mountAlone } from '../mountpoint.js'
import { FS_TYPE, mountOn } from '../mounts.js'
import { isMountedOn, takeOffEnded, unmountPath, untilReleased, writeAll } from '../unmount.js'
import { DeviceWatch } from './device.js'
import { PathOps } from './ops.js'
import { fuseOptions } from './options.js'
import type { Session } from './session.js'

export class FuseNativeDriver implements FuseDriver {
  readonly name = 'fuse-native'

  async mount(vfs: VfsContract, options: MountOptions, log: Log): Promise<Mounted> {
    const { Session } = await loadSession()
    return await mountAlone(options.mountpoint, log, async (mountpoint) => {
      const ops = new PathOps(vfs, currentUser(), log)
      const session = new Session(mountpoint, fuseOptions({ ...options, mountpoint }), ops, log, options.metrics)
      const watch = await DeviceWatch.before()
      await start(session, mountpoint)
      return new NativeMount(mountpoint, (await mountOn(mountpoint))?.device, vfs, ops, session, watch, log)
    })
  }
}

/** libfuse mounts first and then looks at its options: what fails after that would leave a mount that hangs. */
async function start(session: Session, mountpoint: string): Promise<void> {
  try {
    await session.start()
  } catch (error) {
    if ((await mountOn(mountpoint))?.fsType === FS_TYPE) await unmountPath(mountpoint, true)
    await session.stop()
    throw error
  }
}

class NativeMount implements Mounted {
  readonly ended: Promise<void>
  readonly device: string | undefined
  readonly #mountpoint: string
  readonly #vfs: VfsContract
  readonly #watch: DeviceWatch
  readonly #log: Log

  constructor(
    mountpoint: string,
    deviceNumber: string | undefined,
    vfs: VfsContract,
    ops: PathOps,
    session: Session,
    watch: DeviceWatch,
    log: Log,
  ) {
    this.#mountpoint = mountpoint
    this.device = deviceNumber
    this.#vfs = vfs
    this.#watch = watch
    this.#log = log
    this.ended = watch.closed().then(async () => {
      await session.stop()
      await ops.end()
    })
  }

  async unmount(lazy: boolean): Promise<void> {
    if (this.#watch.isClosed) {
      await this.ended
      return await takeOffEnded(this.#mountpoint, this.device)
    }
    await writeAll(this.#vfs, lazy, this.#log)
    if (!(await isMountedOn(this.#mountpoint, this.device))) return
    await unmountPath(this.#mountpoint, lazy)
    this.#watch.hurry()
    // Lazily unmounted, it goes on for those who still use it.
    if (!lazy) await untilReleased(this.ended, this.#mountpoint, this.device, this.#log)
  }
}

/** Loaded when it is needed: the native part is not there on every machine, and the other commands do without it. */
async function loadSession(): Promise<{ Session: typeof Session }> {
  try {
    return await import('./session.js')
  } catch (error) {
    const message = `the driver fuse-native cannot be loaded (${oneLine(messageOf(error))}): install libfuse2, then npm ci`
    throw new RingfsError('DRIVER_MISSING', message, { cause: error })
  }
}

function currentUser(): { uid: number; gid: number; pid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: process.pid }
}

function oneLine(text: string): string {
  return text.split('\n', 1)[0] ?? ''
}
