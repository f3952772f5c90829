/** `ringfs mount`: a volume of a cluster that runs elsewhere, mounted here. */
import { systemClock } from '../base/clock.js'
import { RingfsError, hasCode, messageOf } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { serveReadily } from '../base/priority.js'
import { FIRST_ANSWER_MS } from '../cluster/redis.js'
import type { MetaUrl } from '../cluster/url.js'
import type { DriverName } from '../fuse/driver.js'
import type { KeyRing } from '../rpc/key-ring.js'
import { checkKey } from './key-check.js'
import { Closer } from './closer.js'
import { startMount, type ActiveMount, type MountSettings } from './mounting.js'
import { socketOfProcess } from './sockets.js'
import { SlowEnd } from './slow-end.js'
import { openVolume, type Volume } from './volume.js'

export interface MountProcessOptions extends MountSettings {
  readonly url: MetaUrl
  readonly mountpoint: string
  readonly runFolder: string
  /** How long a Redis that cannot be reached is waited for. */
  readonly retryMs: number
  readonly key?: KeyRing | undefined
  readonly log: Log
  /** The end takes long: why. */
  readonly onSlowEnd: (why: string) => void
}

export interface MountReady {
  readonly volume: string
  readonly mountpoint: string
  readonly driver: DriverName
  /** What whoever mounts should know: nothing can be written yet, for example. */
  readonly warnings: readonly string[]
}

const RETRY_PAUSE_MS = 1_000

/** Runs until `stop` fires or the file system is unmounted. */
export async function runMount(
  options: MountProcessOptions,
  stop: Promise<void>,
  onReady: (mounted: MountReady, mount: ActiveMount) => void,
): Promise<void> {
  const { url, runFolder } = options
  serveReadily(options.options.nice, { group: true })
  const closer = new Closer()
  await closer.orClose(async () => {
    const volume = await openWhenThere(options, stop)
    closer.add(() => volume.close())
    const slowEnd = new SlowEnd({ volume, tell: options.onSlowEnd })
    closer.add(() => slowEnd.over())
    await checkKey(volume.watcher.current().view.members, options.key)
    const mount = await startMount(volume, { ...options, socket: socketOfProcess(runFolder), dataDir: null })
    closer.add(() => mount.stop())
    closer.add(() => slowEnd.begin())
    const warnings = options.options.readOnly ? [] : warningsOf(volume)
    for (const text of warnings) options.log.warn({}, text)
    onReady({ volume: url.volume, mountpoint: mount.mountpoint, driver: mount.driver, warnings }, mount)
    await Promise.race([stop, mount.ended])
  })
  await closer.close()
}

function warningsOf({ watcher, settings }: Volume): readonly string[] {
  const up = watcher.current().view.members.filter(({ state }) => state === 'up').length
  const needed = settings.writeQuorum
  if (up >= needed) return []
  const what = needed === 1 ? 'no chunk node is up' : `${up} chunk nodes are up, and a write needs ${needed}`
  return [`${what}: until then what is written waits a minute, and fails then (ringfs node, ringfs status)`]
}

/** Only a Redis that does not answer is waited for: a wrong password or volume does not become right. */
async function openWhenThere(options: MountProcessOptions, stop: Promise<void>): Promise<Volume> {
  const { url, key, log, retryMs } = options
  const deadlineMs = systemClock.monotonicMs() + retryMs
  const stopped = stop.then(() => true)
  for (;;) {
    try {
      return await openVolume(url, { log, key, firstAnswerMs: FIRST_ANSWER_MS })
    } catch (error) {
      if (!hasCode(error, 'REDIS_UNREACHABLE') || systemClock.monotonicMs() >= deadlineMs) throw error
      log.info({ err: messageOf(error) }, 'Redis is waited for')
    }
    const isOver = await Promise.race([stopped, systemClock.sleep(RETRY_PAUSE_MS).then(() => false)])
    if (isOver) throw new RingfsError('CANCELLED', `stopped before ${url.volume} was mounted`)
  }
}
