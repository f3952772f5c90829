import { Command } from 'commander'
import { systemClock } from '../base/clock.js'
import type { Finding } from '../check/finding.js'
import { fsck, type FsckParts, type FsckResult } from '../check/fsck.js'
import type { Closer } from '../main/closer.js'
import { stopSignal } from '../main/stop-signal.js'
import { chunkClientOf, type Volume } from '../main/volume.js'
import { openMeta } from '../meta/engine.js'
import { positive } from './arguments.js'
import type { VolumeSelector } from './context.js'
import { withVolume } from './files/session.js'
import type { Steps } from './steps.js'
import { print, type CommonOptions, type Surroundings } from './surroundings.js'
import { counted } from './units.js'
import { withOpenVolume } from './with-volume.js'

interface Options extends CommonOptions, VolumeSelector {
  readonly repair?: boolean
  readonly deep?: boolean
  readonly orphanGrace: number
  readonly json?: boolean
}

const DAY_MS = 86_400_000
const WRONG = 4
const MENDED = 1

const EXAMPLES = `
The volume may be in use: what changes meanwhile is looked at again, and not reported. --repair mends what needs no guess (missing
and bad copies, link counts, usage; files without a name get one in /lost+found) and deletes nothing that could be data. Chunks
that no file names are freed when they were first seen --orphan-grace days ago and every client of then has ended.

Exit codes: 0 nothing is wrong; 1 all that was wrong is mended; 4 something is wrong still; others: ringfs itself failed.

Examples:
  $ ringfs fsck
  $ ringfs fsck --deep --json redis://10.0.0.1:6379/home
  $ ringfs fsck --repair`

export function fsckCommand(surroundings: Surroundings): Command {
  const command = new Command('fsck')
    .summary('check a volume, while it is in use')
    .description(
      "Checks a volume's metadata against themselves and against the chunks on the nodes, while it is in use.",
    )
    .argument('[meta-url]')
    .option('--repair', 'mend what needs no guess')
    .option('--deep', 'read and hash every copy of every chunk')
    .option('--orphan-grace <days>', 'how long chunks that no file names are kept', positive, 7)
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
  return withVolume(command).action(async (url: string | undefined, _: Options, self: Command) => {
    process.exitCode = await run(surroundings, url, self.optsWithGlobals<Options>())
  })
}

async function run(surroundings: Surroundings, text: string | undefined, options: Options): Promise<number> {
  const stopping = new AbortController()
  void stopSignal().stopped.then(() => stopping.abort())
  const result = await withOpenVolume(surroundings, text, options, async (volume, steps, closer) =>
    fsck({ ...(await partsOf(volume, options, steps, closer)), signal: stopping.signal }),
  )
  print(surroundings, options.json === true ? `${JSON.stringify(result, null, 2)}\n` : asText(result, options))
  return exitCodeOf(result.findings)
}

async function partsOf(volume: Volume, options: Options, steps: Steps, closer: Closer): Promise<FsckParts> {
  const { redis: store, settings, watcher, peers, queue, log } = volume
  const parts: FsckParts = {
    ...{ store, settings, volume: settings.uuid, clock: systemClock, deep: options.deep === true },
    view: () => watcher.current().view,
    ring: () => watcher.current().ring,
    node: (id) => peers.get(id),
    onProgress: (what, done, all) => steps.show(what, done, all),
  }
  if (options.repair !== true) return parts
  const meta = await openMeta(store, settings, { log })
  closer.add(() => meta.shutdown())
  return {
    ...parts,
    repair: {
      meta,
      chunks: chunkClientOf(volume),
      enqueue: (nodeId, tasks) => queue.enqueue(nodeId, tasks),
      orphanGraceMs: options.orphanGrace * DAY_MS,
    },
  }
}

function exitCodeOf(findings: readonly Finding[]): number {
  const wrong = findings.filter(({ severity }) => severity !== 'note')
  if (wrong.length === 0) return 0
  return wrong.every(({ mended }) => mended) ? MENDED : WRONG
}

function advice(wrong: readonly Finding[]): string {
  const isAllOrphans = wrong.every(({ kind }) => kind === 'orphans')
  return isAllOrphans ? 'ringfs rebuild is what they wait for' : 'ringfs fsck --repair mends what can be'
}

function asText({ findings, inodes, chunks, copies }: FsckResult, { repair, deep }: Options): string {
  const lines = findings.map(({ severity, text, path, mended }) => {
    const end = mended ? '; mended' : ''
    return `${severity}: ${text}${path === undefined ? '' : ` (${path})`}${end}\n`
  })
  const wrong = findings.filter(({ severity }) => severity !== 'note')
  const left = wrong.filter(({ mended }) => !mended).length
  const how = deep === true ? 'all of them read and hashed' : 'not read'
  const verdict =
    wrong.length === 0
      ? 'nothing is wrong'
      : repair === true
        ? `${counted(wrong.length, 'thing')} ${wrong.length === 1 ? 'was' : 'were'} wrong, ${left} still ${left === 1 ? 'is' : 'are'}`
        : `${counted(wrong.length, 'thing')} ${wrong.length === 1 ? 'is' : 'are'} wrong: ${advice(wrong)}`
  return `${lines.join('')}${inodes} inodes, ${chunks} chunks in ${copies} copies (${how}): ${verdict}\n`
}
