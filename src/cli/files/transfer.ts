/** What `ringfs put` and `ringfs get` have in common: their options, their arguments, and what they tell at the end. */
import type { Command } from 'commander'
import { RingfsError } from '../../base/errors.js'
import { MIB } from '../../base/limits.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { counted } from '../units.js'
import { Progress } from './progress.js'
import { inVolume, withVolume, type Session } from './session.js'

/** So much is read and written at a time. */
export const PIECE_BYTES = MIB
const PARALLEL_DEFAULT = 4

export interface TransferOptions extends VolumeSelector {
  readonly recursive?: boolean
  readonly parallel: number
  readonly quiet?: boolean
  readonly json?: boolean
}

/** One run of a command. */
export interface Transfer {
  run(from: readonly string[], to: string): Promise<void>
}

/** Makes the command one that copies. `verb`: what has become of the files. */
export function transferCommand(
  command: Command,
  context: CliContext,
  verb: string,
  begin: (session: Session, options: TransferOptions, progress: Progress) => Transfer,
): Command {
  return withOptions(command).action((paths: string[], options: TransferOptions) => {
    const { from, to } = splitPaths(paths)
    return inVolume(context, options, (session) =>
      transfer(context, options, verb, (progress) => begin(session, options, progress).run(from, to)),
    )
  })
}

function withOptions(command: Command): Command {
  return withVolume(command)
    .option('-r, --recursive', 'directories with all that is in them')
    .option('-j, --parallel <n>', 'files at once', count, PARALLEL_DEFAULT)
    .option('-q, --quiet', 'no progress')
    .option('--json', 'the figures of the end as JSON')
}

function count(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 64) throw new RingfsError('USAGE', '--parallel is 1 to 64')
  return value
}

/** The last path is where to. */
function splitPaths(paths: readonly string[]): { readonly from: readonly string[]; readonly to: string } {
  const to = paths.at(-1)
  if (to === undefined || paths.length < 2) throw new RingfsError('USAGE', 'say what to copy and where to')
  return { from: paths.slice(0, -1), to }
}

/** Runs a transfer with its progress; what was left out makes it fail at the end, with the rest done. */
async function transfer(
  context: CliContext,
  options: TransferOptions,
  verb: string,
  work: (progress: Progress) => Promise<void>,
): Promise<void> {
  const progress = new Progress(context, options.quiet === true || options.json === true)
  try {
    await work(progress)
  } finally {
    progress.stop()
  }
  const { skipped, replaced } = progress.totals
  if (options.json === true) context.stdout.write(`${JSON.stringify(progress.totals)}\n`)
  else if (options.quiet !== true) context.stderr.write(`${progress.summary(verb)}\n`)
  if (replaced > 0)
    context.stderr.write(
      `${counted(replaced, 'file')} replaced what this run had copied before from folders of the same name\n`,
    )
  for (const reason of skipped) context.stderr.write(`left out: ${reason}\n`)
  if (skipped.length > 0) throw new RingfsError('USAGE', `${skipped.length} entries were left out`)
}
