import { stat } from 'node:fs/promises'
import { Command } from 'commander'
import { RingfsError } from '../base/errors.js'
import type { RedisStore } from '../cluster/contract.js'
import { connectRedis } from '../cluster/redis.js'
import { abandonRestore } from '../meta/backup/abandon.js'
import type { Waiting } from '../meta/backup/claim.js'
import { restoreVolume } from '../meta/backup/restore.js'
import { failureText, systemError } from './failures.js'
import { Steps } from './steps.js'
import { logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
import { urlOf } from './target.js'

interface Options extends CommonOptions {
  readonly abandon?: boolean
  readonly json?: boolean
}

const EXAMPLES = `
The Redis must have no volume of this name: nothing is ever restored over one. A restore that was interrupted is begun anew with
the same file; until then nothing else makes a volume of this name, unless it is given up with --abandon, which needs no file and takes
away what was written. Start the nodes afterwards, then run ringfs rebuild: it makes files of what was written after the backup, and until it
has looked at everything nobody frees chunks that no file names. ringfs fsck names files that lack chunks, which were freed since.

Examples:
  $ ringfs restore /srv/backup/home-2026-11-21 redis://:secret@10.0.0.1:6379/home
  $ ringfs restore --abandon redis://:secret@10.0.0.1:6379/home`

export function restoreCommand(surroundings: Surroundings): Command {
  return new Command('restore')
    .summary('make a volume from a backup')
    .description('Makes a volume of the metadata in a backup, on a Redis that has none of this name.')
    .usage('[options] <file> <meta-url>\n       ringfs restore --abandon [options] <meta-url>')
    .argument('<file>')
    .argument('[meta-url]')
    .option('--abandon', 'give up a restore that was interrupted: its name is free again')
    .option('--json', 'result as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (first: string, second: string | undefined, _: Options, self: Command) => {
      const options = self.optsWithGlobals<Options>()
      if (options.abandon === true) await abandon(surroundings, options, first, second)
      else await restore(surroundings, options, first, second)
    })
}

async function restore(
  surroundings: Surroundings,
  options: Options,
  file: string,
  text: string | undefined,
): Promise<void> {
  if (text === undefined) throw new RingfsError('USAGE', 'say which backup, and of what: ringfs restore FILE META_URL')
  await checkFile(file)
  await withRedis(surroundings, options, text, async (redis, volume, show, waiting) => {
    const { head, records } = await restoreVolume(redis, volume, file, (...so) => show('records', ...so), waiting)
    const taken = new Date(head.takenMs).toISOString()
    return options.json === true
      ? `${JSON.stringify({ ...head, records }, null, 2)}\n`
      : `volume ${head.volume} is as it was at ${taken}: start its nodes, then run ringfs rebuild and ringfs fsck\n`
  })
}

/** Before anything is asked of Redis. */
async function checkFile(file: string): Promise<void> {
  const info = await stat(file).catch((error: unknown) => {
    throw new RingfsError('USAGE', `${file} cannot be read: ${failureText(systemError(error) ?? error)}`)
  })
  if (info.isDirectory()) throw new RingfsError('USAGE', `${file} is a folder: give a file of ringfs backup`)
}

async function abandon(
  surroundings: Surroundings,
  options: Options,
  text: string,
  more: string | undefined,
): Promise<void> {
  if (more !== undefined) throw new RingfsError('USAGE', '--abandon takes no file: ringfs restore --abandon META_URL')
  await withRedis(surroundings, options, text, async (redis, volume, show, waiting) => {
    await abandonRestore(redis, volume, (...so) => show('partitions', ...so), waiting)
    return options.json === true
      ? `${JSON.stringify({ volume, abandoned: true }, null, 2)}\n`
      : `the restore of ${volume} is given up: the name is free\n`
  })
}

type Show = (what: string, done: number, all: number) => void

/** `work` answers what is to be printed. */
async function withRedis(
  surroundings: Surroundings,
  options: Options,
  text: string,
  work: (redis: RedisStore, volume: string, show: Show, waiting: Waiting) => Promise<string>,
): Promise<void> {
  const url = urlOf(surroundings, text)
  const redis = await connectRedis(url, { log: logOf(surroundings, options, 'error') })
  const steps = new Steps(surroundings, options.json)
  try {
    const onWait = (): void =>
      steps.line('another restore runs, or was killed within the last half minute: waiting for it')
    const words = await work(redis, url.volume, (...so) => steps.show(...so), { onWait })
    steps.end()
    print(surroundings, words)
  } finally {
    steps.end()
    await redis.close()
  }
}
