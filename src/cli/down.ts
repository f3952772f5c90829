import { Command } from 'commander'
import { runDown } from '../main/down.js'
import { logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'

interface Options extends CommonOptions {
  readonly data?: string
}

const EXAMPLES = `
Also ends the Redis and takes off the mount that a killed ringfs up has left behind (with --data).

Examples:
  $ ringfs down
  $ ringfs down --data /srv/ringfs`

export function downCommand(surroundings: Surroundings): Command {
  return new Command('down')
    .summary('unmount and stop a ringfs up')
    .description('Unmounts and stops the ringfs up that runs here. Everything is written first; the data stay.')
    .option('--data <dir>', 'the one with this data folder')
    .addHelpText('after', EXAMPLES)
    .action(async (_options: Options, command: Command) => {
      const options = command.optsWithGlobals<Options>()
      const { runFolder } = surroundings.environment
      const log = logOf(surroundings, options, 'error')
      print(surroundings, `${await runDown({ dataDir: options.data ?? null, runFolder, log })}\n`)
    })
}
