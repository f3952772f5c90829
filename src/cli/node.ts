import { Command, Option } from 'commander'
import { RingfsError } from '../base/errors.js'
import { NICE_HELP } from '../fuse/mount-options.js'
import { failureLine, successLine } from '../main/outcome-line.js'
import { serve } from '../main/standard-output.js'
import { starterInput, stopSignal } from '../main/stop-signal.js'
import { collect, niceValue, positive } from './arguments.js'
import { drainCommand, removeCommand, settingsCommand } from './node-admin.js'
import { keyOf, logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
import { urlOf } from './target.js'

interface Options extends CommonOptions {
  readonly meta?: string
  readonly data?: readonly string[]
  readonly forget?: readonly string[]
  readonly force?: boolean
  readonly empty?: readonly string[]
  readonly listen?: string
  readonly advertise?: string
  readonly zone: string
  readonly weight: number
  readonly nice?: number
  readonly supervised?: boolean
}

const EXAMPLES = `
The node's identity lives in its data folder: it may come back on another address and brings its chunks along. With several
data folders, one a disk, it goes on when a disk dies, and the chunks of that disk are made anew on the others. A disk that it has had
is missed, also when its folder is left out of --data, until --forget: what is deleted meanwhile is deleted there, too, when it
is back. To take one out that works, start the node with --empty until \`ringfs status\` calls that disk empty, then without it and with
--forget. On an address other than loopback a cluster key is required (--key-file), the same for all nodes and mounts.

Examples:
  $ ringfs node --meta redis://10.0.0.1:6379/home --data /srv/chunks --listen 127.0.0.1:7400
  $ ringfs node --meta redis://10.0.0.1:6379/home --data /srv/chunks --listen 0.0.0.0:7400 \\
      --advertise 10.0.0.7:7400 --zone rack-3 --key-file /etc/ringfs.key
  $ ringfs node --meta redis://10.0.0.1:6379/home --data /mnt/disk1/ringfs --data /mnt/disk2/ringfs --listen 127.0.0.1:7400`

export function nodeCommand(surroundings: Surroundings): Command {
  return (
    new Command('node')
      .summary('run a chunk node; drain or remove one')
      .description(
        'Runs a chunk node of a volume until Ctrl-C; or, with one of the commands below, changes what the nodes are.',
      )
      .option('--meta <url>', 'META_URL of the volume (or RINGFS_META)')
      .option('--data <dir>', 'data folder, of this node alone; once for each of its disks', collect)
      .option('--forget <dir>', 'give up a disk that it had there, or with that id; needs --force', collect)
      .option('--force', 'with --forget: chunks of which no other disk and node has a copy are lost')
      .option(
        '--empty <dir>',
        'move all from that one of its disks to the others, so that it can be taken out',
        collect,
      )
      .option('--listen <host:port>', 'where to listen; port 0 takes any')
      .option('--advertise <host:port>', 'how others reach it (default: as it listens)')
      .option('--zone <name>', 'copies go to different zones as far as there are any', '')
      .option('--weight <number>', 'capacity in relation to the other nodes', positive, 1)
      .option('--nice <n>', NICE_HELP, niceValue)
      .addOption(new Option('--supervised').hideHelp())
      .addHelpText('after', EXAMPLES)
      // --data behind one of these commands is theirs, and something else.
      .enablePositionalOptions()
      .addCommand(drainCommand(surroundings))
      .addCommand(removeCommand(surroundings))
      .addCommand(settingsCommand(surroundings))
      .action(async (_options: Options, command: Command) => {
        await node(surroundings, command.optsWithGlobals<Options>())
      })
  )
}

/** Supervised: is told the URL on its standard input, tells in a line how the start went, and stops when its standard input ends. */
async function node(surroundings: Surroundings, options: Options): Promise<void> {
  serve()
  const supervised = options.supervised === true
  const { stopped } = stopSignal()
  const input = supervised ? starterInput() : undefined
  const stop = input === undefined ? stopped : Promise.race([stopped, input.ended])
  // What `up` hands over holds a password.
  const url = input === undefined ? (options.meta ?? surroundings.environment.metaUrl) : await input.firstLine
  const log = logOf(surroundings, options, 'info')
  try {
    if (url === undefined || url === '')
      throw new RingfsError('USAGE', 'which volume? Give --meta URL, or set RINGFS_META')
    const { data: folders, listen } = options
    // Not of commander: they are not wanted with the commands below this one.
    if (folders === undefined) throw new RingfsError('USAGE', 'where are its chunks? Give --data DIR')
    if (listen === undefined) throw new RingfsError('USAGE', 'where does it listen? Give --listen HOST:PORT')
    if (options.forget !== undefined && options.force !== true) {
      throw new RingfsError(
        'USAGE',
        `${options.forget.join(', ')}: chunks of which the only copies lie there would be lost; --force if the disk will never be back`,
      )
    }
    const { runNode } = await import('../main/node-process.js')
    await runNode(
      {
        ...options,
        url: urlOf(surroundings, url),
        folders,
        listen,
        key: keyOf(surroundings, options, log),
        log,
      },
      stop,
      ({ id, address }) => {
        print(surroundings, supervised ? successLine({ id, address }) : `node ${id} listens on ${address}\n`)
      },
    )
  } catch (error) {
    if (supervised) print(surroundings, failureLine(error))
    throw error
  }
}
