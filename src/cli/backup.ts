import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import { Command } from 'commander'
import { systemClock } from '../base/clock.js'
import { RingfsError } from '../base/errors.js'
import { connectRedis } from '../cluster/redis.js'
import { stopSignal } from '../main/stop-signal.js'
import { VERSION } from '../main/version.js'
import { backupVolume } from '../meta/backup/backup.js'
import { loadVolume } from '../meta/format.js'
import { positive } from './arguments.js'
import type { VolumeSelector } from './context.js'
import { withVolume } from './files/session.js'
import { Steps } from './steps.js'
import { logOf, print, type CommonOptions, type Surroundings } from './surroundings.js'
import { findTargetOr } from './target.js'
import { humanBytes, humanMs } from './units.js'

interface Options extends CommonOptions, VolumeSelector {
  readonly maxPause: number
  readonly force?: boolean
  readonly json?: boolean
}

const EXAMPLES = `
The file has names, attributes, locks, small files, and which chunks make up the others, all of one moment: what a crash of all
clients at that moment would have left. Reads go on; changes wait while it is made. It does not have the chunks: those are
on the nodes, and what is deleted or overwritten after the backup is freed there.

Examples:
  $ ringfs backup /srv/backup/home-2026-11-21
  $ ringfs backup --json --max-pause 30 home.backup redis://10.0.0.1:6379/home`

export function backupCommand(surroundings: Surroundings): Command {
  const command = new Command('backup')
    .summary("copy a volume's metadata into a file, while it is in use")
    .description("Copies a volume's metadata of one moment into a file, while the volume is in use.")
    .argument('<file>')
    .argument('[meta-url]')
    .option('--max-pause <seconds>', 'give up when changes would have to wait longer', positive, 10)
    .option('--force', 'replace a file that is there')
    .option('--json', 'result as JSON')
    .addHelpText('after', EXAMPLES)
  return withVolume(command).action(async (file: string, url: string | undefined, _: Options, self: Command) => {
    await backup(surroundings, file, url, self.optsWithGlobals<Options>())
  })
}

async function backup(
  surroundings: Surroundings,
  file: string,
  text: string | undefined,
  options: Options,
): Promise<void> {
  checkPlace(file, options.force === true)
  const url = await findTargetOr(surroundings, text, options)
  const redis = await connectRedis(url, { log: logOf(surroundings, options, 'error') })
  const steps = new Steps(surroundings, options.json)
  const stopping = new AbortController()
  void stopSignal().stopped.then(() => stopping.abort())
  try {
    const settings = await loadVolume(redis, url.volume)
    const result = await backupVolume(redis, settings, file, {
      version: VERSION,
      clock: systemClock,
      replaces: options.force === true,
      maxPauseMs: options.maxPause * 1000,
      signal: stopping.signal,
      onProgress: (done, partitions) => steps.show('partitions', done, partitions),
    })
    steps.end()
    const { inodes, names, bytes, pausedMs } = result
    const figures = `${inodes} inodes, ${names} names, ${humanBytes(bytes)}; changes waited ${humanMs(pausedMs)}`
    const whole = { volume: settings.name, uuid: settings.uuid, file, ...result }
    print(
      surroundings,
      options.json === true ? `${JSON.stringify(whole, null, 2)}\n` : `${settings.name} is in ${file}: ${figures}\n`,
    )
  } finally {
    steps.end()
    await redis.close()
  }
}

/** Before changes have to wait for it. Errors: USAGE. */
function checkPlace(file: string, isForced: boolean): void {
  const folder = dirname(file)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new RingfsError('USAGE', `${folder} is no folder: make it, or give another name`)
  }
  const there = statSync(file, { throwIfNoEntry: false })
  if (there === undefined) return
  if (!there.isFile()) throw new RingfsError('USAGE', `${file} is there and is no file: give another name`)
  if (!isForced) throw new RingfsError('USAGE', `${file} is there: give another name, or --force`)
}
