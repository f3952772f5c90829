import { Command, Option } from 'commander'
import * as z from 'zod'
import { lockFolder } from '../base/folder-lock.js'
import { ReadyPipe, detach } from '../main/detach.js'
import { UP_LOCK, openDataFolders, type OpenedDataFolders } from '../main/data-folder.js'
import { leaveWord } from '../main/runfiles.js'
import type { ActiveMount } from '../main/mounting.js'
import { serve } from '../main/standard-output.js'
import { stopSignal } from '../main/stop-signal.js'
import type { UpReady } from '../main/up.js'
import { collect, commonOf, integer, mountOptionsOf, mountWords, withMountOptions } from './arguments.js'
import { failureText } from './failures.js'
import { endAtOnce, logOf, print, say, saySlowEnd, type CommonOptions, type Surroundings } from './surroundings.js'

interface Options extends CommonOptions {
  readonly data?: readonly string[]
  readonly forget?: readonly string[]
  readonly force?: boolean
  readonly nodes?: number
  readonly replicas?: number
  readonly volume?: string
  readonly options: readonly string[]
  readonly detach?: boolean
  readonly readyPipe?: boolean
}

const EXAMPLES = `
Redis, chunk nodes and the mount, all on this machine. Data stay in the data folder; a second start finds them again.
One node lives in this process; with more, each is a process of its own, started again when it dies.
With one data folder all copies of a chunk lie on one disk. With further ones each node chooses among them by itself, so that all
copies may lie on one disk all the same: they hold more, and outlive the death of a node, not that of a disk. up warns of it.

Examples:
  $ ringfs up
  $ ringfs up /mnt/shared --data /srv/ringfs --detach
  $ ringfs up --nodes 3 --replicas 3
  $ ringfs up /mnt/shared --data /srv/ringfs --data /mnt/disk2/ringfs --replicas 1`

const DATA_DEFAULT = './ringfs-data'

const readySchema = z.object({
  volume: z.string(),
  mountpoint: z.string(),
  dataDir: z.string(),
  nodes: z.number(),
  replicas: z.number(),
  warnings: z.array(z.string()),
})

/** It finds its Redis itself, and has a log of its own. */
const NOT_FOR_UP = ['password-file', 'retry', 'log-file']

export function upCommand(surroundings: Surroundings): Command {
  const command = new Command('up')
    .summary('run everything on this machine and mount it')
    .description('Runs everything on this machine and mounts it. Ctrl-C unmounts cleanly and keeps the data.')
    .argument('[mountpoint]', 'an empty folder; made if it is missing', './mnt')
    .option('--data <dir>', 'data folder; further ones are more disks for the chunks (default: ./ringfs-data)', collect)
    .option('--forget <dir>', 'give up a further data folder; needs --force', collect)
    .option('--force', 'with --forget: chunks of which all copies lie there are lost, whatever the replicas')
    .option('--nodes <n>', 'chunk nodes (default: as at the first start, and 1 then)', integer(1))
    .option('--replicas <n>', 'copies of each chunk; fixed at the first start (default: 1)', integer(1))
    .option('--volume <name>', 'name of the volume; fixed at the first start (default: ringfs)')
    .option('--detach', 'go on in the background once mounted; log to the data folder')
    .addOption(new Option('--ready-pipe').hideHelp())
    .addHelpText('after', EXAMPLES)
  return withMountOptions(command, NOT_FOR_UP).action(
    async (mountpoint: string, _options: Options, command: Command) => {
      const options = command.optsWithGlobals<Options>()
      await (options.detach === true
        ? inBackground(surroundings, mountpoint, options)
        : here(surroundings, mountpoint, options))
    },
  )
}

async function here(surroundings: Surroundings, mountpoint: string, options: Options): Promise<void> {
  serve()
  const pipe = new ReadyPipe(options.readyPipe === true)
  let mounted: ActiveMount | undefined
  const { stopped, wasTold } = stopSignal((why) => endAtOnce(surroundings, why, mounted))
  void stopped.then(() => say(surroundings, 'unmounting'))
  const { runFolder, inherited } = surroundings.environment
  try {
    const mountOptions = mountOptionsOf(options)
    const common = commonOf(options, mountOptions)
    const [dataDir = DATA_DEFAULT, ...moreDirs] = options.data ?? []
    const { runUp } = await import('../main/up.js')
    await runUp(
      {
        ...options,
        options: mountOptions,
        mountpoint,
        dataDir,
        moreDirs,
        forgetDirs: options.forget ?? [],
        runFolder,
        inherited,
        log: logOf(surroundings, common, options.readyPipe === true ? 'info' : 'warn'),
        say: (text) => say(surroundings, text),
        onSlowEnd: (why) => saySlowEnd(surroundings, why, wasTold()),
      },
      stopped,
      (ready, mount) => {
        mounted = mount
        pipe.ready(ready)
        if (options.readyPipe === true) process.chdir('/')
        warn(surroundings, ready)
        print(surroundings, `${mountedLine(ready)}; Ctrl-C unmounts\n`)
      },
    )
  } catch (error) {
    pipe.failed(error)
    if (mounted !== undefined) leaveWord(runFolder, failureText(error))
    throw error
  }
}

function warn(surroundings: Surroundings, { warnings }: UpReady): void {
  for (const text of warnings) say(surroundings, `warning: ${text}`)
}

function mountedLine({ volume, mountpoint, dataDir, nodes, replicas }: UpReady): string {
  const where = `volume ${volume} is mounted at ${mountpoint}, its data are in ${dataDir}`
  return nodes === 1 ? where : `${where} (${nodes} nodes, ${replicas} replicas)`
}

async function inBackground(surroundings: Surroundings, mountpoint: string, options: Options): Promise<void> {
  const folders = openDataFolders(options.data?.[0] ?? DATA_DEFAULT)
  const logFile = folders.log
  const words = ['up', mountpoint, '--ready-pipe', ...optionWords(options)]
  const { inherited: env } = surroundings.environment
  const ready = await detach({ words, env, logFile, schema: readySchema }).catch(async (error: unknown) => {
    await withdraw(folders)
    throw error
  })
  warn(surroundings, ready)
  print(surroundings, `${mountedLine(ready)}; process ${ready.pid}, log in ${logFile}; ringfs down stops it\n`)
}

/** The start was refused, or failed, which is told. */
async function withdraw(folders: OpenedDataFolders): Promise<void> {
  // Somebody else may have been quicker.
  const lock = await lockFolder(folders.root, UP_LOCK).catch(() => undefined)
  if (lock === undefined) return
  folders.withdraw()
  await lock.release()
}

function optionWords(options: Options): readonly string[] {
  const { data, forget, force, nodes, replicas, volume, debug } = options
  const pairs = Object.entries({ data, forget, nodes, replicas, volume })
  const words = pairs.flatMap(([name, value]) => [value ?? []].flat().flatMap((one) => [`--${name}`, String(one)]))
  return [
    ...words,
    ...mountWords(mountOptionsOf(options)),
    ...(force === true ? ['--force'] : []),
    ...(debug === true ? ['--debug'] : []),
  ]
}
