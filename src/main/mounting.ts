/** A mounted volume in this process: files, FileService beside them, and the run file by which others find it. */
import { systemClock } from '../base/clock.js'
import { hasCode, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { formatMetaUrl } from '../cluster/url.js'
import type { DriverName, Mounted } from '../fuse/driver.js'
import { pickDriver } from '../fuse/drivers.js'
import type { MountOptionSet } from '../fuse/mount-options.js'
import { prepareMountpoint } from '../fuse/mountpoint.js'
import { abandonMount } from '../fuse/unmount.js'
import { BesideKernel } from '../vfs/beside-kernel.js'
import { Closer } from './closer.js'
import { hastenFirstCalls } from './first-calls.js'
import { serveFiles } from './file-server.js'
import { driverOptions, filesOptions } from './mount-settings.js'
import { writeRunFile } from './runfiles.js'
import { watchMemory } from './thrift.js'
import { openFiles, type Volume } from './volume.js'
import { Writability } from './writability.js'

export interface MountSettings {
  readonly options: MountOptionSet
}

export interface MountPlan extends MountSettings {
  readonly mountpoint: string
  /** Where FileService listens. */
  readonly socket: string
  readonly localNode?: string | undefined
  readonly runFolder: string
  /** Of an `up`. */
  readonly dataDir: string | null
}

export interface ActiveMount {
  /** Real path. */
  readonly mountpoint: string
  readonly driver: DriverName
  /** Settles when it is unmounted, by whomever. */
  readonly ended: Promise<void>
  /** For a process that ends this moment: no dead mount is left. Throws nothing. */
  abandon(): void
  /** Writes everything, unmounts (lazily when it is in use), ends the session. Rejects when data could not be written. */
  stop(): Promise<void>
}

/** Errors: those of the driver and of openFiles; RingfsError LISTEN_FAILED. */
export async function startMount(volume: Volume, plan: MountPlan): Promise<ActiveMount> {
  const { log } = volume
  const closer = new Closer()
  hastenFirstCalls()
  return closer.orClose(async () => {
    closer.add(watchMemory(systemClock))
    const mountpoint = await prepareMountpoint(plan.mountpoint, log)
    const { options, localNode } = plan
    const writability = new Writability(systemClock)
    const mayTidyUp = (): boolean => writability.isWritable
    const files = await openFiles(volume, { localNode, mayTidyUp, ...filesOptions(volume.settings, options) })
    closer.add(() => files.close())
    // Nobody waits for that now, so that nobody does later.
    const prepared = files.meta.prepare().catch((error: unknown) => {
      log.debug({ err: messageOf(error) }, 'the first changes will wait a little')
    })
    closer.add(() => prepared)
    const server = await serveFiles(new BesideKernel(files.vfs), plan.socket, volume.metrics, log)
    closer.add(() => server.stop())
    const driver = pickDriver(options.driver)
    const { settings, metrics } = volume
    const how = { ...driverOptions(settings, mountpoint, driver, options), metrics }
    const mounted = await driver.mount(files.vfs, how, log)
    closer.add(() => unmount(mounted, mountpoint, log))
    const { device } = mounted
    writability.of(device)
    const { dataDir, socket, runFolder } = plan
    const what = { volume: settings.name, metaUrl: formatMetaUrl(volume.url), dataDir, mountpoint, socket }
    closer.add(writeRunFile(runFolder, { ...what, driver: driver.name, readOnly: options.readOnly }))
    const abandon = (): void => abandonMount(mountpoint, device)
    return { mountpoint, driver: driver.name, ended: mounted.ended, abandon, stop: () => closer.close() }
  })
}

/** Whoever told this process to end wants it to end: what is in use is taken away from its users. */
async function unmount(mounted: Mounted, mountpoint: string, log: Log): Promise<void> {
  try {
    await mounted.unmount(false)
  } catch (error) {
    if (hasCode(error, 'MOUNTPOINT_BUSY')) log.warn({ mountpoint }, 'in use: unmounted all the same')
    else log.error({ mountpoint, err: messageOf(error) }, 'unmounting lazily')
    await mounted.unmount(true)
  }
}
