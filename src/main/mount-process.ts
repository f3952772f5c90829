/** `ringfs mount`: a volume of a cluster that runs elsewhere, mounted here. */
import type { Log } from '../base/log.js'
import type { MetaUrl } from '../cluster/url.js'
import { Closer } from './closer.js'
import { startMount, type MountSettings } from './mounting.js'
import { socketOfProcess } from './sockets.js'
import { openVolume } from './volume.js'

export interface MountProcessOptions extends MountSettings {
  readonly url: MetaUrl
  readonly mountpoint: string
  readonly runFolder: string
  readonly key?: Buffer | undefined
  readonly log: Log
}

/** Runs until `stop` fires or the file system is unmounted. */
export async function runMount(
  options: MountProcessOptions,
  stop: Promise<void>,
  onReady: (mounted: { readonly volume: string; readonly mountpoint: string }) => void,
): Promise<void> {
  const { url, key, log, runFolder } = options
  const closer = new Closer()
  await closer.orClose(async () => {
    const volume = await openVolume(url, { log, key })
    closer.add(() => volume.close())
    const mount = await startMount(volume, { ...options, socket: socketOfProcess(runFolder), dataDir: null })
    closer.add(() => mount.stop())
    onReady({ volume: url.volume, mountpoint: mount.mountpoint })
    await Promise.race([stop, mount.ended])
  })
  await closer.close()
}
