import { Command } from 'commander'
import { connectRedis } from '../cluster/redis.js'
import { restoreVolume } from '../meta/backup/restore.js'
import { Steps } from './steps.js'
import { logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
import { urlOf } from './target.js'

interface Options extends CommonOptions {
  readonly json?: boolean
}

const EXAMPLES = `
The Redis must have no volume of this name: nothing is ever restored over one. A restore that was interrupted is begun anew with
the same file (until then nothing else makes a volume of this name). Start the nodes afterwards, then run ringfs rebuild: it makes files of what was written after the backup, and until it
has looked at everything nobody frees chunks that no file names. ringfs fsck names files that lack chunks, which were freed since.

Example:
  $ ringfs restore /srv/backup/home-2026-11-21 redis://:secret@10.0.0.1:6379/home`

export function restoreCommand(surroundings: Surroundings): Command {
  return new Command('restore')
    .summary('make a volume from a backup')
    .description('Makes a volume of the metadata in a backup, on a Redis that has none of this name.')
    .argument('<file>')
    .argument('<meta-url>')
    .option('--json', 'result as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, text: string, _: Options, self: Command) => {
      const options = self.optsWithGlobals<Options>()
      const url = urlOf(surroundings, text)
      const redis = await connectRedis(url, { log: logOf(surroundings, options, 'error') })
      const steps = new Steps(surroundings, options.json)
      try {
        const show = (done: number, all: number): void => steps.show('records', done, all)
        const onWait = (): void =>
          steps.line('another restore runs, or was killed within the last half minute: waiting for it')
        const { head, records } = await restoreVolume(redis, url.volume, file, show, { onWait })
        steps.end()
        const taken = new Date(head.takenMs).toISOString()
        print(
          surroundings,
          options.json === true
            ? `${JSON.stringify({ ...head, records }, null, 2)}\n`
            : `volume ${head.volume} is as it was at ${taken}: start its nodes, then run ringfs rebuild and ringfs fsck\n`,
        )
      } finally {
        steps.end()
        await redis.close()
      }
    })
}
