import { basename, join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { z } from 'zod'
import type { Durability } from '../chunk/contract.js'
import { formatMetaUrl } from '../cluster/url.js'
import type { DriverName } from '../fuse/driver.js'
import { ReadyPipe, detach } from '../main/detach.js'
import { runMount } from '../main/mount-process.js'
import { ensureRunFolder } from '../main/runfiles.js'
import { stopSignal } from '../main/stop-signal.js'
import { driverOption, durabilityOption, mountOptions } from './arguments.js'
import { keyOf, logOf, print, say, type CommonOptions, type Surroundings } from './surroundings.js'
import { urlOf } from './target.js'

interface Options extends CommonOptions {
  readonly driver?: DriverName
  readonly durability?: Durability
  readonly options: readonly string[]
  readonly detach?: boolean
  readonly readyPipe?: boolean
}

const EXAMPLES = `
Examples:
  $ ringfs mount redis://:secret@10.0.0.1:6379/home /mnt/home
  $ RINGFS_META_PASSWORD=secret ringfs mount redis://10.0.0.1:6379/home /mnt/home --detach -o ro`

const readySchema = z.object({ volume: z.string(), mountpoint: z.string() })

export function mountCommand(surroundings: Surroundings): Command {
  return new Command('mount')
    .summary('mount a volume')
    .description('Mounts a volume whose Redis and nodes run already. Ctrl-C unmounts.')
    .argument('<meta-url>', 'redis://[:password@]host:port[,host:port…]/VOLUME')
    .argument('<mountpoint>', 'an empty folder')
    .addOption(driverOption)
    .addOption(durabilityOption)
    .option('-o, --options <list>', 'mount options: ro, allow_other, …', mountOptions, [])
    .option('--detach', 'go on in the background once mounted; log to the run folder')
    .addOption(new Option('--ready-pipe').hideHelp())
    .addHelpText('after', EXAMPLES)
    .action(async (url: string, mountpoint: string, _options: Options, command: Command) => {
      const options = command.optsWithGlobals<Options>()
      await (options.detach === true ? inBackground : here)(surroundings, url, mountpoint, options)
    })
}

async function here(surroundings: Surroundings, url: string, mountpoint: string, options: Options): Promise<void> {
  const pipe = new ReadyPipe(options.readyPipe === true)
  const { stopped } = stopSignal(() => say(surroundings, 'stopping at once'))
  const { runFolder, metaUrl } = surroundings.environment
  // In the background the URL comes through the environment: it holds a password.
  const text = options.readyPipe === true && metaUrl !== undefined ? metaUrl : url
  try {
    await runMount(
      {
        ...options,
        url: urlOf(surroundings, text),
        mountpoint,
        runFolder,
        key: keyOf(surroundings, options),
        log: logOf(surroundings, options, options.readyPipe === true ? 'info' : 'warn'),
      },
      stopped,
      (ready) => {
        pipe.ready(ready)
        print(surroundings, `volume ${ready.volume} is mounted at ${ready.mountpoint}; Ctrl-C unmounts\n`)
      },
    )
  } catch (error) {
    pipe.failed(error)
    throw error
  }
}

async function inBackground(
  surroundings: Surroundings,
  text: string,
  mountpoint: string,
  options: Options,
): Promise<void> {
  const url = urlOf(surroundings, text)
  const { runFolder, inherited } = surroundings.environment
  ensureRunFolder(runFolder)
  const logFile = join(runFolder, `${url.volume}-${basename(resolve(mountpoint))}.log`)
  const env = { ...inherited, RINGFS_META: formatMetaUrl(url) }
  const words = ['mount', 'RINGFS_META', mountpoint, '--ready-pipe', ...optionWords(options)]
  const ready = await detach({ words, env, logFile, schema: readySchema })
  const where = `volume ${ready.volume} is mounted at ${ready.mountpoint}`
  print(surroundings, `${where}; process ${ready.pid}, log in ${logFile}; ringfs umount ${ready.mountpoint} ends it\n`)
}

function optionWords({ driver, durability, keyFile, logLevel, debug, options }: Options): readonly string[] {
  const pairs = Object.entries({ driver, durability, 'key-file': keyFile, 'log-level': logLevel })
  const words = pairs.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))
  return [...words, ...options.flatMap((option) => ['-o', option]), ...(debug === true ? ['--debug'] : [])]
}
