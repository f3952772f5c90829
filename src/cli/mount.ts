import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import * as z from 'zod'
import { RingfsError } from '../base/errors.js'
import { formatMetaUrl, parseMetaUrl, type MetaUrl } from '../cluster/url.js'
import type { MountOptionSet } from '../fuse/mount-options.js'
import { ReadyPipe, detach } from '../main/detach.js'
import type { MountReady } from '../main/mount-process.js'
import { leaveWord } from '../main/runfiles.js'
import type { ActiveMount } from '../main/mounting.js'
import { serve } from '../main/standard-output.js'
import { starterInput, stopSignal } from '../main/stop-signal.js'
import { commonOf, mountOptionsOf, mountWords, withMountOptions } from './arguments.js'
import { failureText } from './failures.js'
import {
  endAtOnce,
  keyOf,
  logOf,
  print,
  say,
  saySlowEnd,
  type CommonOptions,
  type Surroundings,
} from './surroundings.js'
import { findTarget, urlOf } from './target.js'

interface Options extends CommonOptions {
  readonly options: readonly string[]
  readonly detach?: boolean
  readonly json?: boolean
  readonly readyPipe?: boolean
}

const EXAMPLES = `
Each long option can be given with -o, too, as in an /etc/fstab line: -o noatime,driver=kernel,password-file=/etc/ringfs.pw
For mount -t ringfs and /etc/fstab: ringfs install-mount-helper.

Examples:
  $ ringfs mount redis://10.0.0.1:6379/home /mnt/home --password-file /etc/ringfs.pw
  $ RINGFS_META_PASSWORD=secret ringfs mount redis://10.0.0.1:6379/home /mnt/home --detach -o ro
  $ ringfs mount /srv/ringfs-data /mnt/again`

const readySchema = z.object({
  volume: z.string(),
  mountpoint: z.string(),
  driver: z.enum(['kernel', 'fuse-native']),
  warnings: z.array(z.string()),
})

export function mountCommand(surroundings: Surroundings): Command {
  const command = new Command('mount')
    .summary('mount a volume')
    .description('Mounts a volume whose Redis and nodes run already. Ctrl-C unmounts.')
    .argument('<source>', 'redis://host:port[,host:port…]/VOLUME, or the data folder of a ringfs up that runs')
    .argument('<mountpoint>', 'an empty folder')
    .option('--detach', 'go on in the background once mounted')
    .option('--json', 'tell that it is mounted as one line of JSON')
    .addOption(new Option('--ready-pipe').hideHelp())
    .addHelpText('after', EXAMPLES)
  return withMountOptions(command).action(
    async (source: string, mountpoint: string, _options: Options, self: Command) => {
      const options = self.optsWithGlobals<Options>()
      await (options.detach === true ? inBackground : here)(surroundings, source, mountpoint, options)
    },
  )
}

async function here(surroundings: Surroundings, source: string, mountpoint: string, options: Options): Promise<void> {
  serve()
  const pipe = new ReadyPipe(options.readyPipe === true)
  let mounted: ActiveMount | undefined
  const { stopped, wasTold } = stopSignal((why) => endAtOnce(surroundings, why, mounted))
  void stopped.then(() => say(surroundings, 'unmounting'))
  const { runFolder } = surroundings.environment
  try {
    const set = mountOptionsOf(options)
    const common = commonOf(options, set)
    const log = logOf(surroundings, common, options.readyPipe === true ? 'info' : 'warn')
    const { runMount } = await import('../main/mount-process.js')
    await runMount(
      {
        options: set,
        url: await ownUrl(surroundings, source, set),
        mountpoint,
        runFolder,
        retryMs: retryMsOf(set),
        key: keyOf(surroundings, common, log),
        log,
        onSlowEnd: (why) => saySlowEnd(surroundings, why, wasTold()),
      },
      stopped,
      (ready, mount) => {
        mounted = mount
        pipe.ready(ready)
        // A process in the background keeps no folder busy.
        if (options.readyPipe === true) process.chdir('/')
        tell(surroundings, options, { ...ready, pid: process.pid, logFile: null })
      },
    )
  } catch (error) {
    pipe.failed(error)
    if (mounted !== undefined) leaveWord(runFolder, failureText(error))
    throw error
  }
}

/** In the place of SOURCE: the URL comes by standard input, since it may hold a password. */
const HANDED_ON = '-'

async function ownUrl(surroundings: Surroundings, source: string, options: MountOptionSet): Promise<MetaUrl> {
  if (source !== HANDED_ON) return sourceUrl(surroundings, source, options)
  return parseMetaUrl(await starterInput().firstLine)
}

async function inBackground(
  surroundings: Surroundings,
  source: string,
  mountpoint: string,
  options: Options,
): Promise<void> {
  const set = mountOptionsOf(options)
  const url = await sourceUrl(surroundings, source, set)
  tell(surroundings, options, await detachMount(surroundings, url, mountpoint, set, commonWords(options)))
}

/** Options of `ringfs` itself, for a process of ours. */
function commonWords({ debug, keyFile, logLevel }: CommonOptions): readonly string[] {
  return [
    ...(debug === true ? ['--debug'] : []),
    ...(keyFile === undefined ? [] : ['--key-file', keyFile]),
    ...(logLevel === undefined ? [] : ['--log-level', logLevel]),
  ]
}

interface Told extends MountReady {
  readonly pid: number
  /** null: in the foreground. */
  readonly logFile: string | null
}

function tell(surroundings: Surroundings, options: Options, told: Told): void {
  const { volume, mountpoint, pid, logFile, warnings } = told
  for (const text of warnings) say(surroundings, `warning: ${text}`)
  const where = `volume ${volume} is mounted at ${mountpoint}`
  const how =
    logFile === null ? 'Ctrl-C unmounts' : `process ${pid}, log in ${logFile}; ringfs umount ${mountpoint} ends it`
  print(surroundings, options.json === true ? `${JSON.stringify(told)}\n` : `${where}; ${how}\n`)
}

/** Starts the process that mounts, and answers when the mount can be used. Errors: what it failed with. */
export async function detachMount(
  surroundings: Surroundings,
  url: MetaUrl,
  mountpoint: string,
  options: MountOptionSet,
  more: readonly string[] = [],
): Promise<Told> {
  const { inherited, logFolder } = surroundings.environment
  const logFile = resolve(options.logFile ?? join(logFolder, logName(url.volume, mountpoint)))
  const words = ['mount', HANDED_ON, mountpoint, '--ready-pipe', ...mountWords(options), ...more]
  const ready = await detach({ words, env: inherited, input: `${formatMetaUrl(url)}\n`, logFile, schema: readySchema })
  return { ...ready, logFile }
}

const LOG_NAME_MAX_BYTES = 200

/** One file for each mount point, with a name that tells it: `home-mnt-home.log`. */
function logName(volume: string, mountpoint: string): string {
  const path = resolve(mountpoint)
  const name = `${volume}-${path.slice(1).replaceAll('/', '-')}`
  const isShort = Buffer.byteLength(name) <= LOG_NAME_MAX_BYTES
  return `${isShort ? name : `${volume}-${createHash('sha256').update(path).digest('hex').slice(0, 16)}`}.log`
}

/**
 * What SOURCE names: a META_URL, or the data folder of an `up` that runs.
 * Errors: RingfsError USAGE, NOT_RUNNING.
 */
export async function sourceUrl(surroundings: Surroundings, source: string, options: MountOptionSet): Promise<MetaUrl> {
  if (!isUrl(source)) return findTarget(surroundings, { data: source })
  const { passwordFile } = options
  if (passwordFile === undefined) return urlOf(surroundings, source)
  const { password, ...url } = parseMetaUrl(source)
  if (password !== undefined) throw new RingfsError('USAGE', 'a password in the URL, and a file of one: leave one out')
  return { ...url, passwordFile: resolve(passwordFile) }
}

export function isUrl(source: string): boolean {
  return /^[a-z]+:\/\//i.test(source)
}

const NETDEV_RETRY_MS = 60_000

/** At boot the network may be up before Redis is. Less than the 90 s after which systemd gives a mount up. */
function retryMsOf({ retryMs, netDev }: MountOptionSet): number {
  return retryMs ?? (netDev ? NETDEV_RETRY_MS : 0)
}
