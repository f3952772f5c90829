import { InvalidArgumentError, Option, type Command } from 'commander'
import { PosixError, isErrno } from '../../base/errno.js'
import type { CliContext, VolumeSelector } from '../context.js'
import { inVolume, named, withVolume, type Session } from './session.js'

const MODE = 0o755

interface MkdirOptions extends VolumeSelector {
  readonly parents?: boolean
  readonly mode: number
}

export function register(program: Command, context: CliContext): void {
  withVolume(program.command('mkdir'))
    .summary('make directories')
    .description('Makes directories in a volume.')
    .argument('<path...>', 'paths in the volume')
    .option('-p, --parents', 'make what is missing above it, too; no error if it exists')
    .addOption(new Option('-m, --mode <octal>', 'permission bits').argParser(octal).default(MODE, MODE.toString(8)))
    .addHelpText('after', '\nExample:\n  $ ringfs mkdir -p /photos/2026/11')
    .action((paths: string[], options: MkdirOptions) =>
      inVolume(context, options, async (session) => {
        for (const path of paths) {
          await (options.parents === true ? mkdirs(session, path, options.mode) : mkdir(session, path, options.mode))
        }
      }),
    )
}

function octal(text: string): number {
  if (!/^[0-7]{1,4}$/.test(text)) throw new InvalidArgumentError('permission bits are octal, as 755')
  return parseInt(text, 8)
}

export async function mkdir(session: Session, path: string, mode: number): Promise<void> {
  const { parent, name, attr } = await session.place(path)
  if (attr !== null) throw new PosixError('EEXIST', `${path}: exists already`)
  await named(path, session.vfs.mkdir(session.caller, parent, name, mode))
}

/** Each directory on the way that is missing. What others make at the same time is as good. */
async function mkdirs(session: Session, path: string, mode: number): Promise<void> {
  const parts = path.split('/').filter((part) => part !== '')
  for (let count = 1; count <= parts.length; count++) {
    const above = `/${parts.slice(0, count).join('/')}`
    try {
      if ((await session.statOrNull(above, 'always')) === null) await mkdir(session, above, mode)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
    }
  }
  if ((await session.stat(path, 'always')).type !== 'directory') {
    throw new PosixError('ENOTDIR', `${path}: exists and is not a directory`)
  }
}
